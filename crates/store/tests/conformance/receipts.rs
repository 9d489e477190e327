//! Receipts: a push is remembered until 32 other pushes of its vault have followed it.

use vaultsync_protocol::Operation;
use vaultsync_store::{PushOutcome, RECEIPTS_MAX, Vault};

use crate::{
    dsl::{conflicts, create, creates, delete, live, update, user, versions},
    support::TestStore,
};

backends!(
    a_push_is_remembered_over_31_others_and_not_over_32,
    pushes_of_other_vaults_do_not_count,
    refused_and_empty_pushes_and_retries_do_not_count,
    a_forgotten_push_whose_records_are_untouched_is_still_a_retry,
    a_batch_of_writes_applied_before_has_a_receipt_of_its_own,
    each_of_the_last_32_pushes_is_remembered,
    receipts_survive_a_restart,
    a_remembered_insert_conflicts_from_its_base_version_on,
    a_remembered_insert_is_answered_as_before_below_its_base_version,
    a_remembered_batch_is_a_new_one_only_after_its_receipt_has_aged_out,
    a_retry_never_overwrites_what_others_wrote_meanwhile,
);

/// A push that can be answered only from its receipt: another device has updated its records.
async fn overtaken(store: &TestStore, vault: &Vault) -> Vec<Operation> {
    let operations = vec![create("mine", "v1"), update("inserted", 9, "v1")];
    store.push_applied(vault, &operations).await;
    store.push_applied(vault, &[update("mine", 1, "theirs")]).await;
    operations
}

/// `count` pushes of other records.
async fn others(store: &TestStore, vault: &Vault, count: usize) {
    for operation in creates("other", count) {
        store.push_applied(vault, &[operation]).await;
    }
}

async fn a_push_is_remembered_over_31_others_and_not_over_32(store: TestStore) {
    assert_eq!(RECEIPTS_MAX, 32);
    let vault = user();
    let mine = overtaken(&store, &vault).await;
    // One other push has followed already.
    others(&store, &vault, RECEIPTS_MAX - 2).await;
    let before = store.state(&vault).await;
    let written = store.push_applied(&vault, &mine).await;
    assert_eq!(versions(&written), [("mine", 1), ("inserted", 1)]);
    assert_eq!(store.state(&vault).await, before);

    store.push_applied(&vault, &[create("one more", "v1")]).await;
    let before = store.state(&vault).await;
    let refused = store.push_refused(&vault, &mine).await;
    // Both conflict: an insert above version 1 is recognised only by its receipt.
    assert_eq!(conflicts(&refused), [live("mine", 2, "theirs"), live("inserted", 1, "v1")]);
    assert_eq!(store.state(&vault).await, before);
}

async fn pushes_of_other_vaults_do_not_count(store: TestStore) {
    let (vault, another) = (user(), user());
    let mine = overtaken(&store, &vault).await;
    others(&store, &another, RECEIPTS_MAX + 5).await;
    store.push_applied(&vault, &mine).await;
}

async fn refused_and_empty_pushes_and_retries_do_not_count(store: TestStore) {
    let vault = user();
    let mine = overtaken(&store, &vault).await;
    for n in 0..RECEIPTS_MAX + 5 {
        store.push_refused(&vault, &[update("mine", 7, &format!("refused {n}"))]).await;
        store.push_applied(&vault, &[]).await;
        store.push_applied(&vault, &[update("mine", 1, "theirs")]).await;
    }
    store.push_applied(&vault, &mine).await;
}

async fn a_forgotten_push_whose_records_are_untouched_is_still_a_retry(store: TestStore) {
    let vault = user();
    let mine = [create("mine", "v1"), create("mine too", "v1")];
    store.push_applied(&vault, &mine).await;
    others(&store, &vault, RECEIPTS_MAX + 5).await;
    let before = store.state(&vault).await;
    let written = store.push_applied(&vault, &mine).await;
    assert_eq!(versions(&written), [("mine", 1), ("mine too", 1)]);
    assert_eq!(store.state(&vault).await, before);
}

async fn a_batch_of_writes_applied_before_has_a_receipt_of_its_own(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    store.push_applied(&vault, &[create("b", "v1")]).await;
    let together = [create("b", "v1"), create("a", "v1")];
    let before = store.state(&vault).await;
    assert_eq!(versions(&store.push_applied(&vault, &together).await), [("b", 1), ("a", 1)]);
    assert_eq!(store.state(&vault).await, before, "nothing was left to write");
    store.push_applied(&vault, &[update("a", 1, "theirs"), update("b", 1, "theirs")]).await;
    let before = store.state(&vault).await;
    assert_eq!(versions(&store.push_applied(&vault, &together).await), [("b", 1), ("a", 1)]);
    assert_eq!(store.state(&vault).await, before);
}

async fn each_of_the_last_32_pushes_is_remembered(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    let pushes: Vec<_> =
        (1..=40).map(|base| [update("a", base, &format!("after {base}"))]).collect();
    for push in &pushes {
        store.push_applied(&vault, push).await;
    }
    let before = store.state(&vault).await;
    let (forgotten, remembered) = pushes.split_at(pushes.len() - RECEIPTS_MAX);
    for (push, version) in remembered.iter().zip(10..) {
        assert_eq!(versions(&store.push_applied(&vault, push).await), [("a", version)]);
    }
    for push in forgotten {
        store.push_refused(&vault, push).await;
    }
    assert_eq!(store.state(&vault).await, before);
}

async fn receipts_survive_a_restart(store: TestStore) {
    let vault = user();
    let mine = overtaken(&store, &vault).await;
    let store = store.reopen().await;
    let written = store.push_applied(&vault, &mine).await;
    assert_eq!(versions(&written), [("mine", 1), ("inserted", 1)]);
}

async fn a_remembered_insert_conflicts_from_its_base_version_on(store: TestStore) {
    let vault = user();
    let delete_at_2 = [delete("a", 2), create("other", "v1")];
    let written = store.push_applied(&vault, &delete_at_2).await;
    assert_eq!(versions(&written), [("a", 1), ("other", 1)]);
    store.push_applied(&vault, &[update("a", 1, "live again")]).await;
    // The same bytes may be a retry, or a delete of the live record: to answer them as before would
    // drop the delete, and to write them would overwrite what a retrying client has not seen.
    for _ in 0..3 {
        let before = store.state(&vault).await;
        let refused = store.push_refused(&vault, &delete_at_2).await;
        assert_eq!(conflicts(&refused), [live("a", 2, "live again")]);
        assert_eq!(store.state(&vault).await, before);
    }
    // A client that has seen the conflict deletes the record in a batch with other bytes.
    let written = store.push_applied(&vault, &[delete("a", 2)]).await;
    assert_eq!(versions(&written), [("a", 3)]);
    let refused = store.push_refused(&vault, &delete_at_2).await;
    assert_eq!(conflicts(&refused), [("a".to_owned(), 3, Vec::new(), true)]);
}

async fn a_remembered_insert_is_answered_as_before_below_its_base_version(store: TestStore) {
    let vault = user();
    let inserted = [update("a", 3, "v1"), update("b", 1, "v1")];
    store.push_applied(&vault, &inserted).await;
    for version in 1..=2 {
        for id in ["a", "b"] {
            store.push_applied(&vault, &[update(id, version, "theirs")]).await;
        }
        if version == 1 {
            let written = store.push_applied(&vault, &inserted).await;
            assert_eq!(versions(&written), [("a", 1), ("b", 1)]);
        }
    }
    let refused = store.push_refused(&vault, &inserted).await;
    assert_eq!(conflicts(&refused), [live("a", 3, "theirs")]);
}

async fn a_remembered_batch_is_a_new_one_only_after_its_receipt_has_aged_out(store: TestStore) {
    let vault = user();
    let inserted = [update("a", 2, "mine")];
    store.push_applied(&vault, &inserted).await;
    store.push_applied(&vault, &[update("a", 1, "theirs")]).await;
    // One other push lies between already.
    for count in 2..RECEIPTS_MAX {
        let refused = store.push_refused(&vault, &inserted).await;
        assert_eq!(conflicts(&refused), [live("a", 2, "theirs")], "after {count} pushes");
        store.push_applied(&vault, &[create(&format!("other {count}"), "v1")]).await;
    }
    store.push_refused(&vault, &inserted).await;
    store.push_applied(&vault, &[create("the last", "v1")]).await;
    assert_eq!(versions(&store.push_applied(&vault, &inserted).await), [("a", 3)]);
}

/// A client pushes an update of a record that the server does not have, loses the response, and retries
/// it after others have written any number of versions. Whatever they wrote is never overwritten.
async fn a_retry_never_overwrites_what_others_wrote_meanwhile(store: TestStore) {
    for base in 1..=4 {
        for others in 0..=5 {
            let vault = user();
            let mine = [update("a", base, "mine")];
            let first = store.push_applied(&vault, &mine).await;
            assert_eq!(versions(&first), [("a", 1)]);
            for version in 1..=others {
                store
                    .push_applied(&vault, &[update("a", version, &format!("theirs {version}"))])
                    .await;
            }
            let before = store.state(&vault).await;
            for _ in 0..2 {
                match store.try_push(&vault, &mine).await {
                    PushOutcome::Applied { results: written, .. } => {
                        assert_eq!(written, first);
                        assert!(base == 1 || others + 1 < base, "base {base}, {others} others");
                    }
                    PushOutcome::Refused(refused) => {
                        let current = live("a", others + 1, &format!("theirs {others}"));
                        assert_eq!(conflicts(&refused), [current]);
                        assert!(base > 1 && others + 1 >= base, "base {base}, {others} others");
                    }
                    other => panic!("neither an epoch nor a limit is set: {other:?}"),
                }
                assert_eq!(store.state(&vault).await, before);
            }
        }
    }
}
