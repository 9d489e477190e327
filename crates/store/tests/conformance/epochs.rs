//! Clients that say which history they know: the right one, another one, or one of no vault.

use uuid::Uuid;
use vaultsync_protocol::{Conflict, Epoch, RecordId, Written};
use vaultsync_store::{PullOutcome, PushOutcome};

use crate::{
    dsl::{NOW, create, update, user, versions},
    support::TestStore,
};

backends!(
    a_push_with_an_epoch_to_an_unknown_vault_makes_none,
    a_push_with_another_epoch_writes_nothing,
    a_push_with_the_right_epoch_is_judged_as_without,
    an_unknown_record_with_a_base_version_and_an_epoch_is_a_conflict_with_nothing,
    an_unknown_record_without_a_base_version_is_created_in_an_epoch_too,
    a_push_of_nothing_still_tells_a_changed_epoch,
    a_pull_with_an_epoch_from_an_unknown_vault_tells_another_history,
    a_pull_with_the_right_epoch_is_a_page,
    a_cursor_later_than_the_clock_is_told_to_those_who_know_the_epoch,
    a_vault_keeps_its_epoch,
    every_vault_has_an_epoch_of_its_own,
);

fn another_epoch() -> Epoch {
    Epoch::new(Uuid::new_v4())
}

async fn a_push_with_an_epoch_to_an_unknown_vault_makes_none(store: TestStore) {
    let vault = user();
    let epoch = another_epoch().to_string();
    let outcome = store.push_in(&vault, &epoch, &[create("a", "v1")]).await;
    assert_eq!(outcome, PushOutcome::EpochChanged);
    assert_eq!(store.state(&vault).await, (None, None, Vec::new()));
}

async fn a_push_with_another_epoch_writes_nothing(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    let before = store.state(&vault).await;
    let right = store.epoch(&vault).await;
    let wrong = [another_epoch().to_string(), "1".to_owned(), "e".repeat(64), format!("{right}0")];
    for epoch in wrong.iter().chain([&right.to_uppercase(), &format!(" {right}")]) {
        // A retry, an update that would fit, a conflict and a create: none is looked at.
        for operation in
            [create("a", "v1"), update("a", 1, "v2"), create("a", "x"), create("b", "v1")]
        {
            let outcome = store.push_in(&vault, epoch, &[operation]).await;
            assert_eq!(outcome, PushOutcome::EpochChanged, "{epoch}");
        }
    }
    assert_eq!(store.state(&vault).await, before);
}

async fn a_push_with_the_right_epoch_is_judged_as_without(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    let epoch = store.epoch(&vault).await;
    let outcome = store.push_in(&vault, &epoch, &[update("a", 1, "v2")]).await;
    let PushOutcome::Applied(written) = outcome else { panic!("{outcome:?}") };
    assert_eq!(versions(&written), [("a", 2)]);
    let again = store.push_in(&vault, &epoch, &[update("a", 1, "v2")]).await;
    assert_eq!(again, PushOutcome::Applied(written));
    let outcome = store.push_in(&vault, &epoch, &[update("a", 1, "stale")]).await;
    let PushOutcome::Refused(refused) = outcome else { panic!("{outcome:?}") };
    assert_eq!(refused.conflicts[0].current_version.get(), 2);
}

async fn an_unknown_record_with_a_base_version_and_an_epoch_is_a_conflict_with_nothing(
    store: TestStore,
) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    let (epoch, before) = (store.epoch(&vault).await, store.state(&vault).await);
    let operations = [
        create("new", "v1"),
        update("gone", 7, "x"),
        update("a", 1, "v2"),
        update("never was", 0, "x"),
    ];
    let outcome = store.push_in(&vault, &epoch, &operations).await;
    let PushOutcome::Refused(refused) = outcome else { panic!("{outcome:?}") };
    let nothing = |id| {
        let conflict = Conflict::with_nothing(RecordId::new(id).unwrap());
        assert_eq!(conflict.current_version.get(), 0);
        assert!(conflict.ciphertext.is_empty() && conflict.deleted);
        assert_eq!(conflict.updated_at, None);
        conflict
    };
    assert_eq!(refused.conflicts, [nothing("gone"), nothing("never was")]);
    assert!(!refused.has_more);
    assert_eq!(store.state(&vault).await, before);
}

async fn an_unknown_record_without_a_base_version_is_created_in_an_epoch_too(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    let epoch = store.epoch(&vault).await;
    let outcome = store.push_in(&vault, &epoch, &[create("b", "v1")]).await;
    let PushOutcome::Applied(written) = outcome else { panic!("{outcome:?}") };
    assert_eq!(versions(&written), [("b", 1)]);
}

async fn a_push_of_nothing_still_tells_a_changed_epoch(store: TestStore) {
    let vault = user();
    let epoch = another_epoch().to_string();
    assert_eq!(store.push_in(&vault, &epoch, &[]).await, PushOutcome::EpochChanged);
    store.applied(&vault, &[create("a", "v1")]).await;
    assert_eq!(store.push_in(&vault, &epoch, &[]).await, PushOutcome::EpochChanged);
    let right = store.epoch(&vault).await;
    let nothing: Vec<Written> = Vec::new();
    assert_eq!(store.push_in(&vault, &right, &[]).await, PushOutcome::Applied(nothing));
}

async fn a_pull_with_an_epoch_from_an_unknown_vault_tells_another_history(store: TestStore) {
    let vault = user();
    for cursor in [None, Some(NOW)] {
        let outcome = store.pull_in(&vault, another_epoch(), cursor).await;
        assert_eq!(outcome, PullOutcome::EpochChanged);
    }
    store.applied(&vault, &[create("a", "v1")]).await;
    // Even where the cursor is ahead too: in another history it says nothing.
    for cursor in [None, Some(NOW), Some(NOW + 1_000_000)] {
        let outcome = store.pull_in(&vault, another_epoch(), cursor).await;
        assert_eq!(outcome, PullOutcome::EpochChanged);
    }
}

async fn a_pull_with_the_right_epoch_is_a_page(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1"), create("b", "v1")]).await;
    let without = store.page(&vault, None, 100).await;
    let outcome = store.pull_in(&vault, without.epoch.unwrap(), None).await;
    assert_eq!(outcome, PullOutcome::Page(without));
}

async fn a_cursor_later_than_the_clock_is_told_to_those_who_know_the_epoch(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1"), create("b", "v1")]).await;
    let (head, epoch) = (store.head(&vault).await, store.page(&vault, None, 1).await.epoch);
    let epoch = epoch.unwrap();
    assert_eq!(store.pull_in(&vault, epoch, Some(head + 1)).await, PullOutcome::CursorAhead);
    assert_eq!(store.pull_in(&vault, epoch, Some(i64::MAX)).await, PullOutcome::CursorAhead);
    // At the clock it is a client that has everything.
    let outcome = store.pull_in(&vault, epoch, Some(head)).await;
    let PullOutcome::Page(page) = outcome else { panic!("{outcome:?}") };
    assert_eq!((page.records.len(), page.next_cursor), (0, None));
    // One who names no epoch finds an empty page.
    let page = store.page(&vault, Some(head + 1), 100).await;
    assert_eq!((page.records.len(), page.next_cursor, page.has_more), (0, None, false));
}

async fn a_vault_keeps_its_epoch(store: TestStore) {
    let vault = user();
    store.applied(&vault, &[create("a", "v1")]).await;
    let epoch = store.epoch(&vault).await;
    store.applied(&vault, &[update("a", 1, "v2")]).await;
    store.applied(&vault, &[create("b", "v1")]).await;
    store.refused(&vault, &[create("b", "x")]).await;
    assert_eq!(store.epoch(&vault).await, epoch);
    let store = store.reopened().await;
    assert_eq!(store.epoch(&vault).await, epoch);
}

async fn every_vault_has_an_epoch_of_its_own(store: TestStore) {
    let (one, two) = (user(), user());
    store.applied(&one, &[create("a", "v1")]).await;
    store.applied(&two, &[create("a", "v1")]).await;
    assert_ne!(store.epoch(&one).await, store.epoch(&two).await);
    let foreign = store.epoch(&one).await;
    let outcome = store.push_in(&two, &foreign, &[update("a", 1, "v2")]).await;
    assert_eq!(outcome, PushOutcome::EpochChanged);
}
