//! Durability: what survives a restart, and what a closing store returns.

use vaultsync_protocol::Timestamp;
use vaultsync_store::{StoreError, Unbounded};

use crate::{
    dsl::{HOUR, NOW, create, creates, delete, pull_after, update, user, versions},
    support::{TestStore, batch},
};

backends!(
    everything_survives_a_restart,
    acknowledged_writes_survive_without_closing,
    times_advance_after_a_restart_with_an_earlier_clock,
    a_closed_store_rejects_requests_and_writes_nothing,
    queued_pushes_are_finished_before_closing,
    an_open_store_passes_its_check,
);

async fn everything_survives_a_restart(store: TestStore) {
    let vaults = [user(), user(), user()];
    let mut before = Vec::new();
    for vault in &vaults {
        store.push_applied(vault, &creates("r", 20)).await;
        store.push_applied(vault, &[update("r3", 1, "v2"), delete("r4", 1)]).await;
        before.push(store.state(vault).await);
    }
    let store = store.reopen().await.reopen().await;
    for (vault, before) in vaults.iter().zip(&before) {
        assert_eq!(&store.state(vault).await, before);
        store.push_applied(vault, &[update("r3", 2, "v3")]).await;
    }
}

async fn acknowledged_writes_survive_without_closing(mut store: TestStore) {
    let vault = user();
    for n in 0..10 {
        store.push_applied(&vault, &creates(&format!("{n} "), 3)).await;
        let before = store.state(&vault).await;
        let TestStore { store: dropped, backend, options, folder } = store;
        drop(dropped);
        store = TestStore::open_in(folder, backend, options).await;
        assert_eq!(store.state(&vault).await, before);
    }
}

async fn times_advance_after_a_restart_with_an_earlier_clock(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "v1")], NOW).await;
    let store = store.reopen().await;
    store.push_applied_at(&vault, &[create("b", "v1")], NOW - HOUR).await;
    assert_eq!(store.head(&vault).await, NOW + 1);
}

async fn a_closed_store_rejects_requests_and_writes_nothing(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    let before = store.state(&vault).await;
    store.store.close().await;
    let late = batch(&[create("late", "v1")], None);
    let pushed = store.store.push(&vault, late, Timestamp::from_millis(NOW), ()).await;
    assert!(matches!(pushed, Err(StoreError::Unavailable(_))), "{pushed:?}");
    let pulled = store.store.pull(&vault, &pull_after(None, 100), Unbounded).await;
    assert!(matches!(pulled, Err(StoreError::Unavailable(_))), "{pulled:?}");
    assert!(store.store.check().await.is_err());
    store.store.close().await;
    assert_eq!(store.reopen().await.state(&vault).await, before);
}

async fn queued_pushes_are_finished_before_closing(store: TestStore) {
    let vault = user();
    let batches: Vec<_> = (0..50).map(|n| creates(&format!("{n} "), 4)).collect();
    let pushes = batches.iter().map(|operations| {
        store.store.push(&vault, batch(operations, None), Timestamp::from_millis(NOW), ())
    });
    // Each is polled once, and so queued, before the store closes.
    let mut pushes: Vec<_> = pushes.map(Box::pin).collect();
    let early: Vec<_> = pushes.iter_mut().map(crate::dsl::poll_once).collect();
    store.store.close().await;
    let mut acknowledged = Vec::new();
    for ((push, early), operations) in pushes.into_iter().zip(early).zip(&batches) {
        let result = match early {
            Some(result) => result,
            None => push.await,
        };
        if result.is_ok() {
            acknowledged.extend(operations.iter().map(|operation| operation.record_id.clone()));
        }
    }
    assert_eq!(acknowledged.len(), 200, "every queued push is finished");
    let store = store.reopen().await;
    let found = store.pull_all(&vault, 100).await;
    assert_eq!(found.len(), 200);
    let written = store.push_applied(&vault, &batches[7]).await;
    assert_eq!(versions(&written)[0], ("7 0", 1));
}

async fn an_open_store_passes_its_check(store: TestStore) {
    assert!(store.store.check().await.is_ok());
    store.push_applied(&user(), &[create("a", "v1")]).await;
    assert!(store.store.check().await.is_ok());
}
