//! How one write is judged: each row of the protocol's table, and the versions that come of it.

use vaultsync_protocol::Version;
use vaultsync_store::PushOutcome;

use crate::{
    dsl::{create, creates, delete, in_the_way, live, operation, update, user, versions},
    support::TestStore,
};

backends!(
    a_create_of_an_unknown_record_is_version_1,
    an_unknown_record_is_inserted_as_version_1_whatever_the_base_version,
    an_update_at_the_current_version_makes_the_next_one,
    an_update_with_the_bytes_that_are_there_is_a_new_version,
    a_create_of_a_known_record_is_a_conflict,
    a_base_version_other_than_the_current_one_is_a_conflict,
    base_version_0_never_matches_a_known_record,
    a_conflict_tells_the_record_as_it_stands,
    the_same_ciphertext_with_another_deleted_is_no_retry,
    results_come_in_the_order_of_the_operations,
    a_batch_may_create_update_and_delete,
    a_push_of_nothing_is_applied_and_makes_no_vault,
    a_batch_of_a_hundred_is_applied_whole,
    versions_have_no_gaps_where_pushes_are_refused_between,
);

async fn a_create_of_an_unknown_record_is_version_1(store: TestStore) {
    let vault = user();
    let written = store.applied(&vault, &[create("a", "one")]).await;
    assert_eq!(versions(&written), [("a", 1)]);
    assert_eq!(store.all(&vault).await, [live("a", 1, "one")]);
}

async fn an_unknown_record_is_inserted_as_version_1_whatever_the_base_version(store: TestStore) {
    let vault = user();
    for (id, base) in [("a", 0), ("b", 1), ("c", 7), ("d", Version::MAX.get())] {
        let written = store.applied(&vault, &[update(id, base, "one")]).await;
        assert_eq!(versions(&written), [(id, 1)], "base version {base}");
        assert_eq!(store.all(&vault).await.pop(), Some(live(id, 1, "one")));
    }
}

async fn an_update_at_the_current_version_makes_the_next_one(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    for base in 1..20 {
        let text = format!("v{}", base + 1);
        let written = store.applied(&vault, &[update("a", base, &text)]).await;
        assert_eq!(versions(&written), [("a", base + 1)]);
        assert_eq!(store.all(&vault).await, [live("a", base + 1, &text)]);
    }
}

async fn an_update_with_the_bytes_that_are_there_is_a_new_version(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "same")]).await;
    let before = store.head(&vault).await;
    let written = store.applied(&vault, &[update("a", 1, "same")]).await;
    assert_eq!(versions(&written), [("a", 2)]);
    assert!(store.head(&vault).await > before);
}

async fn a_create_of_a_known_record_is_a_conflict(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "first")]).await;
    let refused = store.refused(&vault, &[create("a", "second")]).await;
    assert_eq!(in_the_way(&refused), [live("a", 1, "first")]);
    // The bytes of version 1 are no longer what is there, so this is no retry either.
    store.applied(&vault, &[update("a", 1, "third"), create("b", "b")]).await;
    store.refused(&vault, &[create("a", "third")]).await;
    assert_eq!(store.all(&vault).await, [live("a", 2, "third"), live("b", 1, "b")]);
}

async fn a_base_version_other_than_the_current_one_is_a_conflict(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    store.applied(&vault, &[update("a", 1, "v2")]).await;
    store.applied(&vault, &[update("a", 2, "v3")]).await;
    for base in [1, 2, 4, 5, Version::MAX.get()] {
        let refused = store.refused(&vault, &[update("a", base, "mine")]).await;
        assert_eq!(in_the_way(&refused), [live("a", 3, "v3")], "base version {base}");
        assert!(!refused.has_more);
    }
    // What is there already, but at another version than the client would make.
    store.refused(&vault, &[update("a", 1, "v3")]).await;
    store.refused(&vault, &[update("a", 4, "v3")]).await;
    assert_eq!(store.all(&vault).await, [live("a", 3, "v3")]);
}

async fn base_version_0_never_matches_a_known_record(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    let refused = store.refused(&vault, &[update("a", 0, "mine")]).await;
    assert_eq!(in_the_way(&refused), [live("a", 1, "v1")]);
}

async fn a_conflict_tells_the_record_as_it_stands(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1"), create("b", "v1"), create("c", "v1")]).await;
    store.applied(&vault, &[delete("b", 1), operation("c", Some(1), "why", true)]).await;
    let (_, _, records) = store.state(&vault).await;
    let told = store.refused(&vault, &["c", "a", "b"].map(|id| create(id, "x"))).await.conflicts;
    assert_eq!(told.len(), 3);
    for conflict in told {
        let record = records.iter().find(|record| record.record_id == conflict.record_id).unwrap();
        assert_eq!(conflict.current_version, record.version);
        assert_eq!(conflict.ciphertext, record.ciphertext);
        assert_eq!(conflict.deleted, record.deleted);
        assert_eq!(conflict.updated_at, Some(record.updated_at));
    }
}

async fn the_same_ciphertext_with_another_deleted_is_no_retry(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "same")]).await;
    let refused = store.refused(&vault, &[operation("a", None, "same", true)]).await;
    assert_eq!(in_the_way(&refused), [live("a", 1, "same")]);
    store.applied(&vault, &[operation("a", Some(1), "same", true)]).await;
    store.refused(&vault, &[operation("a", Some(1), "same", false)]).await;
}

async fn results_come_in_the_order_of_the_operations(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("m", "1"), create("z", "1")]).await;
    let operations = [
        create("b", "1"),
        update("z", 1, "2"),
        create("a", "1"),
        update("m", 1, "2"),
        create("C", "1"),
        update("0", 5, "1"),
    ];
    let written = store.applied(&vault, &operations).await;
    let expected = [("b", 1), ("z", 2), ("a", 1), ("m", 2), ("C", 1), ("0", 1)];
    assert_eq!(versions(&written), expected);
    let ids: Vec<_> = store.all(&vault).await.into_iter().map(|(id, ..)| id).collect();
    assert_eq!(ids, ["b", "z", "a", "m", "C", "0"], "and so do the records");
}

async fn a_batch_may_create_update_and_delete(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "a1"), create("b", "b1")]).await;
    let written =
        store.applied(&vault, &[create("c", "c1"), update("a", 1, "a2"), delete("b", 1)]).await;
    assert_eq!(versions(&written), [("c", 1), ("a", 2), ("b", 2)]);
    let tombstone = ("b".to_owned(), 2, Vec::new(), true);
    assert_eq!(store.all(&vault).await, [live("c", 1, "c1"), live("a", 2, "a2"), tombstone]);
}

async fn a_push_of_nothing_is_applied_and_makes_no_vault(store: TestStore) {
    let vault = user();
    assert_eq!(store.try_push(&vault, &[]).await, PushOutcome::Applied(Vec::new()));
    assert_eq!(store.state(&vault).await, (None, None, Vec::new()));
    store.applied(&vault, &[create("a", "1")]).await;
    let before = store.state(&vault).await;
    assert_eq!(store.try_push(&vault, &[]).await, PushOutcome::Applied(Vec::new()));
    assert_eq!(store.state(&vault).await, before);
}

async fn a_batch_of_a_hundred_is_applied_whole(store: TestStore) {
    let vault = user();
    let operations = creates("r", 100);
    assert_eq!(store.applied(&vault, &operations).await.len(), 100);
    let updates: Vec<_> = (0..100).rev().map(|n| update(&format!("r{n}"), 1, "v2")).collect();
    let written = store.applied(&vault, &updates).await;
    assert!(written.iter().all(|one| one.version.get() == 2));
    let expected: Vec<_> = (0..100).rev().map(|n| live(&format!("r{n}"), 2, "v2")).collect();
    assert_eq!(store.all(&vault).await, expected);
}

async fn versions_have_no_gaps_where_pushes_are_refused_between(store: TestStore) {
    let vault = user();
    for current in 0..10 {
        let base = (current > 0).then_some(current);
        let next = operation("a", base, format!("v{}", current + 1), false);
        assert_eq!(versions(&store.applied(&vault, &[next]).await), [("a", current + 1)]);
        for stale in 0..=current {
            store.refused(&vault, &[update("a", stale, "stale")]).await;
        }
        store.refused(&vault, &[update("a", current + 2, "ahead")]).await;
    }
}
