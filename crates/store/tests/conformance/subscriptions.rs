//! Subscriptions: notified of each commit to their vault, and of nothing else.

use vaultsync_protocol::Timestamp;
use vaultsync_store::{PushOutcome, Subscription};

use crate::{
    dsl::{create, creates, poll_once, update, user},
    support::TestStore,
};

backends!(
    a_commit_notifies_a_subscription,
    a_commit_before_the_wait_notifies_a_subscription,
    a_refused_push_notifies_no_subscription,
    a_retry_and_an_empty_push_notify_no_subscription,
    a_push_with_another_epoch_notifies_no_subscription,
    a_commit_to_another_vault_notifies_no_subscription,
    many_commits_may_be_one_notification,
    a_commit_notifies_every_subscription,
    a_notified_commit_can_be_pulled,
);

/// Whether the subscription was notified since the last call.
fn is_notified(subscription: &mut Subscription) -> bool {
    poll_once(&mut Box::pin(subscription.changed())).is_some()
}

async fn a_commit_notifies_a_subscription(store: TestStore) {
    let vault = user();
    let mut subscription = store.store.notifier().subscribe(&vault, 10).unwrap();
    for operation in creates("r", 3) {
        assert!(!is_notified(&mut subscription));
        store.push_applied(&vault, &[operation]).await;
        // A push returns after its notification is sent, so there is nothing to wait for.
        assert!(is_notified(&mut subscription));
    }
}

async fn a_commit_before_the_wait_notifies_a_subscription(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("before", "v1")]).await;
    let mut subscription = store.store.notifier().subscribe(&vault, 10).unwrap();
    assert!(!is_notified(&mut subscription), "a commit before the subscription is not new");
    store.push_applied(&vault, &[create("between", "v1")]).await;
    subscription.changed().await;
    assert!(!is_notified(&mut subscription));
}

async fn a_refused_push_notifies_no_subscription(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    let mut subscription = store.store.notifier().subscribe(&vault, 10).unwrap();
    store.push_refused(&vault, &[create("b", "fine"), create("a", "x")]).await;
    assert!(!is_notified(&mut subscription));
}

async fn a_retry_and_an_empty_push_notify_no_subscription(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 2)).await;
    let mut subscription = store.store.notifier().subscribe(&vault, 10).unwrap();
    store.push_applied(&vault, &creates("r", 2)).await;
    store.push_applied(&vault, &creates("r", 1)).await;
    store.push_applied(&vault, &[]).await;
    assert!(!is_notified(&mut subscription));
}

async fn a_push_with_another_epoch_notifies_no_subscription(store: TestStore) {
    let vault = user();
    let mut subscription = store.store.notifier().subscribe(&vault, 10).unwrap();
    for _ in 0..2 {
        let outcome = store.push_with_epoch(&vault, "another", &[create("b", "v1")]).await;
        assert_eq!(outcome, PushOutcome::EpochChanged);
        assert!(!is_notified(&mut subscription));
        store.push_applied(&vault, &[create("a", "v1")]).await;
        is_notified(&mut subscription);
    }
}

async fn a_commit_to_another_vault_notifies_no_subscription(store: TestStore) {
    let (vault, another) = (user(), user());
    let mut subscription = store.store.notifier().subscribe(&vault, 10).unwrap();
    store.push_applied(&another, &[create("a", "v1")]).await;
    assert!(!is_notified(&mut subscription));
}

async fn many_commits_may_be_one_notification(store: TestStore) {
    let vault = user();
    let mut subscription = store.store.notifier().subscribe(&vault, 10).unwrap();
    for operation in creates("r", 10) {
        store.push_applied(&vault, &[operation]).await;
    }
    assert!(is_notified(&mut subscription));
    assert!(!is_notified(&mut subscription));
}

async fn a_commit_notifies_every_subscription(store: TestStore) {
    let vault = user();
    let notifier = store.store.notifier();
    let mut subscriptions: Vec<_> =
        (0..5).map(|_| notifier.subscribe(&vault, 5).unwrap()).collect();
    assert!(notifier.subscribe(&vault, 5).is_none(), "the limit is reached");
    store.push_applied(&vault, &[create("a", "v1")]).await;
    assert!(subscriptions.iter_mut().all(is_notified));
    drop(subscriptions);
    assert!(notifier.subscribe(&vault, 5).is_some());
}

async fn a_notified_commit_can_be_pulled(store: TestStore) {
    let vault = user();
    let mut subscription = store.store.notifier().subscribe(&vault, 10).unwrap();
    let follow = async {
        let (mut cursor, mut found) = (None, 0);
        while found < 60 {
            subscription.changed().await;
            // The page is large enough for everything, so one pull after a notification must return it.
            let page = store.page(&vault, cursor, 100).await;
            assert!(!page.records.is_empty() || found > 0, "the notified commit is not there");
            cursor = page.next_cursor.map(Timestamp::as_millis).or(cursor);
            found += page.records.len();
        }
    };
    let write = async {
        for base in 1..=20 {
            let text = format!("v{base}");
            store.push_applied(&vault, &creates(&format!("{base} "), 2)).await;
            let id = format!("{base} 0");
            store.push_applied(&vault, &[update(&id, 1, &text)]).await;
        }
        // A late follower gets fewer records of the updated ones, so there must be enough new ones for it
        // to end.
        store.push_applied(&vault, &creates("last ", 20)).await;
    };
    tokio::join!(follow, write);
}
