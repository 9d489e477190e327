//! What outlives a closed store, and what a store that is closing answers.

use vaultsync_protocol::Timestamp;
use vaultsync_store::{StoreError, Unbounded};

use crate::{
    dsl::{HOUR, NOW, after, create, creates, delete, update, user, versions},
    support::{TestStore, batch},
};

backends!(
    everything_is_there_after_closing_and_opening_again,
    a_store_dropped_without_closing_keeps_what_it_acknowledged,
    the_clock_goes_on_after_opening_again_with_an_earlier_time,
    a_closed_store_refuses_and_writes_nothing,
    what_is_queued_is_finished_before_closing,
    an_open_store_says_that_it_is_well,
);

async fn everything_is_there_after_closing_and_opening_again(store: TestStore) {
    let vaults = [user(), user(), user()];
    let mut before = Vec::new();
    for vault in &vaults {
        store.applied(vault, &creates("r", 20)).await;
        store.applied(vault, &[update("r3", 1, "v2"), delete("r4", 1)]).await;
        before.push(store.state(vault).await);
    }
    let store = store.reopened().await.reopened().await;
    for (vault, before) in vaults.iter().zip(&before) {
        assert_eq!(&store.state(vault).await, before);
        store.applied(vault, &[update("r3", 2, "v3")]).await;
    }
}

async fn a_store_dropped_without_closing_keeps_what_it_acknowledged(mut store: TestStore) {
    let vault = user();
    for n in 0..10 {
        store.applied(&vault, &creates(&format!("{n} "), 3)).await;
        let before = store.state(&vault).await;
        let TestStore { store: dropped, backend, options, folder } = store;
        drop(dropped);
        store = TestStore::open_in(folder, backend, options).await;
        assert_eq!(store.state(&vault).await, before);
    }
}

async fn the_clock_goes_on_after_opening_again_with_an_earlier_time(store: TestStore) {
    let vault = user();
    store.applied_at(&vault, &[create("a", "v1")], NOW).await;
    let store = store.reopened().await;
    store.applied_at(&vault, &[create("b", "v1")], NOW - HOUR).await;
    assert_eq!(store.head(&vault).await, NOW + 1);
}

async fn a_closed_store_refuses_and_writes_nothing(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    let before = store.state(&vault).await;
    store.store.close().await;
    let late = batch(&[create("late", "v1")], None);
    let pushed = store.store.push(&vault, late, Timestamp::from_millis(NOW), ()).await;
    assert!(matches!(pushed, Err(StoreError::Unavailable(_))), "{pushed:?}");
    let pulled = store.store.pull(&vault, &after(None, 100), Unbounded).await;
    assert!(matches!(pulled, Err(StoreError::Unavailable(_))), "{pulled:?}");
    assert!(store.store.check().await.is_err());
    store.store.close().await;
    assert_eq!(store.reopened().await.state(&vault).await, before);
}

async fn what_is_queued_is_finished_before_closing(store: TestStore) {
    let vault = user();
    let batches: Vec<_> = (0..50).map(|n| creates(&format!("{n} "), 4)).collect();
    let pushes = batches.iter().map(|operations| {
        store.store.push(&vault, batch(operations, None), Timestamp::from_millis(NOW), ())
    });
    // Each is polled once, and so queued, before the store is told to close.
    let mut pushes: Vec<_> = pushes.map(Box::pin).collect();
    let early: Vec<_> = pushes.iter_mut().map(crate::dsl::poll_once).collect();
    store.store.close().await;
    let mut acknowledged = Vec::new();
    for ((push, early), operations) in pushes.into_iter().zip(early).zip(&batches) {
        let answer = match early {
            Some(answer) => answer,
            None => push.await,
        };
        if answer.is_ok() {
            acknowledged.extend(operations.iter().map(|operation| operation.record_id.clone()));
        }
    }
    assert_eq!(acknowledged.len(), 200, "what was queued before is finished");
    let store = store.reopened().await;
    let found = store.follow(&vault, 100).await;
    assert_eq!(found.len(), 200);
    let written = store.applied(&vault, &batches[7]).await;
    assert_eq!(versions(&written)[0], ("7 0", 1));
}

async fn an_open_store_says_that_it_is_well(store: TestStore) {
    assert!(store.store.check().await.is_ok());
    store.applied(&user(), &[create("a", "v1")]).await;
    assert!(store.store.check().await.is_ok());
}
