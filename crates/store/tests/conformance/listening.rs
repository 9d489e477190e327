//! Who listens to a vault is told of what was committed, and of nothing else.

use vaultsync_protocol::Timestamp;
use vaultsync_store::{PushOutcome, Subscription};

use crate::{
    dsl::{create, creates, poll_once, update, user},
    support::TestStore,
};

backends!(
    a_listener_is_told_of_a_commit,
    a_listener_is_told_of_what_was_committed_before_it_waited,
    a_refused_push_tells_nobody,
    a_retry_and_an_empty_push_tell_nobody,
    a_push_with_another_epoch_tells_nobody,
    another_vault_s_commit_tells_nobody,
    many_commits_may_be_told_as_one,
    every_listener_is_told,
    what_a_listener_is_told_of_can_be_pulled,
);

/// Whether the listener was told since it was last asked.
fn told(listener: &mut Subscription) -> bool {
    poll_once(&mut Box::pin(listener.changed())).is_some()
}

async fn a_listener_is_told_of_a_commit(store: TestStore) {
    let vault = user();
    let mut listener = store.store.notifier().subscribe(vault.id(), 10).unwrap();
    for operation in creates("r", 3) {
        assert!(!told(&mut listener));
        store.applied(&vault, &[operation]).await;
        // The push is answered once its commit is told, so there is nothing to wait for.
        assert!(told(&mut listener));
    }
}

async fn a_listener_is_told_of_what_was_committed_before_it_waited(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("before", "v1")]).await;
    let mut listener = store.store.notifier().subscribe(vault.id(), 10).unwrap();
    assert!(!told(&mut listener), "what was before it listened is not new");
    store.applied(&vault, &[create("between", "v1")]).await;
    listener.changed().await;
    assert!(!told(&mut listener));
}

async fn a_refused_push_tells_nobody(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    let mut listener = store.store.notifier().subscribe(vault.id(), 10).unwrap();
    store.refused(&vault, &[create("b", "fine"), create("a", "x")]).await;
    assert!(!told(&mut listener));
}

async fn a_retry_and_an_empty_push_tell_nobody(store: TestStore) {
    let vault = user();
    store.applied(&vault, &creates("r", 2)).await;
    let mut listener = store.store.notifier().subscribe(vault.id(), 10).unwrap();
    store.applied(&vault, &creates("r", 2)).await;
    store.applied(&vault, &creates("r", 1)).await;
    store.applied(&vault, &[]).await;
    assert!(!told(&mut listener));
}

async fn a_push_with_another_epoch_tells_nobody(store: TestStore) {
    let vault = user();
    let mut listener = store.store.notifier().subscribe(vault.id(), 10).unwrap();
    for _ in 0..2 {
        let outcome = store.push_in(&vault, "another", &[create("b", "v1")]).await;
        assert_eq!(outcome, PushOutcome::EpochChanged);
        assert!(!told(&mut listener));
        store.applied(&vault, &[create("a", "v1")]).await;
        told(&mut listener);
    }
}

async fn another_vault_s_commit_tells_nobody(store: TestStore) {
    let (vault, another) = (user(), user());
    let mut listener = store.store.notifier().subscribe(vault.id(), 10).unwrap();
    store.applied(&another, &[create("a", "v1")]).await;
    assert!(!told(&mut listener));
}

async fn many_commits_may_be_told_as_one(store: TestStore) {
    let vault = user();
    let mut listener = store.store.notifier().subscribe(vault.id(), 10).unwrap();
    for operation in creates("r", 10) {
        store.applied(&vault, &[operation]).await;
    }
    assert!(told(&mut listener));
    assert!(!told(&mut listener));
}

async fn every_listener_is_told(store: TestStore) {
    let vault = user();
    let heads = store.store.notifier();
    let mut listeners: Vec<_> = (0..5).map(|_| heads.subscribe(vault.id(), 5).unwrap()).collect();
    assert!(heads.subscribe(vault.id(), 5).is_none(), "no more than may listen");
    store.applied(&vault, &[create("a", "v1")]).await;
    assert!(listeners.iter_mut().all(told));
    drop(listeners);
    assert!(heads.subscribe(vault.id(), 5).is_some());
}

async fn what_a_listener_is_told_of_can_be_pulled(store: TestStore) {
    let vault = user();
    let mut listener = store.store.notifier().subscribe(vault.id(), 10).unwrap();
    let follow = async {
        let (mut cursor, mut found) = (None, 0);
        while found < 60 {
            listener.changed().await;
            // A page as large as everything, so that one pull after a hint must find it all.
            let page = store.page(&vault, cursor, 100).await;
            assert!(!page.records.is_empty() || found > 0, "told of something that is not there");
            cursor = page.next_cursor.map(Timestamp::as_millis).or(cursor);
            found += page.records.len();
        }
    };
    let write = async {
        for base in 1..=20 {
            let text = format!("v{base}");
            store.applied(&vault, &creates(&format!("{base} "), 2)).await;
            let id = format!("{base} 0");
            store.applied(&vault, &[update(&id, 1, &text)]).await;
        }
        // What a late follower finds in fewer records: enough new ones that it ends all the same.
        store.applied(&vault, &creates("last ", 20)).await;
    };
    tokio::join!(follow, write);
}
