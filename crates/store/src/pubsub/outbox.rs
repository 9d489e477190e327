//! The sending end: changes of this process, coalesced so that one message reports many.

use std::{collections::HashMap, time::Duration};

use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use vaultsync_protocol::Timestamp;

use super::message::Entry;
use crate::VaultId;

/// How long changes are coalesced before they are published. With 5 to 20 ms, NOTIFY had no measurable cost
/// for pushes, compared with none; the delay is too short for users to notice.
const COALESCE_FOR: Duration = Duration::from_millis(10);

/// Changes to publish. While the link is down they stay in the bounded channel: nodes that are still
/// connected to each other have missed them, and should receive them late rather than never.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) receiver: mpsc::Receiver<(VaultId, Timestamp)>,
    /// Cancelled when the store closes, after the last change.
    pub(super) closing: CancellationToken,
}

impl Outbox {
    /// Waits for a change, and coalesces it with those that follow: of each vault, only the latest head is
    /// returned. `None` if the store closes and no change is left.
    pub(super) async fn coalesce(&mut self) -> Option<Vec<Entry>> {
        let (vault, head) = tokio::select! {
            biased;
            change = self.receiver.recv() => change?,
            () = self.closing.cancelled() => return None,
        };
        tokio::select! {
            () = sleep(COALESCE_FOR) => {}
            () = self.closing.cancelled() => {}
        }
        let mut heads = HashMap::from([(vault, head)]);
        while let Ok((vault, head)) = self.receiver.try_recv() {
            let latest = heads.entry(vault).or_insert(head);
            *latest = head.max(*latest);
        }
        Some(heads.into_iter().collect())
    }
}

/// Counts changes that were published.
pub(super) fn count_published(entries: &[Entry]) {
    metrics::counter!("vaultsync_hints_published_total").increment(entries.len() as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vault;

    fn change(subject: &str, head: i64) -> Entry {
        (Vault::of("i", subject).id(), Timestamp::from_millis(head))
    }

    #[tokio::test]
    async fn the_latest_head_of_each_vault_is_returned_also_while_closing() {
        let (sender, receiver) = mpsc::channel(10);
        let closing = CancellationToken::new();
        let mut outbox = Outbox { receiver, closing: closing.clone() };
        for (subject, head) in [("a", 1), ("b", 7), ("a", 3), ("a", 2)] {
            sender.try_send(change(subject, head)).unwrap();
        }
        closing.cancel();
        let mut entries = outbox.coalesce().await.unwrap();
        entries.sort_unstable_by_key(|(_, head)| *head);
        assert_eq!(entries, [change("a", 3), change("b", 7)]);
        assert_eq!(outbox.coalesce().await, None);
    }
}
