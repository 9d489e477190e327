//! Guards: a push is applied only if records that it does not write are at the versions that it names.

use serde_json::json;
use vaultsync_protocol::{Push, Written};
use vaultsync_store::{PushOutcome, Refused};

use crate::{
    dsl::{NOW, conflicts, create, creates, delete, live, update, user, versions},
    support::{TestStore, batch_with},
};

backends!(
    a_guard_that_holds_lets_the_push_through,
    a_guard_that_does_not_hold_is_a_conflict,
    a_guard_of_version_0_holds_if_there_is_no_record,
    conflicts_of_guards_come_first_and_are_marked,
    guards_of_a_retry_are_not_checked,
    a_guard_on_a_vault_that_does_not_exist,
    two_pushes_with_guards_on_each_other_are_not_both_applied,
);

/// A push with guards.
fn guarded(operations: &[vaultsync_protocol::Operation], guards: &[(&str, i64)]) -> Push {
    let guards: Vec<_> =
        guards.iter().map(|(id, version)| json!({ "recordId": id, "version": version })).collect();
    batch_with(operations, json!({ "guards": guards }))
}

fn applied(outcome: PushOutcome) -> Vec<Written> {
    match outcome {
        PushOutcome::Applied { results: written, .. } => written,
        other => panic!("not applied: {other:?}"),
    }
}

fn refused(outcome: PushOutcome) -> Refused {
    match outcome {
        PushOutcome::Refused(refused) => refused,
        other => panic!("not refused: {other:?}"),
    }
}

async fn a_guard_that_holds_lets_the_push_through(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("key", "k1")]).await;
    let push = guarded(&[create("a", "v1")], &[("key", 1)]);
    assert_eq!(versions(&applied(store.push(&vault, push, NOW).await)), [("a", 1)]);
    assert_eq!(store.summaries(&vault).await, [live("key", 1, "k1"), live("a", 1, "v1")]);
}

async fn a_guard_that_does_not_hold_is_a_conflict(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("key", "k1")]).await;
    store.push_applied(&vault, &[update("key", 1, "k2")]).await;
    let before = store.state(&vault).await;
    for version in [0, 1, 3] {
        let push = guarded(&[create("a", "v1")], &[("key", version)]);
        let refused = refused(store.push(&vault, push, NOW).await);
        assert_eq!(conflicts(&refused), [live("key", 2, "k2")], "{version}");
        assert!(refused.conflicts[0].guard && !refused.has_more);
    }
    assert_eq!(store.state(&vault).await, before);
}

async fn a_guard_of_version_0_holds_if_there_is_no_record(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 1)).await;
    let absent = guarded(&[create("a", "v1")], &[("key", 0)]);
    applied(store.push(&vault, absent, NOW).await);
    store.push_applied(&vault, &[delete("r0", 1)]).await;
    let tombstone = guarded(&[create("b", "v1")], &[("r0", 0)]);
    let refused = refused(store.push(&vault, tombstone, NOW).await);
    assert_eq!(conflicts(&refused), [("r0".to_owned(), 2, Vec::new(), true)]);
}

async fn conflicts_of_guards_come_first_and_are_marked(store: TestStore) {
    for (page_bytes_max, expected) in [(100, 5), (12, 3), (9, 2), (1, 1)] {
        let store = store.with_page_bytes_max(page_bytes_max).await;
        let vault = user();
        store.push_applied(&vault, &creates("r", 4)).await;
        let operations = [create("r0", "x"), create("r1", "x")];
        let push = guarded(&operations, &[("r2", 7), ("none", 3), ("r3", 2)]);
        let refused = refused(store.push(&vault, push, NOW).await);
        let all = [
            live("r2", 1, "r2 v1"),
            ("none".to_owned(), 0, Vec::new(), true),
            live("r3", 1, "r3 v1"),
            live("r0", 1, "r0 v1"),
            live("r1", 1, "r1 v1"),
        ];
        assert_eq!(conflicts(&refused), all[..expected]);
        let marked: Vec<_> = refused.conflicts.iter().map(|conflict| conflict.guard).collect();
        assert_eq!(marked, [true, true, true, false, false][..expected]);
        assert_eq!(refused.has_more, expected < 5);
    }
}

async fn guards_of_a_retry_are_not_checked(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("key", "k1")]).await;
    let push = guarded(&[create("a", "v1")], &[("key", 1)]);
    let first = applied(store.push(&vault, push.clone(), NOW).await);
    store.push_applied(&vault, &[update("key", 1, "k2"), update("a", 1, "v2")]).await;
    assert_eq!(applied(store.push(&vault, push, NOW).await), first, "it has a receipt");
    // Another batch, whose record holds its write already.
    store.push_applied(&vault, &[create("b", "v1")]).await;
    let held = guarded(&[create("b", "v1")], &[("key", 1)]);
    assert_eq!(versions(&applied(store.push(&vault, held, NOW).await)), [("b", 1)]);
}

async fn a_guard_on_a_vault_that_does_not_exist(store: TestStore) {
    let vault = user();
    let refused =
        refused(store.push(&vault, guarded(&[create("a", "v1")], &[("key", 1)]), NOW).await);
    assert_eq!(conflicts(&refused), [("key".to_owned(), 0, Vec::new(), true)]);
    assert_eq!(store.state(&vault).await, (None, None, Vec::new()));
    applied(store.push(&vault, guarded(&[create("a", "v1")], &[("key", 0)]), NOW).await);
}

/// The write skew that an unlocked check would allow.
async fn two_pushes_with_guards_on_each_other_are_not_both_applied(store: TestStore) {
    for round in 0..20 {
        let vault = user();
        store.push_applied(&vault, &[create("a", "v1"), create("b", "v1")]).await;
        let one = guarded(&[update("a", 1, "v2")], &[("b", 1)]);
        let two = guarded(&[update("b", 1, "v2")], &[("a", 1)]);
        let (one, two) = tokio::join!(store.push(&vault, one, NOW), store.push(&vault, two, NOW));
        let is_applied = |outcome: &PushOutcome| matches!(outcome, PushOutcome::Applied { .. });
        assert!(is_applied(&one) != is_applied(&two), "round {round}: {one:?} {two:?}");
    }
}
