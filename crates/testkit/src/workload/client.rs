//! A client of one vault, whose requests are recorded.

use std::sync::Arc;

use vaultsync_protocol::{Guard, Operation};

use super::{PullRequest, PushRequest, Service};
use crate::history::{Digest, GuardView, Outcome, Recorder, Request, VaultLabel, Write};

/// A client: sends requests through a service, and records each of them with its outcome.
///
/// It names the epoch of the last page in each pull, so that a server that takes the cursor for one of another
/// epoch, or for one ahead of the vault's clock, has to say so.
#[derive(Clone, Debug)]
pub struct Client<S> {
    /// The server as this client reaches it.
    pub service: S,
    recorder: Recorder,
    vault: VaultLabel,
    device: Arc<str>,
    epoch: Option<Arc<str>>,
    pushes_name_epoch: bool,
    has_fault: bool,
}

impl<S: Service> Client<S> {
    /// A client of `vault`, whose other clients have other device names.
    pub fn new(
        recorder: &Recorder,
        vault: impl Into<VaultLabel>,
        device: &str,
        service: S,
    ) -> Self {
        Self {
            service,
            recorder: recorder.clone(),
            vault: vault.into(),
            device: device.into(),
            epoch: None,
            pushes_name_epoch: false,
            has_fault: false,
        }
    }

    /// Names the epoch in each push, too. Such a client must not push before it knows one.
    #[must_use]
    pub fn naming_epoch_in_pushes(self) -> Self {
        Self { pushes_name_epoch: true, ..self }
    }

    /// The name of the device, with that of its vault.
    pub fn name(&self) -> String {
        format!("{} of {}", self.device, self.vault)
    }

    /// The vault's epoch, as far as the client knows.
    pub fn epoch(&self) -> Option<&Arc<str>> {
        self.epoch.as_ref()
    }

    /// Whether the client has to read the epoch before it pushes.
    pub fn lacks_epoch(&self) -> bool {
        self.pushes_name_epoch && self.epoch.is_none()
    }

    /// Whether the server has given a response that no server should give.
    pub fn has_fault(&self) -> bool {
        self.has_fault
    }

    /// Notes a fault of the server.
    pub fn fault(&mut self, fault: &str) {
        self.has_fault = true;
        self.recorder.fault(format!("{}: {fault}", self.name()));
    }

    /// Sends a push once.
    pub async fn push(&mut self, operations: &[Operation]) -> Outcome {
        self.push_guarded(operations, &[]).await
    }

    /// Sends a push with guards once.
    pub async fn push_guarded(&mut self, operations: &[Operation], guards: &[Guard]) -> Outcome {
        let epoch = self.epoch.clone().filter(|_| self.pushes_name_epoch);
        let request = Request::Push {
            operations: operations.iter().map(write).collect(),
            guards: guards.iter().map(guard_view).collect(),
            epoch: epoch.clone(),
        };
        let number = self.recorder.begin(&self.vault, &self.device, request);
        let push = PushRequest { operations, guards, epoch: epoch.as_deref() };
        let response = self.service.push(push).await;
        self.end(number, response)
    }

    /// Sends a pull once.
    pub async fn pull(&mut self, cursor: Option<i64>, limit: usize, wait: bool) -> Outcome {
        let epoch = self.epoch.clone();
        let request = Request::Pull { cursor, limit, epoch: epoch.clone() };
        let number = self.recorder.begin(&self.vault, &self.device, request);
        let pull = PullRequest { cursor, limit, wait, epoch: epoch.as_deref() };
        let response = self.service.pull(pull).await;
        self.end(number, response)
    }

    /// Asks once to erase the vault that has this epoch.
    pub async fn erase(&mut self, epoch: &Arc<str>) -> Outcome {
        let request = Request::Erase { epoch: Arc::clone(epoch) };
        let number = self.recorder.begin(&self.vault, &self.device, request);
        let response = self.service.erase(epoch).await;
        self.end(number, response)
    }

    /// Records the outcome, and takes or forgets the epoch by it.
    fn end(&mut self, number: u64, response: Result<Outcome, String>) -> Outcome {
        let outcome = response.unwrap_or_else(|fault| {
            self.fault(&fault);
            Outcome::Unknown
        });
        self.recorder.end(number, outcome.clone());
        match &outcome {
            Outcome::Page { epoch: Some(epoch), .. } => self.epoch = Some(Arc::clone(epoch)),
            Outcome::VaultErased | Outcome::Erased => self.epoch = None,
            _ => {}
        }
        outcome
    }
}

fn write(operation: &Operation) -> Write {
    Write {
        record_id: operation.record_id.as_str().into(),
        base_version: operation.base_version.map(|base| base.get().unsigned_abs()),
        digest: Digest::of(operation.ciphertext.as_bytes()),
        deleted: operation.deleted,
    }
}

fn guard_view(guard: &Guard) -> GuardView {
    GuardView {
        record_id: guard.record_id.as_str().into(),
        version: guard.version.get().unsigned_abs(),
    }
}
