//! Clients that name an epoch: the vault's, another one, or one of a vault that does not exist.

use uuid::Uuid;
use vaultsync_protocol::{Conflict, Epoch, RecordId, Written};
use vaultsync_store::{PullOutcome, PushOutcome};

use crate::{
    dsl::{NOW, create, update, user, versions},
    support::TestStore,
};

backends!(
    a_push_with_an_epoch_does_not_create_a_vault,
    a_push_with_another_epoch_writes_nothing,
    a_push_with_the_right_epoch_is_decided_as_without,
    with_the_epoch_an_update_of_an_unknown_record_is_a_conflict,
    with_the_epoch_a_create_of_an_unknown_record_is_applied,
    an_empty_push_reports_a_changed_epoch,
    a_pull_with_another_epoch_reports_a_changed_epoch,
    a_pull_with_the_right_epoch_returns_a_page,
    with_the_epoch_a_cursor_later_than_the_head_is_reported,
    the_epoch_of_a_vault_does_not_change,
    every_vault_has_its_own_epoch,
);

fn another_epoch() -> Epoch {
    Epoch::new(Uuid::new_v4())
}

async fn a_push_with_an_epoch_does_not_create_a_vault(store: TestStore) {
    let vault = user();
    let epoch = another_epoch().to_string();
    let outcome = store.push_with_epoch(&vault, &epoch, &[create("a", "v1")]).await;
    assert_eq!(outcome, PushOutcome::EpochChanged);
    assert_eq!(store.state(&vault).await, (None, None, Vec::new()));
}

async fn a_push_with_another_epoch_writes_nothing(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    let before = store.state(&vault).await;
    let right = store.epoch(&vault).await;
    let wrong = [another_epoch().to_string(), "1".to_owned(), "e".repeat(64), format!("{right}0")];
    for epoch in wrong.iter().chain([&right.to_uppercase(), &format!(" {right}")]) {
        // A retry, an update at the current version, a conflict and a create: none is decided.
        for operation in
            [create("a", "v1"), update("a", 1, "v2"), create("a", "x"), create("b", "v1")]
        {
            let outcome = store.push_with_epoch(&vault, epoch, &[operation]).await;
            assert_eq!(outcome, PushOutcome::EpochChanged, "{epoch}");
        }
    }
    assert_eq!(store.state(&vault).await, before);
}

async fn a_push_with_the_right_epoch_is_decided_as_without(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    let epoch = store.epoch(&vault).await;
    let outcome = store.push_with_epoch(&vault, &epoch, &[update("a", 1, "v2")]).await;
    let PushOutcome::Applied { results: written, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(versions(&written), [("a", 2)]);
    let again = store.push_with_epoch(&vault, &epoch, &[update("a", 1, "v2")]).await;
    assert_eq!(again, PushOutcome::Applied { results: written, head_change: None });
    let outcome = store.push_with_epoch(&vault, &epoch, &[update("a", 1, "stale")]).await;
    let PushOutcome::Refused(refused) = outcome else { panic!("{outcome:?}") };
    assert_eq!(refused.conflicts[0].current_version.get(), 2);
}

async fn with_the_epoch_an_update_of_an_unknown_record_is_a_conflict(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    let (epoch, before) = (store.epoch(&vault).await, store.state(&vault).await);
    let operations = [
        create("new", "v1"),
        update("gone", 7, "x"),
        update("a", 1, "v2"),
        update("never was", 0, "x"),
    ];
    let outcome = store.push_with_epoch(&vault, &epoch, &operations).await;
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

async fn with_the_epoch_a_create_of_an_unknown_record_is_applied(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    let epoch = store.epoch(&vault).await;
    let outcome = store.push_with_epoch(&vault, &epoch, &[create("b", "v1")]).await;
    let PushOutcome::Applied { results: written, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(versions(&written), [("b", 1)]);
}

async fn an_empty_push_reports_a_changed_epoch(store: TestStore) {
    let vault = user();
    let epoch = another_epoch().to_string();
    assert_eq!(store.push_with_epoch(&vault, &epoch, &[]).await, PushOutcome::EpochChanged);
    store.push_applied(&vault, &[create("a", "v1")]).await;
    assert_eq!(store.push_with_epoch(&vault, &epoch, &[]).await, PushOutcome::EpochChanged);
    let right = store.epoch(&vault).await;
    let nothing: Vec<Written> = Vec::new();
    let outcome = store.push_with_epoch(&vault, &right, &[]).await;
    assert_eq!(outcome, PushOutcome::Applied { results: nothing, head_change: None });
}

async fn a_pull_with_another_epoch_reports_a_changed_epoch(store: TestStore) {
    let vault = user();
    for cursor in [None, Some(NOW)] {
        let outcome = store.pull_with_epoch(&vault, another_epoch(), cursor).await;
        assert_eq!(outcome, PullOutcome::EpochChanged);
    }
    store.push_applied(&vault, &[create("a", "v1")]).await;
    // The cursor may also be ahead: with another epoch it means nothing.
    for cursor in [None, Some(NOW), Some(NOW + 1_000_000)] {
        let outcome = store.pull_with_epoch(&vault, another_epoch(), cursor).await;
        assert_eq!(outcome, PullOutcome::EpochChanged);
    }
}

async fn a_pull_with_the_right_epoch_returns_a_page(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1"), create("b", "v1")]).await;
    let without = store.page(&vault, None, 100).await;
    let outcome = store.pull_with_epoch(&vault, without.epoch.unwrap(), None).await;
    assert_eq!(outcome, PullOutcome::Page(without));
}

async fn with_the_epoch_a_cursor_later_than_the_head_is_reported(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1"), create("b", "v1")]).await;
    let (head, epoch) = (store.head(&vault).await, store.page(&vault, None, 1).await.epoch);
    let epoch = epoch.unwrap();
    assert_eq!(
        store.pull_with_epoch(&vault, epoch, Some(head + 1)).await,
        PullOutcome::CursorAhead
    );
    assert_eq!(
        store.pull_with_epoch(&vault, epoch, Some(i64::MAX)).await,
        PullOutcome::CursorAhead
    );
    // A client with the cursor at the head has everything.
    let outcome = store.pull_with_epoch(&vault, epoch, Some(head)).await;
    let PullOutcome::Page(page) = outcome else { panic!("{outcome:?}") };
    assert_eq!((page.records.len(), page.next_cursor), (0, None));
    // Without the epoch, the page is empty.
    let page = store.page(&vault, Some(head + 1), 100).await;
    assert_eq!((page.records.len(), page.next_cursor, page.has_more), (0, None, false));
}

async fn the_epoch_of_a_vault_does_not_change(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    let epoch = store.epoch(&vault).await;
    store.push_applied(&vault, &[update("a", 1, "v2")]).await;
    store.push_applied(&vault, &[create("b", "v1")]).await;
    store.push_refused(&vault, &[create("b", "x")]).await;
    assert_eq!(store.epoch(&vault).await, epoch);
    let store = store.reopen().await;
    assert_eq!(store.epoch(&vault).await, epoch);
}

async fn every_vault_has_its_own_epoch(store: TestStore) {
    let (one, two) = (user(), user());
    store.push_applied(&one, &[create("a", "v1")]).await;
    store.push_applied(&two, &[create("a", "v1")]).await;
    assert_ne!(store.epoch(&one).await, store.epoch(&two).await);
    let foreign = store.epoch(&one).await;
    let outcome = store.push_with_epoch(&two, &foreign, &[update("a", 1, "v2")]).await;
    assert_eq!(outcome, PushOutcome::EpochChanged);
}
