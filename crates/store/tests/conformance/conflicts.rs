//! A refused push: none of it is written, and all conflicting records are returned.

use crate::{
    dsl::{conflicts, create, creates, delete, live, operation, update, user, versions},
    support::TestStore,
};

backends!(
    all_conflicts_are_returned_in_the_order_of_the_operations,
    a_conflict_of_the_first_operation_writes_nothing,
    a_conflict_of_a_middle_operation_writes_nothing,
    a_conflict_of_the_last_operation_writes_nothing,
    a_refused_push_does_not_advance_the_head,
    a_refused_push_leaves_no_receipt,
    a_retried_operation_is_not_a_conflict,
    a_hundred_conflicts_are_returned,
    conflicts_end_before_they_exceed_the_byte_limit,
    conflicts_that_fill_the_byte_limit_exactly_are_all_returned,
    the_first_conflict_is_returned_whatever_its_size,
    conflicts_without_ciphertext_do_not_count_towards_the_limit,
);

/// A vault with 12 records of the same length.
async fn vault_with_12_records(store: &TestStore) -> vaultsync_store::Vault {
    let vault = user();
    store.push_applied(&vault, &creates("r", 12)).await;
    vault
}

async fn all_conflicts_are_returned_in_the_order_of_the_operations(store: TestStore) {
    let vault = vault_with_12_records(&store).await;
    store.push_applied(&vault, &[update("r3", 1, "r3 v2"), delete("r8", 1)]).await;
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
    let refused = store.push_refused(&vault, &operations).await;
    assert!(!refused.has_more);
    assert_eq!(
        conflicts(&refused),
        [
            ("r8".to_owned(), 2, Vec::new(), true),
            live("r11", 1, "r11 v1"),
            live("r0", 1, "r0 v1"),
            live("r3", 2, "r3 v2"),
            live("r10", 1, "r10 v1"),
        ]
    );
}

/// Pushes a batch whose operation at `index` conflicts, among creates, updates and a delete.
async fn check_nothing_written(store: &TestStore, index: usize) {
    let vault = vault_with_12_records(store).await;
    let before = store.state(&vault).await;
    let mut operations = vec![
        create("new", "fine"),
        update("r1", 1, "fine"),
        delete("r2", 1),
        update("r3", 1, "fine"),
        create("newer", "fine"),
    ];
    operations.insert(index, update("r7", 5, "stale"));
    let refused = store.push_refused(&vault, &operations).await;
    assert_eq!(conflicts(&refused), [live("r7", 1, "r7 v1")]);
    assert_eq!(store.state(&vault).await, before);
}

async fn a_conflict_of_the_first_operation_writes_nothing(store: TestStore) {
    check_nothing_written(&store, 0).await;
}

async fn a_conflict_of_a_middle_operation_writes_nothing(store: TestStore) {
    for index in 1..5 {
        check_nothing_written(&store, index).await;
    }
}

async fn a_conflict_of_the_last_operation_writes_nothing(store: TestStore) {
    check_nothing_written(&store, 5).await;
}

async fn a_refused_push_does_not_advance_the_head(store: TestStore) {
    let vault = vault_with_12_records(&store).await;
    let before = store.state(&vault).await;
    for _ in 0..50 {
        store.push_refused(&vault, &[create("new", "fine"), create("r1", "x")]).await;
    }
    assert_eq!(store.state(&vault).await, before);
}

async fn a_refused_push_leaves_no_receipt(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    let early = [update("a", 2, "v3"), create("b", "v1")];
    store.push_refused(&vault, &early).await;
    store.push_applied(&vault, &[update("a", 1, "v2")]).await;
    assert_eq!(versions(&store.push_applied(&vault, &early).await), [("a", 3), ("b", 1)]);
    assert_eq!(store.summaries(&vault).await, [live("a", 3, "v3"), live("b", 1, "v1")]);
}

async fn a_retried_operation_is_not_a_conflict(store: TestStore) {
    let vault = vault_with_12_records(&store).await;
    let operations = [create("r0", "r0 v1"), create("r1", "other"), create("r2", "r2 v1")];
    let refused = store.push_refused(&vault, &operations).await;
    assert_eq!(conflicts(&refused), [live("r1", 1, "r1 v1")]);
}

async fn a_hundred_conflicts_are_returned(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 100)).await;
    let operations: Vec<_> = (0..100).rev().map(|n| create(&format!("r{n}"), "x")).collect();
    let refused = store.push_refused(&vault, &operations).await;
    let ids: Vec<_> = conflicts(&refused).into_iter().map(|(id, ..)| id).collect();
    let expected: Vec<_> = (0..100).rev().map(|n| format!("r{n}")).collect();
    assert_eq!(ids, expected);
    assert!(!refused.has_more);
}

/// Provokes conflicts with the records `a` to `e` of 10 bytes each. Returns how many are in the list, and
/// whether there are more.
async fn five_conflicts(store: &TestStore) -> (usize, bool) {
    let vault = user();
    let ids = ["a", "b", "c", "d", "e"];
    store.push_applied(&vault, &ids.map(|id| create(id, "0123456789"))).await;
    let refused = store.push_refused(&vault, &ids.map(|id| create(id, "x"))).await;
    for (conflict, id) in refused.conflicts.iter().zip(ids) {
        assert_eq!(conflict.record_id.as_str(), id);
    }
    (refused.conflicts.len(), refused.has_more)
}

async fn conflicts_end_before_they_exceed_the_byte_limit(store: TestStore) {
    for (bytes_max, returned) in [(10, 1), (19, 1), (20, 2), (39, 3), (49, 4)] {
        let store = store.with_page_bytes_max(bytes_max).await;
        assert_eq!(five_conflicts(&store).await, (returned, true), "{bytes_max} bytes");
    }
}

async fn conflicts_that_fill_the_byte_limit_exactly_are_all_returned(store: TestStore) {
    assert_eq!(five_conflicts(&store.with_page_bytes_max(50).await).await, (5, false));
}

async fn the_first_conflict_is_returned_whatever_its_size(store: TestStore) {
    assert_eq!(five_conflicts(&store.with_page_bytes_max(0).await).await, (1, true));
    assert_eq!(five_conflicts(&store.with_page_bytes_max(9).await).await, (1, true));
    // A single conflict is the whole list.
    let (store, vault) = (store.with_page_bytes_max(3).await, user());
    store.push_applied(&vault, &[create("a", "0123456789")]).await;
    let refused = store.push_refused(&vault, &[create("new", "x"), create("a", "x")]).await;
    assert_eq!((refused.conflicts.len(), refused.has_more), (1, false));
}

async fn conflicts_without_ciphertext_do_not_count_towards_the_limit(store: TestStore) {
    let (store, vault) = (store.with_page_bytes_max(10).await, user());
    let ids = ["a", "b", "c"];
    let tombstones = ids.map(|id| operation(id, None, "", true));
    store.push_applied(&vault, &tombstones).await;
    store.push_applied(&vault, &[create("d", "0123456789")]).await;
    let all = ["a", "b", "d", "c"].map(|id| create(id, "x"));
    let refused = store.push_refused(&vault, &all).await;
    assert_eq!((refused.conflicts.len(), refused.has_more), (4, false));
}
