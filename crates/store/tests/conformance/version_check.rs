//! The version check of one operation: each row of the protocol's table, and the resulting versions.

use vaultsync_protocol::Version;
use vaultsync_store::PushOutcome;

use crate::{
    dsl::{conflicts, create, creates, delete, live, operation, update, user, versions},
    support::TestStore,
};

backends!(
    a_create_of_an_unknown_record_is_version_1,
    an_unknown_record_is_inserted_as_version_1_with_any_base_version,
    an_update_at_the_current_version_writes_the_next_one,
    an_update_with_the_same_bytes_is_a_new_version,
    a_create_of_an_existing_record_is_a_conflict,
    a_base_version_other_than_the_current_one_is_a_conflict,
    base_version_0_never_matches_an_existing_record,
    a_conflict_contains_the_current_record,
    the_same_ciphertext_with_another_deleted_is_not_a_retry,
    results_are_in_the_order_of_the_operations,
    a_batch_may_create_update_and_delete,
    an_empty_push_is_applied_and_creates_no_vault,
    a_batch_of_a_hundred_operations_is_applied,
    refused_pushes_leave_no_gaps_between_versions,
);

async fn a_create_of_an_unknown_record_is_version_1(store: TestStore) {
    let vault = user();
    let written = store.push_applied(&vault, &[create("a", "one")]).await;
    assert_eq!(versions(&written), [("a", 1)]);
    assert_eq!(store.summaries(&vault).await, [live("a", 1, "one")]);
}

async fn an_unknown_record_is_inserted_as_version_1_with_any_base_version(store: TestStore) {
    let vault = user();
    for (id, base) in [("a", 0), ("b", 1), ("c", 7), ("d", Version::MAX.get())] {
        let written = store.push_applied(&vault, &[update(id, base, "one")]).await;
        assert_eq!(versions(&written), [(id, 1)], "base version {base}");
        assert_eq!(store.summaries(&vault).await.pop(), Some(live(id, 1, "one")));
    }
}

async fn an_update_at_the_current_version_writes_the_next_one(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    for base in 1..20 {
        let text = format!("v{}", base + 1);
        let written = store.push_applied(&vault, &[update("a", base, &text)]).await;
        assert_eq!(versions(&written), [("a", base + 1)]);
        assert_eq!(store.summaries(&vault).await, [live("a", base + 1, &text)]);
    }
}

async fn an_update_with_the_same_bytes_is_a_new_version(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "same")]).await;
    let before = store.head(&vault).await;
    let written = store.push_applied(&vault, &[update("a", 1, "same")]).await;
    assert_eq!(versions(&written), [("a", 2)]);
    assert!(store.head(&vault).await > before);
}

async fn a_create_of_an_existing_record_is_a_conflict(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "first")]).await;
    let refused = store.push_refused(&vault, &[create("a", "second")]).await;
    assert_eq!(conflicts(&refused), [live("a", 1, "first")]);
    // The record is no longer at version 1, so this is not a retry either.
    store.push_applied(&vault, &[update("a", 1, "third"), create("b", "b")]).await;
    store.push_refused(&vault, &[create("a", "third")]).await;
    assert_eq!(store.summaries(&vault).await, [live("a", 2, "third"), live("b", 1, "b")]);
}

async fn a_base_version_other_than_the_current_one_is_a_conflict(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    store.push_applied(&vault, &[update("a", 1, "v2")]).await;
    store.push_applied(&vault, &[update("a", 2, "v3")]).await;
    for base in [1, 2, 4, 5, Version::MAX.get()] {
        let refused = store.push_refused(&vault, &[update("a", base, "mine")]).await;
        assert_eq!(conflicts(&refused), [live("a", 3, "v3")], "base version {base}");
        assert!(!refused.has_more);
    }
    // The stored bytes, but with another next version.
    store.push_refused(&vault, &[update("a", 1, "v3")]).await;
    store.push_refused(&vault, &[update("a", 4, "v3")]).await;
    assert_eq!(store.summaries(&vault).await, [live("a", 3, "v3")]);
}

async fn base_version_0_never_matches_an_existing_record(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    let refused = store.push_refused(&vault, &[update("a", 0, "mine")]).await;
    assert_eq!(conflicts(&refused), [live("a", 1, "v1")]);
}

async fn a_conflict_contains_the_current_record(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1"), create("b", "v1"), create("c", "v1")]).await;
    store.push_applied(&vault, &[delete("b", 1), operation("c", Some(1), "why", true)]).await;
    let (_, _, records) = store.state(&vault).await;
    let conflicts =
        store.push_refused(&vault, &["c", "a", "b"].map(|id| create(id, "x"))).await.conflicts;
    assert_eq!(conflicts.len(), 3);
    for conflict in conflicts {
        let record = records.iter().find(|record| record.record_id == conflict.record_id).unwrap();
        assert_eq!(conflict.current_version, record.version);
        assert_eq!(conflict.ciphertext, record.ciphertext);
        assert_eq!(conflict.deleted, record.deleted);
        assert_eq!(conflict.updated_at, Some(record.updated_at));
    }
}

async fn the_same_ciphertext_with_another_deleted_is_not_a_retry(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "same")]).await;
    let refused = store.push_refused(&vault, &[operation("a", None, "same", true)]).await;
    assert_eq!(conflicts(&refused), [live("a", 1, "same")]);
    store.push_applied(&vault, &[operation("a", Some(1), "same", true)]).await;
    store.push_refused(&vault, &[operation("a", Some(1), "same", false)]).await;
}

async fn results_are_in_the_order_of_the_operations(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("m", "1"), create("z", "1")]).await;
    let operations = [
        create("b", "1"),
        update("z", 1, "2"),
        create("a", "1"),
        update("m", 1, "2"),
        create("C", "1"),
        update("0", 5, "1"),
    ];
    let written = store.push_applied(&vault, &operations).await;
    let expected = [("b", 1), ("z", 2), ("a", 1), ("m", 2), ("C", 1), ("0", 1)];
    assert_eq!(versions(&written), expected);
    let ids: Vec<_> = store.summaries(&vault).await.into_iter().map(|(id, ..)| id).collect();
    assert_eq!(ids, ["b", "z", "a", "m", "C", "0"], "and so are the records");
}

async fn a_batch_may_create_update_and_delete(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "a1"), create("b", "b1")]).await;
    let written = store
        .push_applied(&vault, &[create("c", "c1"), update("a", 1, "a2"), delete("b", 1)])
        .await;
    assert_eq!(versions(&written), [("c", 1), ("a", 2), ("b", 2)]);
    let tombstone = ("b".to_owned(), 2, Vec::new(), true);
    assert_eq!(store.summaries(&vault).await, [live("c", 1, "c1"), live("a", 2, "a2"), tombstone]);
}

async fn an_empty_push_is_applied_and_creates_no_vault(store: TestStore) {
    let vault = user();
    assert_eq!(
        store.try_push(&vault, &[]).await,
        PushOutcome::Applied { results: Vec::new(), head_change: None }
    );
    assert_eq!(store.state(&vault).await, (None, None, Vec::new()));
    store.push_applied(&vault, &[create("a", "1")]).await;
    let before = store.state(&vault).await;
    assert_eq!(
        store.try_push(&vault, &[]).await,
        PushOutcome::Applied { results: Vec::new(), head_change: None }
    );
    assert_eq!(store.state(&vault).await, before);
}

async fn a_batch_of_a_hundred_operations_is_applied(store: TestStore) {
    let vault = user();
    let operations = creates("r", 100);
    assert_eq!(store.push_applied(&vault, &operations).await.len(), 100);
    let updates: Vec<_> = (0..100).rev().map(|n| update(&format!("r{n}"), 1, "v2")).collect();
    let written = store.push_applied(&vault, &updates).await;
    assert!(written.iter().all(|one| one.version.get() == 2));
    let expected: Vec<_> = (0..100).rev().map(|n| live(&format!("r{n}"), 2, "v2")).collect();
    assert_eq!(store.summaries(&vault).await, expected);
}

async fn refused_pushes_leave_no_gaps_between_versions(store: TestStore) {
    let vault = user();
    for current in 0..10 {
        let base = (current > 0).then_some(current);
        let next = operation("a", base, format!("v{}", current + 1), false);
        assert_eq!(versions(&store.push_applied(&vault, &[next]).await), [("a", current + 1)]);
        for stale in 0..=current {
            store.push_refused(&vault, &[update("a", stale, "stale")]).await;
        }
        store.push_refused(&vault, &[update("a", current + 2, "ahead")]).await;
    }
}
