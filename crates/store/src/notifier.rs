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

use crate::{UserId, Vault, VaultId};

/// For how many vaults the latest head is cached, and for how long: longer than a replica lags.
const LATEST_MAX: u64 = 100_000;
const LATEST_FOR: Duration = Duration::from_mins(1);

/// How many changes wait to be published to other processes. Further ones are dropped, which is safe.
const OUTGOING_MAX: usize = 10_000;

/// Age from which a subscription gives up its place to a newer one if its user has the most that a user
/// may have. Its client may have vanished without a word, behind a proxy that has not noticed either,
/// and would otherwise keep its user from waiting for many minutes. A client that is still there
/// subscribes again. Longer than a pull may wait.
const DISPLACED_AFTER: Duration = Duration::from_mins(1);

/// All subscriptions.
#[derive(Debug, Default)]
struct Subscriptions {
    /// For each vault with a subscription.
    senders: HashMap<VaultId, watch::Sender<Change>>,
    /// For each user with a subscription, oldest first.
    places: HashMap<UserId, VecDeque<Place>>,
    next_id: u64,
}

/// The place of a subscription among those of its user.
#[derive(Debug)]
struct Place {
    id: u64,
    vault: VaultId,
    began: Instant,
}

/// What a vault's subscriptions receive.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    /// The vault's head; `None` if the vault may have changed.
    head: Option<Timestamp>,
    /// Subscriptions of the vault with a lower id have lost their places.
    first_id: u64,
}

/// Notifies the subscriptions of a vault when it has changed.
#[derive(Clone, Debug)]
pub struct ChangeNotifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    subscriptions: Mutex<Subscriptions>,
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
        Self(Arc::new(Inner { subscriptions: Mutex::default(), latest, outgoing }))
    }

    /// The notifier of one process among several, and the changes to publish to the others.
    pub(crate) fn shared() -> (Self, mpsc::Receiver<(VaultId, Timestamp)>) {
        let (outgoing, changes) = mpsc::channel(OUTGOING_MAX);
        (Self::new(Some(outgoing)), changes)
    }

    /// Subscribes to changes of a vault from now on. If its user has `subscriptions_max` subscriptions to any
    /// vaults, the oldest is displaced; `None` if that one began less than a minute ago.
    pub fn subscribe(&self, vault: &Vault, subscriptions_max: usize) -> Option<Subscription> {
        let (id, changes) = self.subscriptions().add(vault, subscriptions_max)?;
        let (user, vault) = (vault.user(), vault.id());
        Some(Subscription { notifier: self.clone(), user, vault, id, changes })
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
        let subscriptions = self.subscriptions();
        if self.latest(vault) >= Some(head) {
            return;
        }
        self.0.latest.insert(vault, head);
        if let Some(sender) = subscriptions.senders.get(&vault) {
            sender.send_modify(|change| change.head = Some(head));
        }
    }

    /// Notifies all subscriptions that their vault may have changed: notifications may have been missed.
    pub(crate) fn notify_all(&self) {
        for sender in self.subscriptions().senders.values() {
            sender.send_modify(|change| change.head = None);
        }
    }

    /// The latest head of a vault that was published or received, if that was recently.
    pub(crate) fn latest(&self, vault: VaultId) -> Option<Timestamp> {
        self.0.latest.get(&vault)
    }

    fn subscriptions(&self) -> MutexGuard<'_, Subscriptions> {
        // No code panics while it holds this lock, so the maps are consistent even if the lock is poisoned.
        self.0.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriptions {
    fn add(&mut self, vault: &Vault, places_max: usize) -> Option<(u64, watch::Receiver<Change>)> {
        if self.places.get(&vault.user()).map_or(0, VecDeque::len) >= places_max {
            self.displace_oldest(vault.user())?;
        }
        let id = self.next_id;
        self.next_id += 1;
        let place = Place { id, vault: vault.id(), began: Instant::now() };
        self.places.entry(vault.user()).or_default().push_back(place);
        Some((id, self.senders.entry(vault.id()).or_default().subscribe()))
    }

    /// Frees the place of the user's oldest subscription, if that began long enough ago.
    fn displace_oldest(&mut self, user: UserId) -> Option<()> {
        let places = self.places.get_mut(&user)?;
        if places.front()?.began.elapsed() < DISPLACED_AFTER {
            return None;
        }
        let Place { id, vault, .. } = places.pop_front()?;
        if let Some(sender) = self.senders.get(&vault) {
            // The others of the vault wake as well, and read again: the head of the last change may be older
            // than theirs.
            sender.send_modify(|change| *change = Change { head: None, first_id: id + 1 });
        }
        Some(())
    }

    /// Frees the place of a subscription, unless it was displaced.
    fn remove(&mut self, user: UserId, id: u64) {
        let Some(places) = self.places.get_mut(&user) else { return };
        if let Ok(index) = places.binary_search_by_key(&id, |place| place.id) {
            places.remove(index);
        }
        if places.is_empty() {
            self.places.remove(&user);
        }
    }
}

/// Subscription to the changes of a vault, until it is dropped.
#[derive(Debug)]
pub struct Subscription {
    notifier: ChangeNotifier,
    user: UserId,
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
        let mut subscriptions = self.notifier.subscriptions();
        subscriptions.remove(self.user, self.id);
        // Under the lock, so that of two concurrent drops one is the last.
        self.changes = watch::channel(Change::default()).1;
        let is_last = |sender: &watch::Sender<Change>| sender.receiver_count() == 0;
        if subscriptions.senders.get(&self.vault).is_some_and(is_last) {
            subscriptions.senders.remove(&self.vault);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use vaultsync_protocol::VaultName;

    use super::*;

    /// Whether a future is ready when polled once.
    fn is_ready<T>(future: impl Future<Output = T>) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn is_empty(notifier: &ChangeNotifier) -> bool {
        let subscriptions = notifier.subscriptions();
        subscriptions.senders.is_empty() && subscriptions.places.is_empty()
    }

    #[test]
    fn a_change_before_the_wait_is_not_missed() {
        let notifier = ChangeNotifier::default();
        let vault = Vault::of("i", "s");
        let mut subscription = notifier.subscribe(&vault, 10).unwrap();
        assert!(!is_ready(subscription.changed()));
        notifier.publish(Vault::of("i", "other").id(), Timestamp::from_millis(1));
        assert!(!is_ready(subscription.changed()));
        notifier.publish(vault.id(), Timestamp::from_millis(1));
        assert!(is_ready(subscription.changed()));
        assert!(!is_ready(subscription.changed()));
    }

    #[test]
    fn subscriptions_are_limited_and_leave_no_entry() {
        let notifier = ChangeNotifier::default();
        let vault = Vault::of("i", "s");
        let two = [notifier.subscribe(&vault, 2).unwrap(), notifier.subscribe(&vault, 2).unwrap()];
        assert!(notifier.subscribe(&vault, 2).is_none());
        assert!(notifier.subscribe(&Vault::of("i", "other"), 0).is_none());
        drop(two);
        assert!(is_empty(&notifier));
        assert!(notifier.subscribe(&vault, 2).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_subscription_takes_the_place_of_one_that_is_a_minute_old() {
        let notifier = ChangeNotifier::default();
        let vault = Vault::of("i", "s");
        let mut first = notifier.subscribe(&vault, 2).unwrap();
        tokio::time::advance(Duration::from_secs(30)).await;
        let mut second = notifier.subscribe(&vault, 2).unwrap();
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(notifier.subscribe(&vault, 2).is_none(), "the oldest is 59 s old");
        tokio::time::advance(Duration::from_secs(1)).await;
        let third = notifier.subscribe(&vault, 2).unwrap();
        assert!(is_ready(first.changed()), "it notices that it is displaced");
        assert!(first.is_displaced() && !second.is_displaced() && !third.is_displaced());
        assert!(notifier.subscribe(&vault, 2).is_none(), "the oldest is 30 s old now");
        drop(first);
        assert!(notifier.subscribe(&vault, 2).is_none(), "a displaced one has no place to free");
        assert!(is_ready(second.changed()), "a spurious notification");
        notifier.publish(vault.id(), Timestamp::from_millis(1));
        assert!(is_ready(second.changed()));
        drop(second);
        let fourth = notifier.subscribe(&vault, 2).unwrap();
        assert!(!fourth.is_displaced(), "ids are not used twice");
        drop((third, fourth));
        assert!(is_empty(&notifier));
    }

    #[tokio::test(start_paused = true)]
    async fn the_subscriptions_of_a_user_are_counted_over_all_vaults() {
        let notifier = ChangeNotifier::default();
        let vault = Vault::of("i", "s");
        let named = vault.clone().named(VaultName::new("notes").unwrap());
        let mut first = notifier.subscribe(&named, 2).unwrap();
        tokio::time::advance(DISPLACED_AFTER).await;
        let second = notifier.subscribe(&vault, 2).unwrap();
        let other = notifier.subscribe(&Vault::of("i", "other"), 2).unwrap();
        let third = notifier.subscribe(&vault, 2).unwrap();
        assert!(is_ready(first.changed()) && first.is_displaced());
        assert!(!second.is_displaced() && !third.is_displaced() && !other.is_displaced());
        assert!(notifier.subscribe(&named, 2).is_none(), "the oldest is new");
        drop((first, second, third, other));
        assert!(is_empty(&notifier));
    }
}
