//! The changes of this process, gathered so that few messages tell many.

use std::{collections::HashMap, time::Duration};

use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use vaultsync_protocol::Timestamp;

use super::message::Entry;
use crate::VaultId;

/// How long changes are gathered before they are told: 5 to 20 ms made NOTIFY cost pushes nothing that
/// could be measured, and nobody notices them.
const GATHER: Duration = Duration::from_millis(10);

/// What others are to be told. While they cannot be, it waits here, as much of it as there is room for:
/// those who are still connected to each other have then missed it, and would rather hear it late.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) receiver: mpsc::Receiver<(VaultId, Timestamp)>,
    /// Cancelled when the store closes, after the last change.
    pub(super) closing: CancellationToken,
}

impl Outbox {
    /// Waits for a change and gathers those that follow; of each vault the last head counts. `None`
    /// when there will be no more.
    pub(super) async fn coalesce(&mut self) -> Option<Vec<Entry>> {
        let (vault, head) = tokio::select! {
            biased;
            change = self.receiver.recv() => change?,
            () = self.closing.cancelled() => return None,
        };
        tokio::select! {
            () = sleep(GATHER) => {}
            () = self.closing.cancelled() => {}
        }
        let mut heads = HashMap::from([(vault, head)]);
        while let Ok((vault, head)) = self.receiver.try_recv() {
            let last = heads.entry(vault).or_insert(head);
            *last = head.max(*last);
        }
        Some(heads.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vault;

    fn change(subject: &str, head: i64) -> Entry {
        (Vault::of("i", subject).id(), Timestamp::from_millis(head))
    }

    #[tokio::test]
    async fn of_each_vault_the_last_head_is_told_also_while_closing() {
        let (sender, receiver) = mpsc::channel(10);
        let closing = CancellationToken::new();
        let mut changes = Outbox { receiver, closing: closing.clone() };
        for (subject, head) in [("a", 1), ("b", 7), ("a", 3), ("a", 2)] {
            sender.try_send(change(subject, head)).unwrap();
        }
        closing.cancel();
        let mut gathered = changes.coalesce().await.unwrap();
        gathered.sort_unstable_by_key(|(_, head)| *head);
        assert_eq!(gathered, [change("a", 3), change("b", 7)]);
        assert_eq!(changes.coalesce().await, None);
    }
}
