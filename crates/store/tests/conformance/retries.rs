//! Retries: a push that is sent again gets the same response, and nothing is written.

use vaultsync_store::PushOutcome;

use crate::{
    dsl::{HOUR, NOW, conflicts, create, creates, delete, live, operation, update, user, versions},
    support::{TestStore, batch},
};

backends!(
    a_retried_create_is_answered_again_and_writes_nothing,
    a_retried_update_is_answered_again_and_writes_nothing,
    a_retried_delete_is_answered_again_and_writes_nothing,
    a_retried_batch_is_answered_again_and_writes_nothing,
    a_retried_batch_of_a_hundred_is_answered_again,
    a_retry_after_another_device_wrote_is_answered_from_its_receipt,
    a_retry_after_its_records_were_deleted_is_answered_from_its_receipt,
    a_retried_insert_with_a_base_version_is_still_version_1,
    a_batch_of_old_and_new_writes_applies_only_the_new_ones,
    the_same_create_by_two_devices_is_one_write,
    the_same_create_with_base_0_and_null_is_one_write,
    the_same_operations_in_another_order_are_another_push,
    a_retry_with_the_epoch_is_answered_as_without_it,
    a_retry_with_a_wrong_epoch_reports_a_changed_epoch,
    two_batches_that_are_equal_when_concatenated_are_different,
);

/// Repeats a push at several times. It must return the same versions, and change nothing.
async fn check_replay(
    store: &TestStore,
    vault: &vaultsync_store::Vault,
    operations: &[vaultsync_protocol::Operation],
    expected: &[(&str, i64)],
) {
    let before = store.state(vault).await;
    for now in [NOW, NOW + HOUR, NOW - HOUR] {
        let written = store.push_applied_at(vault, operations, now).await;
        assert_eq!(versions(&written), expected);
        assert_eq!(store.state(vault).await, before, "a retry writes nothing");
    }
}

async fn a_retried_create_is_answered_again_and_writes_nothing(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    check_replay(&store, &vault, &[create("a", "v1")], &[("a", 1)]).await;
}

async fn a_retried_update_is_answered_again_and_writes_nothing(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    store.push_applied(&vault, &[update("a", 1, "v2")]).await;
    check_replay(&store, &vault, &[update("a", 1, "v2")], &[("a", 2)]).await;
}

async fn a_retried_delete_is_answered_again_and_writes_nothing(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    store.push_applied(&vault, &[delete("a", 1)]).await;
    check_replay(&store, &vault, &[delete("a", 1)], &[("a", 2)]).await;
}

async fn a_retried_batch_is_answered_again_and_writes_nothing(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 3)).await;
    let operations = [create("a", "v1"), update("r1", 1, "v2"), delete("r0", 1)];
    store.push_applied(&vault, &operations).await;
    check_replay(&store, &vault, &operations, &[("a", 1), ("r1", 2), ("r0", 2)]).await;
}

async fn a_retried_batch_of_a_hundred_is_answered_again(store: TestStore) {
    let vault = user();
    // Every third operation is an insert with a base version.
    let operations: Vec<_> = (0..100)
        .map(|n| operation(&format!("r{n}"), (n % 3 == 0).then_some(n + 1), "v1", false))
        .collect();
    let first = store.push_applied(&vault, &operations).await;
    let updates: Vec<_> = (0..100).map(|n| update(&format!("r{n}"), 1, "v2")).collect();
    store.push_applied(&vault, &updates).await;
    let before = store.state(&vault).await;
    assert_eq!(store.push_applied(&vault, &operations).await, first);
    assert_eq!(store.state(&vault).await, before);
}

async fn a_retry_after_another_device_wrote_is_answered_from_its_receipt(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 3)).await;
    let operations = [create("a", "v1"), update("r1", 1, "mine"), update("r2", 1, "mine")];
    store.push_applied(&vault, &operations).await;
    store.push_applied(&vault, &[update("r1", 2, "another device's"), update("a", 1, "too")]).await;
    check_replay(&store, &vault, &operations, &[("a", 1), ("r1", 2), ("r2", 2)]).await;
    let records = store.summaries(&vault).await;
    assert!(records.contains(&live("r1", 3, "another device's")));
}

async fn a_retry_after_its_records_were_deleted_is_answered_from_its_receipt(store: TestStore) {
    let vault = user();
    let operations = [create("a", "v1"), create("b", "v1")];
    store.push_applied(&vault, &operations).await;
    store.push_applied(&vault, &[delete("a", 1), delete("b", 1)]).await;
    check_replay(&store, &vault, &operations, &[("a", 1), ("b", 1)]).await;
}

async fn a_retried_insert_with_a_base_version_is_still_version_1(store: TestStore) {
    let vault = user();
    let operations = [create("a", "v1"), update("b", 7, "v1"), update("c", 0, "v1")];
    let expected = [("a", 1), ("b", 1), ("c", 1)];
    assert_eq!(versions(&store.push_applied(&vault, &operations).await), expected);
    check_replay(&store, &vault, &operations, &expected).await;
    store.push_applied(&vault, &[update("b", 1, "v2"), update("a", 1, "v2")]).await;
    check_replay(&store, &vault, &operations, &expected).await;
}

async fn a_batch_of_old_and_new_writes_applies_only_the_new_ones(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 3)).await;
    let before = store.pull_all(&vault, 100).await;
    let operations =
        [create("a", "v1"), create("r1", "r1 v1"), update("r2", 1, "v2"), create("r0", "r0 v1")];
    let expected = [("a", 1), ("r1", 1), ("r2", 2), ("r0", 1)];
    assert_eq!(versions(&store.push_applied(&vault, &operations).await), expected);
    let after = store.pull_all(&vault, 100).await;
    assert_eq!(after[..2], before[..2], "records that were written before are unchanged");
    assert_eq!(after.len(), 4);
    assert_eq!(after[3].updated_at.as_millis(), store.head(&vault).await);
    check_replay(&store, &vault, &operations, &expected).await;
    // After another device has updated those records, the response is still the same.
    store.push_applied(&vault, &[update("r1", 1, "theirs"), update("a", 1, "theirs")]).await;
    check_replay(&store, &vault, &operations, &expected).await;
}

async fn the_same_create_by_two_devices_is_one_write(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "same"), create("b", "one's")]).await;
    let before = store.state(&vault).await;
    let written = store.push_applied(&vault, &[create("a", "same")]).await;
    assert_eq!(versions(&written), [("a", 1)]);
    assert_eq!(store.state(&vault).await, before);
}

async fn the_same_create_with_base_0_and_null_is_one_write(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    check_replay(&store, &vault, &[update("a", 0, "v1")], &[("a", 1)]).await;
    store.push_applied(&vault, &[update("b", 0, "v1")]).await;
    check_replay(&store, &vault, &[create("b", "v1")], &[("b", 1)]).await;
}

async fn the_same_operations_in_another_order_are_another_push(store: TestStore) {
    let vault = user();
    let (a, b) = (create("a", "v1"), create("b", "v1"));
    store.push_applied(&vault, &[a.clone(), b.clone()]).await;
    store.push_applied(&vault, &[update("a", 1, "theirs")]).await;
    let refused = store.push_refused(&vault, &[b, a]).await;
    assert_eq!(conflicts(&refused), [live("a", 2, "theirs")]);
}

async fn a_retry_with_the_epoch_is_answered_as_without_it(store: TestStore) {
    let vault = user();
    // An insert with a base version: without its receipt, the epoch would make it a conflict.
    let operations = [update("a", 7, "v1"), create("b", "v1")];
    let first = store.push_applied(&vault, &operations).await;
    store.push_applied(&vault, &[update("a", 1, "theirs")]).await;
    let (epoch, before) = (store.epoch(&vault).await, store.state(&vault).await);
    let again = store.push_with_epoch(&vault, &epoch, &operations).await;
    assert_eq!(again, PushOutcome::Applied { results: first, head_change: None });
    assert_eq!(store.state(&vault).await, before);
}

async fn a_retry_with_a_wrong_epoch_reports_a_changed_epoch(store: TestStore) {
    let vault = user();
    let operations = [create("a", "v1")];
    store.push_applied(&vault, &operations).await;
    let again = store.push(&vault, batch(&operations, Some("another")), NOW).await;
    assert_eq!(again, PushOutcome::EpochChanged);
}

async fn two_batches_that_are_equal_when_concatenated_are_different(store: TestStore) {
    // The same bytes, divided differently into ids, ciphertexts and operations.
    let batches = [
        vec![create("ab", "cd")],
        vec![create("a", "bcd")],
        vec![create("abc", "d")],
        vec![create("a", "b"), create("c", "d")],
        vec![create("a", "b"), create("cd", "e")],
        vec![operation("ab", None, "cd", true)],
    ];
    for first in &batches {
        for second in batches.iter().filter(|second| *second != first) {
            let vault = user();
            store.push_applied(&vault, first).await;
            let before = store.state(&vault).await;
            let taken_for_a_retry = matches!(
                store.try_push(&vault, second).await,
                PushOutcome::Applied { .. } if store.state(&vault).await == before
            );
            assert!(!taken_for_a_retry, "{second:?} after {first:?}");
        }
    }
}
