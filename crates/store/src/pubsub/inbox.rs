//! The receiving end of a session.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::timeout};
use uuid::Uuid;

use super::message;
use crate::ChangeNotifier;

/// How long the loopback probe may take to come back before its loss is logged.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Receives the messages of one session.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    /// Sender of this session's messages, which the server delivers back to it.
    pub(super) sender: Uuid,
    pub(super) notifier: ChangeNotifier,
    probe_returned: Arc<Notify>,
}

impl Inbox {
    /// The inbox of a new session. The sender is new, so that a late probe of the last session is not
    /// mistaken for one of this session.
    pub(super) fn new(notifier: ChangeNotifier) -> Self {
        Self { sender: Uuid::new_v4(), notifier, probe_returned: Arc::default() }
    }

    /// Handles a message of another process or of this one.
    pub(super) fn receive(&self, message: &[u8]) {
        let Some((sender, entries)) = message::decode(message) else {
            metrics::counter!("vaultsync_hints_malformed_total").increment(1);
            return;
        };
        if sender != self.sender {
            metrics::counter!("vaultsync_hints_received_total").increment(entries.len() as u64);
            for (vault, head) in entries {
                self.notifier.receive(vault, head);
            }
        } else if entries.is_empty() {
            // No notification is missed from now on. Earlier ones may have been.
            self.notifier.notify_all();
            self.probe_returned.notify_one();
        }
    }

    /// Waits for the loopback probe, and logs a warning with `advice` if it does not come back.
    pub(super) async fn expect_probe(&self, advice: &str) {
        if timeout(PROBE_TIMEOUT, self.probe_returned.notified()).await.is_err() {
            tracing::warn!(
                "a test notification did not come back, so none may arrive from other nodes: {advice}"
            );
        }
    }
}
