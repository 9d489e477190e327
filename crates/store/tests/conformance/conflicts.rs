//! A refused push: nothing of it is written, and everything that stood in the way is told.

use crate::{
    dsl::{create, creates, delete, in_the_way, live, operation, update, user, versions},
    support::TestStore,
};

backends!(
    every_conflict_is_told_in_the_order_of_the_operations,
    a_conflict_at_the_first_place_writes_nothing,
    a_conflict_in_the_middle_writes_nothing,
    a_conflict_at_the_last_place_writes_nothing,
    a_refused_push_does_not_move_the_clock,
    a_refused_push_is_not_remembered,
    a_retried_write_is_not_told_among_the_conflicts,
    a_hundred_conflicts_are_told,
    conflicts_end_before_their_bytes_pass_the_bound,
    conflicts_that_fill_the_bound_exactly_are_all_told,
    the_first_conflict_is_told_whatever_its_size,
    conflicts_without_ciphertext_do_not_end_the_list,
);

/// A vault with 12 records of the same length, and the same again as another device would have it.
async fn twelve(store: &TestStore) -> vaultsync_store::Vault {
    let vault = user();
    store.applied(&vault, &creates("r", 12)).await;
    vault
}

async fn every_conflict_is_told_in_the_order_of_the_operations(store: TestStore) {
    let vault = twelve(&store).await;
    store.applied(&vault, &[update("r3", 1, "r3 v2"), delete("r8", 1)]).await;
    let operations = [
        create("new", "fine"),
        update("r8", 1, "x"),
        create("r11", "x"),
        update("r2", 1, "fine"),
        update("r0", 9, "x"),
        update("r3", 1, "x"),
        create("another", "fine"),
        update("r10", 0, "x"),
    ];
    let refused = store.refused(&vault, &operations).await;
    assert!(!refused.has_more);
    assert_eq!(
        in_the_way(&refused),
        [
            ("r8".to_owned(), 2, Vec::new(), true),
            live("r11", 1, "r11 v1"),
            live("r0", 1, "r0 v1"),
            live("r3", 2, "r3 v2"),
            live("r10", 1, "r10 v1"),
        ]
    );
}

/// Refuses a batch with one conflict at `place` among creates, updates and a delete.
async fn check_nothing_written(store: &TestStore, place: usize) {
    let vault = twelve(store).await;
    let before = store.state(&vault).await;
    let mut operations = vec![
        create("new", "fine"),
        update("r1", 1, "fine"),
        delete("r2", 1),
        update("r3", 1, "fine"),
        create("newer", "fine"),
    ];
    operations.insert(place, update("r7", 5, "stale"));
    let refused = store.refused(&vault, &operations).await;
    assert_eq!(in_the_way(&refused), [live("r7", 1, "r7 v1")]);
    assert_eq!(store.state(&vault).await, before);
}

async fn a_conflict_at_the_first_place_writes_nothing(store: TestStore) {
    check_nothing_written(&store, 0).await;
}

async fn a_conflict_in_the_middle_writes_nothing(store: TestStore) {
    for place in 1..5 {
        check_nothing_written(&store, place).await;
    }
}

async fn a_conflict_at_the_last_place_writes_nothing(store: TestStore) {
    check_nothing_written(&store, 5).await;
}

async fn a_refused_push_does_not_move_the_clock(store: TestStore) {
    let vault = twelve(&store).await;
    let before = store.state(&vault).await;
    for _ in 0..50 {
        store.refused(&vault, &[create("new", "fine"), create("r1", "x")]).await;
    }
    assert_eq!(store.state(&vault).await, before);
}

async fn a_refused_push_is_not_remembered(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    let early = [update("a", 2, "v3"), create("b", "v1")];
    store.refused(&vault, &early).await;
    store.applied(&vault, &[update("a", 1, "v2")]).await;
    assert_eq!(versions(&store.applied(&vault, &early).await), [("a", 3), ("b", 1)]);
    assert_eq!(store.all(&vault).await, [live("a", 3, "v3"), live("b", 1, "v1")]);
}

async fn a_retried_write_is_not_told_among_the_conflicts(store: TestStore) {
    let vault = twelve(&store).await;
    let operations = [create("r0", "r0 v1"), create("r1", "other"), create("r2", "r2 v1")];
    let refused = store.refused(&vault, &operations).await;
    assert_eq!(in_the_way(&refused), [live("r1", 1, "r1 v1")]);
}

async fn a_hundred_conflicts_are_told(store: TestStore) {
    let vault = user();
    store.applied(&vault, &creates("r", 100)).await;
    let operations: Vec<_> = (0..100).rev().map(|n| create(&format!("r{n}"), "x")).collect();
    let refused = store.refused(&vault, &operations).await;
    let told: Vec<_> = in_the_way(&refused).into_iter().map(|(id, ..)| id).collect();
    let expected: Vec<_> = (0..100).rev().map(|n| format!("r{n}")).collect();
    assert_eq!(told, expected);
    assert!(!refused.has_more);
}

/// The records `a` to `e` of 10 bytes each, all in the way: how many are told, and whether
/// there are more.
async fn told_of_five(store: &TestStore) -> (usize, bool) {
    let vault = user();
    let ids = ["a", "b", "c", "d", "e"];
    store.applied(&vault, &ids.map(|id| create(id, "0123456789"))).await;
    let refused = store.refused(&vault, &ids.map(|id| create(id, "x"))).await;
    for (conflict, id) in refused.conflicts.iter().zip(ids) {
        assert_eq!(conflict.record_id.as_str(), id);
    }
    (refused.conflicts.len(), refused.has_more)
}

async fn conflicts_end_before_their_bytes_pass_the_bound(store: TestStore) {
    for (bytes_max, told) in [(10, 1), (19, 1), (20, 2), (39, 3), (49, 4)] {
        let store = store.with_page_bytes_max(bytes_max).await;
        assert_eq!(told_of_five(&store).await, (told, true), "{bytes_max} bytes");
    }
}

async fn conflicts_that_fill_the_bound_exactly_are_all_told(store: TestStore) {
    assert_eq!(told_of_five(&store.with_page_bytes_max(50).await).await, (5, false));
}

async fn the_first_conflict_is_told_whatever_its_size(store: TestStore) {
    assert_eq!(told_of_five(&store.with_page_bytes_max(0).await).await, (1, true));
    assert_eq!(told_of_five(&store.with_page_bytes_max(9).await).await, (1, true));
    // The only one is the whole list.
    let (store, vault) = (store.with_page_bytes_max(3).await, user());
    store.applied(&vault, &[create("a", "0123456789")]).await;
    let refused = store.refused(&vault, &[create("new", "x"), create("a", "x")]).await;
    assert_eq!((refused.conflicts.len(), refused.has_more), (1, false));
}

async fn conflicts_without_ciphertext_do_not_end_the_list(store: TestStore) {
    let (store, vault) = (store.with_page_bytes_max(10).await, user());
    let ids = ["a", "b", "c"];
    let tombstones = ids.map(|id| operation(id, None, "", true));
    store.applied(&vault, &tombstones).await;
    store.applied(&vault, &[create("d", "0123456789")]).await;
    let all = ["a", "b", "d", "c"].map(|id| create(id, "x"));
    let refused = store.refused(&vault, &all).await;
    assert_eq!((refused.conflicts.len(), refused.has_more), (4, false));
}
