//! Notifications that a vault has changed, for waiting pulls and event streams.
//!
//! A notification only wakes a waiter, which then reads the database. A lost or spurious one costs only
//! time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use tokio::sync::{mpsc, watch};
use vaultsync_protocol::Timestamp;

use crate::VaultId;

/// For how many vaults the latest head is cached, and for how long: longer than a replica lags.
const LATEST_MAX: u64 = 100_000;
const LATEST_FOR: Duration = Duration::from_mins(1);

/// How many changes wait to be published to other processes. Further ones are dropped, which is safe.
const OUTGOING_MAX: usize = 10_000;

type Senders = HashMap<VaultId, watch::Sender<Option<Timestamp>>>;

/// Notifies the subscriptions of a vault when it has changed.
#[derive(Clone, Debug)]
pub struct ChangeNotifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// For each vault with a subscription.
    senders: Mutex<Senders>,
    /// Latest heads that were published or received.
    latest: Cache<VaultId, Timestamp>,
    /// To the relay, if other processes serve from the same database.
    outgoing: Option<mpsc::Sender<(VaultId, Timestamp)>>,
}

impl Default for ChangeNotifier {
    /// The notifier of the only process.
    fn default() -> Self {
        Self::new(None)
    }
}

impl ChangeNotifier {
    fn new(outgoing: Option<mpsc::Sender<(VaultId, Timestamp)>>) -> Self {
        let latest = Cache::builder().max_capacity(LATEST_MAX).time_to_live(LATEST_FOR).build();
        Self(Arc::new(Inner { senders: Mutex::default(), latest, outgoing }))
    }

    /// The notifier of one process among several, and the changes to publish to the others.
    pub(crate) fn shared() -> (Self, mpsc::Receiver<(VaultId, Timestamp)>) {
        let (outgoing, changes) = mpsc::channel(OUTGOING_MAX);
        (Self::new(Some(outgoing)), changes)
    }

    /// Subscribes to changes of a vault from now on. `None` if it has `subscriptions_max` subscriptions.
    pub fn subscribe(&self, vault: VaultId, subscriptions_max: usize) -> Option<Subscription> {
        let mut senders = self.senders();
        if senders.get(&vault).map_or(0, watch::Sender::receiver_count) >= subscriptions_max {
            return None;
        }
        let changes = senders.entry(vault).or_insert_with(|| watch::channel(None).0).subscribe();
        Some(Subscription { notifier: self.clone(), vault, changes })
    }

    /// Notifies this process and the others that a push of this process moved a vault's head to `head`.
    pub(crate) fn publish(&self, vault: VaultId, head: Timestamp) {
        self.receive(vault, head);
        if let Some(outgoing) = &self.0.outgoing
            && outgoing.try_send((vault, head)).is_err()
        {
            metrics::counter!("vaultsync_hints_dropped_total").increment(1);
        }
    }

    /// Notifies a vault's subscriptions in this process that its head is now `head`, unless a notification
    /// of this head or a later one came before: notifications may arrive late and more than once.
    pub(crate) fn receive(&self, vault: VaultId, head: Timestamp) {
        if self.latest(vault) >= Some(head) {
            return;
        }
        // Compared again under the lock, so that of two concurrent heads the later one is sent last.
        let senders = self.senders();
        if self.latest(vault) >= Some(head) {
            return;
        }
        self.0.latest.insert(vault, head);
        if let Some(sender) = senders.get(&vault) {
            sender.send_replace(Some(head));
        }
    }

    /// Notifies all subscriptions that their vault may have changed: notifications may have been missed.
    pub(crate) fn notify_all(&self) {
        for sender in self.senders().values() {
            sender.send_replace(None);
        }
    }

    /// The latest head of a vault that was published or received, if that was recently.
    pub(crate) fn latest(&self, vault: VaultId) -> Option<Timestamp> {
        self.0.latest.get(&vault)
    }

    fn senders(&self) -> MutexGuard<'_, Senders> {
        // No code panics while it holds this lock, so the map is consistent even if the lock is poisoned.
        self.0.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Subscription to the changes of a vault, until it is dropped.
#[derive(Debug)]
pub struct Subscription {
    notifier: ChangeNotifier,
    vault: VaultId,
    changes: watch::Receiver<Option<Timestamp>>,
}

impl Subscription {
    /// Waits until the vault has changed since the last call, or since the subscription began. Returns the
    /// new head, or `None` if the vault may have changed.
    pub async fn changed(&mut self) -> Option<Timestamp> {
        // The sender exists as long as the subscription, so this cannot fail.
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.changes.borrow_and_update()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut senders = self.notifier.senders();
        // Under the lock, so that of two concurrent drops one is the last.
        self.changes = watch::channel(None).1;
        if senders.get(&self.vault).is_some_and(|sender| sender.receiver_count() == 0) {
            senders.remove(&self.vault);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;
    use crate::Vault;

    /// Whether a future is ready when polled once.
    fn is_ready<T>(future: impl Future<Output = T>) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_change_before_the_wait_is_not_missed() {
        let notifier = ChangeNotifier::default();
        let vault = Vault::of("i", "s").id();
        let mut subscription = notifier.subscribe(vault, 10).unwrap();
        assert!(!is_ready(subscription.changed()));
        notifier.publish(Vault::of("i", "other").id(), Timestamp::from_millis(1));
        assert!(!is_ready(subscription.changed()));
        notifier.publish(vault, Timestamp::from_millis(1));
        assert!(is_ready(subscription.changed()));
        assert!(!is_ready(subscription.changed()));
    }

    #[test]
    fn subscriptions_are_limited_and_leave_no_entry() {
        let notifier = ChangeNotifier::default();
        let vault = Vault::of("i", "s").id();
        let two = [notifier.subscribe(vault, 2).unwrap(), notifier.subscribe(vault, 2).unwrap()];
        assert!(notifier.subscribe(vault, 2).is_none());
        assert!(notifier.subscribe(Vault::of("i", "other").id(), 0).is_none());
        drop(two);
        assert!(notifier.senders().is_empty());
        assert!(notifier.subscribe(vault, 2).is_some());
    }
}
