//! Notifications that a vault has changed, for waiting pulls and event streams.
//!
//! A notification only wakes a waiter, which then reads the database. A lost or spurious one costs only
//! time.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use vaultsync_protocol::Timestamp;

use crate::VaultId;

/// For how many vaults the latest head is cached, and for how long: longer than a replica lags.
const LATEST_MAX: u64 = 100_000;
const LATEST_FOR: Duration = Duration::from_mins(1);

/// How many changes wait to be published to other processes. Further ones are dropped, which is safe.
const OUTGOING_MAX: usize = 10_000;

/// Age from which a subscription gives up its place to a newer one if its vault has the most that it
/// may have. Its client may have vanished without a word, behind a proxy that has not noticed either,
/// and would otherwise keep its user from waiting for many minutes. A client that is still there
/// subscribes again. Longer than a pull may wait.
const DISPLACED_AFTER: Duration = Duration::from_mins(1);

type Senders = HashMap<VaultId, Subscriptions>;

/// The subscriptions of one vault.
#[derive(Debug, Default)]
struct Subscriptions {
    sender: watch::Sender<Change>,
    /// Id and beginning of each that has a place, oldest first.
    places: VecDeque<(u64, Instant)>,
    next_id: u64,
}

/// What a vault's subscriptions receive.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    /// The vault's head; `None` if the vault may have changed.
    head: Option<Timestamp>,
    /// Subscriptions with a lower id have lost their places.
    first_id: u64,
}

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

    /// Subscribes to changes of a vault from now on. If the vault has `subscriptions_max` subscriptions,
    /// the oldest is displaced; `None` if that one began less than a minute ago.
    pub fn subscribe(&self, vault: VaultId, subscriptions_max: usize) -> Option<Subscription> {
        let mut senders = self.senders();
        if !senders.get_mut(&vault).map_or(subscriptions_max > 0, |subscriptions| {
            subscriptions.places.len() < subscriptions_max || subscriptions.displace_oldest()
        }) {
            return None;
        }
        let (id, changes) = senders.entry(vault).or_default().add();
        Some(Subscription { notifier: self.clone(), vault, id, changes })
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
        if let Some(subscriptions) = senders.get(&vault) {
            subscriptions.sender.send_modify(|change| change.head = Some(head));
        }
    }

    /// Notifies all subscriptions that their vault may have changed: notifications may have been missed.
    pub(crate) fn notify_all(&self) {
        for subscriptions in self.senders().values() {
            subscriptions.sender.send_modify(|change| change.head = None);
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

impl Subscriptions {
    fn add(&mut self) -> (u64, watch::Receiver<Change>) {
        let id = self.next_id;
        self.next_id += 1;
        self.places.push_back((id, Instant::now()));
        (id, self.sender.subscribe())
    }

    /// Takes the place of the oldest subscription, if it began long enough ago.
    fn displace_oldest(&mut self) -> bool {
        let Some(&(id, began)) = self.places.front() else { return false };
        if began.elapsed() < DISPLACED_AFTER {
            return false;
        }
        self.places.pop_front();
        // The others wake as well, and read again: the head of the last change may be older than theirs.
        self.sender.send_modify(|change| *change = Change { head: None, first_id: id + 1 });
        true
    }
}

/// Subscription to the changes of a vault, until it is dropped.
#[derive(Debug)]
pub struct Subscription {
    notifier: ChangeNotifier,
    vault: VaultId,
    id: u64,
    changes: watch::Receiver<Change>,
}

impl Subscription {
    /// Waits until the vault has changed since the last call, or since the subscription began. Returns the
    /// new head, or `None` if the vault may have changed. Also returns when the subscription
    /// [is displaced](Self::is_displaced).
    pub async fn changed(&mut self) -> Option<Timestamp> {
        // The sender exists as long as the subscription, so this cannot fail.
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.changes.borrow_and_update().head
    }

    /// Whether a newer subscription has taken the place of this one, which should end.
    pub fn is_displaced(&self) -> bool {
        self.changes.borrow().first_id > self.id
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut senders = self.notifier.senders();
        let Some(subscriptions) = senders.get_mut(&self.vault) else { return };
        // A displaced subscription has no place.
        if let Ok(index) = subscriptions.places.binary_search_by_key(&self.id, |(id, _)| *id) {
            subscriptions.places.remove(index);
        }
        // Under the lock, so that of two concurrent drops one is the last.
        self.changes = watch::channel(Change::default()).1;
        if subscriptions.sender.receiver_count() == 0 {
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

    #[tokio::test(start_paused = true)]
    async fn a_subscription_takes_the_place_of_one_that_is_a_minute_old() {
        let notifier = ChangeNotifier::default();
        let vault = Vault::of("i", "s").id();
        let mut first = notifier.subscribe(vault, 2).unwrap();
        tokio::time::advance(Duration::from_secs(30)).await;
        let mut second = notifier.subscribe(vault, 2).unwrap();
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(notifier.subscribe(vault, 2).is_none(), "the oldest is 59 s old");
        tokio::time::advance(Duration::from_secs(1)).await;
        let third = notifier.subscribe(vault, 2).unwrap();
        assert!(is_ready(first.changed()), "it notices that it is displaced");
        assert!(first.is_displaced() && !second.is_displaced() && !third.is_displaced());
        assert!(notifier.subscribe(vault, 2).is_none(), "the oldest is 30 s old now");
        drop(first);
        assert!(notifier.subscribe(vault, 2).is_none(), "a displaced one has no place to free");
        assert!(is_ready(second.changed()), "a spurious notification");
        notifier.publish(vault, Timestamp::from_millis(1));
        assert!(is_ready(second.changed()));
        drop(second);
        let fourth = notifier.subscribe(vault, 2).unwrap();
        assert!(!fourth.is_displaced(), "ids are not used twice");
        drop((third, fourth));
        assert!(notifier.senders().is_empty());
    }
}
