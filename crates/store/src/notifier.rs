//! Hints that a vault has changed, for those who wait for it.
//!
//! A hint is never the truth: whoever gets one pulls. A hint that is lost or spurious costs only time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use tokio::sync::{mpsc, watch};
use vaultsync_protocol::Timestamp;

use crate::VaultId;

/// How many vaults' last heads are remembered, and for how long: longer than a replica lags.
const LATEST_MAX: u64 = 100_000;
const LATEST_FOR: Duration = Duration::from_mins(1);

/// How many changes wait to be told to other processes. Past it they are dropped: a hint may be lost.
const OUTGOING_MAX: usize = 10_000;

type Waiting = HashMap<VaultId, watch::Sender<Option<Timestamp>>>;

/// The heads that somebody waits for.
#[derive(Clone, Debug)]
pub struct ChangeNotifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    waiting: Mutex<Waiting>,
    latest: Cache<VaultId, Timestamp>,
    /// To the other processes that serve from the same database, where there are any.
    outgoing: Option<mpsc::Sender<(VaultId, Timestamp)>>,
}

impl Default for ChangeNotifier {
    /// The heads of one process.
    fn default() -> Self {
        Self::new(None)
    }
}

impl ChangeNotifier {
    fn new(outgoing: Option<mpsc::Sender<(VaultId, Timestamp)>>) -> Self {
        let latest = Cache::builder().max_capacity(LATEST_MAX).time_to_live(LATEST_FOR).build();
        Self(Arc::new(Inner { waiting: Mutex::default(), latest, outgoing }))
    }

    /// The heads of one process among several, and the changes it has to tell them.
    pub(crate) fn shared() -> (Self, mpsc::Receiver<(VaultId, Timestamp)>) {
        let (outgoing, changes) = mpsc::channel(OUTGOING_MAX);
        (Self::new(Some(outgoing)), changes)
    }

    /// Listens for changes of a vault from now on; `None` where `subscriptions_max` do so already.
    pub fn subscribe(&self, vault: VaultId, subscriptions_max: usize) -> Option<Subscription> {
        let mut waiting = self.lock();
        if waiting.get(&vault).map_or(0, watch::Sender::receiver_count) >= subscriptions_max {
            return None;
        }
        let changes = waiting.entry(vault).or_insert_with(|| watch::channel(None).0).subscribe();
        Some(Subscription { notifier: self.clone(), vault, changes })
    }

    /// Tells everybody that a vault's clock now stands at `head`, because of a push of this process.
    pub(crate) fn publish(&self, vault: VaultId, head: Timestamp) {
        self.receive(vault, head);
        if let Some(outgoing) = &self.0.outgoing
            && outgoing.try_send((vault, head)).is_err()
        {
            metrics::counter!("vaultsync_hints_dropped_total").increment(1);
        }
    }

    /// Tells a vault's listeners in this process that its clock now stands at `head`, unless they know:
    /// hints may come late, and more than once.
    pub(crate) fn receive(&self, vault: VaultId, head: Timestamp) {
        if self.latest(vault) >= Some(head) {
            return;
        }
        // Under the lock from the comparison on, so that of two at once the later head is the last.
        let waiting = self.lock();
        if self.latest(vault) >= Some(head) {
            return;
        }
        self.0.latest.insert(vault, head);
        if let Some(sender) = waiting.get(&vault) {
            sender.send_replace(Some(head));
        }
    }

    /// Makes all listeners look for themselves: something may have been told while nobody heard.
    pub(crate) fn notify_all(&self) {
        for sender in self.lock().values() {
            sender.send_replace(None);
        }
    }

    /// The last head heard of a vault, where that was lately.
    pub(crate) fn latest(&self, vault: VaultId) -> Option<Timestamp> {
        self.0.latest.get(&vault)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Nothing in here can panic half-way through a change, so a poisoned lock is a whole one.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who listens; it stops when dropped.
#[derive(Debug)]
pub struct Subscription {
    notifier: ChangeNotifier,
    vault: VaultId,
    changes: watch::Receiver<Option<Timestamp>>,
}

impl Subscription {
    /// Waits until the vault has changed since the last call, or since listening began; answers the
    /// head that was told, or `None` where it is known only that it may have changed.
    pub async fn changed(&mut self) -> Option<Timestamp> {
        // The sender lives in `heads` for as long as there is a listener, so this cannot fail.
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.changes.borrow_and_update()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut heads = self.notifier.lock();
        // Under the lock, so that of two that stop at once one is the last.
        self.changes = watch::channel(None).1;
        if heads.get(&self.vault).is_some_and(|sender| sender.receiver_count() == 0) {
            heads.remove(&self.vault);
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

    /// Whether a future is done when polled once.
    fn now<T>(future: impl Future<Output = T>) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_change_between_listening_and_waiting_is_not_missed() {
        let notifier = ChangeNotifier::default();
        let vault = Vault::of("i", "s").id();
        let mut listener = notifier.subscribe(vault, 10).unwrap();
        assert!(!now(listener.changed()));
        notifier.publish(Vault::of("i", "other").id(), Timestamp::from_millis(1));
        assert!(!now(listener.changed()));
        notifier.publish(vault, Timestamp::from_millis(1));
        assert!(now(listener.changed()));
        assert!(!now(listener.changed()));
    }

    #[test]
    fn listeners_are_bounded_and_leave_nothing_behind() {
        let notifier = ChangeNotifier::default();
        let vault = Vault::of("i", "s").id();
        let two = [notifier.subscribe(vault, 2).unwrap(), notifier.subscribe(vault, 2).unwrap()];
        assert!(notifier.subscribe(vault, 2).is_none());
        assert!(notifier.subscribe(Vault::of("i", "nobody may").id(), 0).is_none());
        drop(two);
        assert!(notifier.lock().is_empty());
        assert!(notifier.subscribe(vault, 2).is_some());
    }
}
