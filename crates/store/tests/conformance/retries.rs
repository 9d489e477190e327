//! A push whose answer was lost and that is sent again: the same answer, and nothing written.

use vaultsync_store::PushOutcome;

use crate::{
    dsl::{
        HOUR, NOW, create, creates, delete, in_the_way, live, operation, update, user, versions,
    },
    support::{TestStore, batch},
};

backends!(
    a_create_sent_again_is_answered_again_and_writes_nothing,
    an_update_sent_again_is_answered_again_and_writes_nothing,
    a_delete_sent_again_is_answered_again_and_writes_nothing,
    a_batch_sent_again_is_answered_again_and_writes_nothing,
    a_batch_of_a_hundred_sent_again_is_answered_again,
    a_batch_sent_again_after_another_device_wrote_is_answered_as_it_was,
    a_batch_sent_again_after_its_records_were_deleted_is_answered_as_it_was,
    an_insert_with_a_base_version_sent_again_is_still_version_1,
    a_held_write_with_new_ones_writes_only_the_new_ones,
    a_create_by_two_devices_of_the_same_bytes_is_one_write,
    the_same_write_under_base_0_and_null_is_one_write,
    the_same_operations_in_another_order_are_another_push,
    a_retry_with_the_epoch_is_answered_as_without_it,
    a_retry_with_a_wrong_epoch_is_not_answered,
    two_batches_that_read_alike_when_joined_are_two,
);

/// Sends a push again at several times; it must answer the same, and change nothing.
async fn check_replay(
    store: &TestStore,
    vault: &vaultsync_store::Vault,
    operations: &[vaultsync_protocol::Operation],
    expected: &[(&str, i64)],
) {
    let before = store.state(vault).await;
    for now in [NOW, NOW + HOUR, NOW - HOUR] {
        let written = store.applied_at(vault, operations, now).await;
        assert_eq!(versions(&written), expected);
        assert_eq!(store.state(vault).await, before, "a retry writes nothing");
    }
}

async fn a_create_sent_again_is_answered_again_and_writes_nothing(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    check_replay(&store, &vault, &[create("a", "v1")], &[("a", 1)]).await;
}

async fn an_update_sent_again_is_answered_again_and_writes_nothing(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    store.applied(&vault, &[update("a", 1, "v2")]).await;
    check_replay(&store, &vault, &[update("a", 1, "v2")], &[("a", 2)]).await;
}

async fn a_delete_sent_again_is_answered_again_and_writes_nothing(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    store.applied(&vault, &[delete("a", 1)]).await;
    check_replay(&store, &vault, &[delete("a", 1)], &[("a", 2)]).await;
}

async fn a_batch_sent_again_is_answered_again_and_writes_nothing(store: TestStore) {
    let vault = user();
    store.applied(&vault, &creates("r", 3)).await;
    let operations = [create("a", "v1"), update("r1", 1, "v2"), delete("r0", 1)];
    store.applied(&vault, &operations).await;
    check_replay(&store, &vault, &operations, &[("a", 1), ("r1", 2), ("r0", 2)]).await;
}

async fn a_batch_of_a_hundred_sent_again_is_answered_again(store: TestStore) {
    let vault = user();
    // Every third one is an insert with a base version, so that the answer differs by place.
    let operations: Vec<_> = (0..100)
        .map(|n| operation(&format!("r{n}"), (n % 3 == 0).then_some(n + 1), "v1", false))
        .collect();
    let first = store.applied(&vault, &operations).await;
    let updates: Vec<_> = (0..100).map(|n| update(&format!("r{n}"), 1, "v2")).collect();
    store.applied(&vault, &updates).await;
    let before = store.state(&vault).await;
    assert_eq!(store.applied(&vault, &operations).await, first);
    assert_eq!(store.state(&vault).await, before);
}

async fn a_batch_sent_again_after_another_device_wrote_is_answered_as_it_was(store: TestStore) {
    let vault = user();
    store.applied(&vault, &creates("r", 3)).await;
    let operations = [create("a", "v1"), update("r1", 1, "mine"), update("r2", 1, "mine")];
    store.applied(&vault, &operations).await;
    store.applied(&vault, &[update("r1", 2, "another device's"), update("a", 1, "too")]).await;
    check_replay(&store, &vault, &operations, &[("a", 1), ("r1", 2), ("r2", 2)]).await;
    let stands = store.all(&vault).await;
    assert!(stands.contains(&live("r1", 3, "another device's")));
}

async fn a_batch_sent_again_after_its_records_were_deleted_is_answered_as_it_was(store: TestStore) {
    let vault = user();
    let operations = [create("a", "v1"), create("b", "v1")];
    store.applied(&vault, &operations).await;
    store.applied(&vault, &[delete("a", 1), delete("b", 1)]).await;
    check_replay(&store, &vault, &operations, &[("a", 1), ("b", 1)]).await;
}

async fn an_insert_with_a_base_version_sent_again_is_still_version_1(store: TestStore) {
    let vault = user();
    let operations = [create("a", "v1"), update("b", 7, "v1"), update("c", 0, "v1")];
    let expected = [("a", 1), ("b", 1), ("c", 1)];
    assert_eq!(versions(&store.applied(&vault, &operations).await), expected);
    check_replay(&store, &vault, &operations, &expected).await;
    store.applied(&vault, &[update("b", 1, "v2"), update("a", 1, "v2")]).await;
    check_replay(&store, &vault, &operations, &expected).await;
}

async fn a_held_write_with_new_ones_writes_only_the_new_ones(store: TestStore) {
    let vault = user();
    store.applied(&vault, &creates("r", 3)).await;
    let before = store.follow(&vault, 100).await;
    let operations =
        [create("a", "v1"), create("r1", "r1 v1"), update("r2", 1, "v2"), create("r0", "r0 v1")];
    let expected = [("a", 1), ("r1", 1), ("r2", 2), ("r0", 1)];
    assert_eq!(versions(&store.applied(&vault, &operations).await), expected);
    let after = store.follow(&vault, 100).await;
    assert_eq!(after[..2], before[..2], "what was held is as it was");
    assert_eq!(after.len(), 4);
    assert_eq!(after[3].updated_at.as_millis(), store.head(&vault).await);
    check_replay(&store, &vault, &operations, &expected).await;
    // And once another device wrote what was held, the answer is still that one.
    store.applied(&vault, &[update("r1", 1, "theirs"), update("a", 1, "theirs")]).await;
    check_replay(&store, &vault, &operations, &expected).await;
}

async fn a_create_by_two_devices_of_the_same_bytes_is_one_write(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "same"), create("b", "one's")]).await;
    let before = store.state(&vault).await;
    let written = store.applied(&vault, &[create("a", "same")]).await;
    assert_eq!(versions(&written), [("a", 1)]);
    assert_eq!(store.state(&vault).await, before);
}

async fn the_same_write_under_base_0_and_null_is_one_write(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    check_replay(&store, &vault, &[update("a", 0, "v1")], &[("a", 1)]).await;
    store.applied(&vault, &[update("b", 0, "v1")]).await;
    check_replay(&store, &vault, &[create("b", "v1")], &[("b", 1)]).await;
}

async fn the_same_operations_in_another_order_are_another_push(store: TestStore) {
    let vault = user();
    let (a, b) = (create("a", "v1"), create("b", "v1"));
    store.applied(&vault, &[a.clone(), b.clone()]).await;
    store.applied(&vault, &[update("a", 1, "theirs")]).await;
    let refused = store.refused(&vault, &[b, a]).await;
    assert_eq!(in_the_way(&refused), [live("a", 2, "theirs")]);
}

async fn a_retry_with_the_epoch_is_answered_as_without_it(store: TestStore) {
    let vault = user();
    // An insert with a base version: with the epoch alone it would be a conflict.
    let operations = [update("a", 7, "v1"), create("b", "v1")];
    let first = store.applied(&vault, &operations).await;
    store.applied(&vault, &[update("a", 1, "theirs")]).await;
    let (epoch, before) = (store.epoch(&vault).await, store.state(&vault).await);
    let again = store.push_in(&vault, &epoch, &operations).await;
    assert_eq!(again, PushOutcome::Applied(first));
    assert_eq!(store.state(&vault).await, before);
}

async fn a_retry_with_a_wrong_epoch_is_not_answered(store: TestStore) {
    let vault = user();
    let operations = [create("a", "v1")];
    store.applied(&vault, &operations).await;
    let again = store.push(&vault, batch(&operations, Some("another")), NOW).await;
    assert_eq!(again, PushOutcome::EpochChanged);
}

async fn two_batches_that_read_alike_when_joined_are_two(store: TestStore) {
    // The same bytes, cut into id, ciphertext and operations at other places.
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
            store.applied(&vault, first).await;
            let before = store.state(&vault).await;
            let taken_for_a_retry = matches!(
                store.try_push(&vault, second).await,
                PushOutcome::Applied(_) if store.state(&vault).await == before
            );
            assert!(!taken_for_a_retry, "{second:?} after {first:?}");
        }
    }
}
