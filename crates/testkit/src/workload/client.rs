//! A client of one user, whose requests are recorded.

use std::sync::Arc;

use vaultsync_protocol::Operation;

use super::Service;
use crate::history::{Digest, Outcome, Recorder, Request, Write};

/// A client: sends requests through a service, and records each of them with its outcome.
#[derive(Clone, Debug)]
pub struct Client<S> {
    /// The server as this client reaches it.
    pub service: S,
    recorder: Recorder,
    user: Arc<str>,
    device: Arc<str>,
    has_fault: bool,
}

impl<S: Service> Client<S> {
    /// A client of `user`, whose other clients have other device names.
    pub fn new(recorder: &Recorder, user: &Arc<str>, device: &str, service: S) -> Self {
        let (recorder, user) = (recorder.clone(), Arc::clone(user));
        Self { service, recorder, user, device: device.into(), has_fault: false }
    }

    /// The name of the device, with that of its user.
    pub fn name(&self) -> String {
        format!("{} of {}", self.device, self.user)
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
        let request = Request::Push { operations: operations.iter().map(write).collect() };
        let number = self.recorder.begin(&self.user, &self.device, request);
        let response = self.service.push(operations).await;
        self.end(number, response)
    }

    /// Sends a pull once.
    pub async fn pull(&mut self, cursor: Option<i64>, limit: usize, wait: bool) -> Outcome {
        let request = Request::Pull { cursor, limit };
        let number = self.recorder.begin(&self.user, &self.device, request);
        let response = self.service.pull(cursor, limit, wait).await;
        self.end(number, response)
    }

    fn end(&mut self, number: u64, response: Result<Outcome, String>) -> Outcome {
        let outcome = response.unwrap_or_else(|fault| {
            self.fault(&fault);
            Outcome::Unknown
        });
        self.recorder.end(number, outcome.clone());
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
