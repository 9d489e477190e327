//! Erasure of vaults.

use std::pin::pin;

use vaultsync_protocol::{Cursor, Epoch, Pull, Timestamp, VaultName};
use vaultsync_store::{EraseOutcome, PullOutcome, PushOutcome, StoreOptions, Vault};

use crate::{
    dsl::{HOUR, NOW, create, creates, live, options, update, user},
    support::{TestStore, known_epoch},
};

backends!(
    an_erased_vault_is_empty_and_its_epoch_is_refused_for_ever,
    while_rows_remain_pushes_fail_and_pulls_are_empty,
    the_next_push_begins_a_new_history_with_a_later_clock,
    another_epoch_erases_nothing,
    erasing_again_does_nothing,
    an_erased_vault_can_be_erased_again_with_its_new_epoch,
    only_the_erased_vault_of_a_user_is_gone,
    an_erased_named_vault_counts_no_longer,
    an_erasure_wakes_waiting_readers,
    a_large_vault_is_erased_in_batches,
    an_erasure_survives_a_restart,
);

async fn epoch_of(store: &TestStore, vault: &Vault) -> Epoch {
    store.page(vault, None, 1).await.epoch.expect("the vault exists")
}

async fn erase(store: &TestStore, vault: &Vault, epoch: Epoch) -> EraseOutcome {
    let now = Timestamp::from_millis(NOW);
    store.store.erase(vault, &known_epoch(epoch), now).await.expect("an outcome")
}

/// Erases the vault, and removes its rows. Returns its epoch.
async fn erase_all(store: &TestStore, vault: &Vault) -> Epoch {
    let epoch = epoch_of(store, vault).await;
    assert_eq!(erase(store, vault, epoch).await, EraseOutcome::Erased);
    finish(store).await;
    epoch
}

async fn finish(store: &TestStore) {
    store.store.finish_erasures(Timestamp::from_millis(NOW)).await.expect("it is erased");
}

async fn check_refused(store: &TestStore, vault: &Vault, epoch: Epoch) {
    let outcome = store.push_with_epoch(vault, &epoch.to_string(), &[create("a", "x")]).await;
    assert_eq!(outcome, PushOutcome::VaultErased);
    for cursor in [None, Some(NOW), Some(NOW + HOUR)] {
        assert_eq!(store.pull_with_epoch(vault, epoch, cursor).await, PullOutcome::VaultErased);
    }
}

async fn an_erased_vault_is_empty_and_its_epoch_is_refused_for_ever(store: TestStore) {
    let vault = user();
    let operations = creates("r", 3);
    store.push_applied(&vault, &operations).await;
    store.push_applied_at(&vault, &[update("r0", 1, "v2")], NOW + HOUR).await;
    let epoch = erase_all(&store, &vault).await;
    assert_eq!(store.state(&vault).await, (None, None, Vec::new()));
    assert_eq!(store.store.head(&vault).await.unwrap(), None);
    assert_eq!(store.store.vaults(&vault).await.unwrap(), []);
    check_refused(&store, &vault, epoch).await;
    let never = Epoch::from_bytes([9; 16]);
    assert_eq!(store.pull_with_epoch(&vault, never, None).await, PullOutcome::EpochChanged);
    // A retry of a push to the erased vault is a new push: there are no receipts.
    store.push_applied(&vault, &operations).await;
    check_refused(&store, &vault, epoch).await;
}

async fn while_rows_remain_pushes_fail_and_pulls_are_empty(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 3)).await;
    let head = store.head(&vault).await;
    let epoch = epoch_of(&store, &vault).await;
    assert_eq!(erase(&store, &vault, epoch).await, EraseOutcome::Erased);
    // Another test may share the database and remove its rows at any moment.
    if store.try_push(&vault, &[create("a", "v1")]).await == PushOutcome::Erasing {
        assert_eq!(store.state(&vault).await, (None, None, Vec::new()));
        for cursor in [None, Some(NOW), Some(head)] {
            assert!(store.page(&vault, cursor, 10).await.records.is_empty());
        }
        check_refused(&store, &vault, epoch).await;
    } else {
        assert!(matches!(store.backend, crate::support::Backend::Postgres));
    }
}

async fn the_next_push_begins_a_new_history_with_a_later_clock(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &creates("r", 3), NOW + HOUR).await;
    let (head, old) = (store.head(&vault).await, epoch_of(&store, &vault).await);
    erase_all(&store, &vault).await;
    // The wall clock is before the vault's. A client that sends no epoch has the old cursor.
    let outcome = store.push(&vault, crate::support::batch(&creates("n", 2), None), NOW).await;
    let PushOutcome::Applied { head_change: Some(change), .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(change.head_before, None, "nothing is before it");
    let page = store.page(&vault, Some(head), 10).await;
    assert_eq!(page.records.len(), 2, "no reader skips a record");
    assert!(page.records[0].updated_at.as_millis() > head);
    assert_ne!(page.epoch, Some(old));
    assert_eq!(store.summaries(&vault).await, [live("n0", 1, "n0 v1"), live("n1", 1, "n1 v1")]);
    let listed = store.store.vaults(&vault).await.unwrap();
    assert_eq!((listed[0].records, listed[0].bytes), (Some(2), Some(10)));
}

async fn another_epoch_erases_nothing(store: TestStore) {
    let vault = user();
    let never = Epoch::from_bytes([9; 16]);
    assert_eq!(erase(&store, &vault, never).await, EraseOutcome::EpochChanged);
    store.push_applied(&vault, &creates("r", 1)).await;
    let before = store.state(&vault).await;
    assert_eq!(erase(&store, &vault, never).await, EraseOutcome::EpochChanged);
    let text = vaultsync_protocol::KnownEpoch::new("not an epoch").unwrap();
    let outcome = store.store.erase(&vault, &text, Timestamp::from_millis(NOW)).await.unwrap();
    assert_eq!(outcome, EraseOutcome::EpochChanged);
    let other = user();
    store.push_applied(&other, &creates("r", 1)).await;
    let epoch = epoch_of(&store, &other).await;
    assert_eq!(erase(&store, &vault, epoch).await, EraseOutcome::EpochChanged, "another vault's");
    finish(&store).await;
    assert_eq!(store.state(&vault).await, before);
}

async fn erasing_again_does_nothing(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 1)).await;
    let epoch = erase_all(&store, &vault).await;
    assert_eq!(erase(&store, &vault, epoch).await, EraseOutcome::Erased);
    store.push_applied(&vault, &creates("new", 1)).await;
    let before = store.state(&vault).await;
    assert_eq!(erase(&store, &vault, epoch).await, EraseOutcome::Erased, "of the old history");
    finish(&store).await;
    assert_eq!(store.state(&vault).await, before);
}

async fn an_erased_vault_can_be_erased_again_with_its_new_epoch(store: TestStore) {
    let vault = user();
    let mut epochs = Vec::new();
    for _ in 0..3 {
        store.push_applied(&vault, &creates("r", 2)).await;
        epochs.push(erase_all(&store, &vault).await);
        for epoch in &epochs {
            check_refused(&store, &vault, *epoch).await;
        }
    }
}

async fn only_the_erased_vault_of_a_user_is_gone(store: TestStore) {
    let default = user();
    let notes = default.clone().named(VaultName::new("notes").unwrap());
    let other = user();
    for vault in [&default, &notes, &other] {
        store.push_applied(vault, &creates("r", 2)).await;
    }
    let (kept, others) = (store.state(&notes).await, store.state(&other).await);
    erase_all(&store, &default).await;
    assert_eq!(store.state(&notes).await, kept);
    assert_eq!(store.state(&other).await, others);
    let listed = store.store.vaults(&default).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].name.as_deref(), Some("notes"));
}

async fn an_erased_named_vault_counts_no_longer(store: TestStore) {
    let options = StoreOptions { vaults_per_user_max: 1, ..options() };
    let store = TestStore::open(store.backend, options).await;
    let named = |name| user().named(VaultName::new(name).unwrap());
    let one = named("one");
    let two = Vault::of(one.issuer(), one.subject()).named(VaultName::new("two").unwrap());
    store.push_applied(&one, &creates("r", 1)).await;
    assert_eq!(store.try_push(&two, &creates("r", 1)).await, PushOutcome::TooManyVaults);
    erase_all(&store, &one).await;
    store.push_applied(&two, &creates("r", 1)).await;
    assert_eq!(store.try_push(&one, &creates("r", 1)).await, PushOutcome::TooManyVaults);
    erase_all(&store, &two).await;
    store.push_applied(&one, &creates("r", 1)).await;
    let listed = store.store.vaults(&two).await.unwrap();
    assert_eq!(listed[0].name.as_deref(), Some("one"), "its row has its owner again");
}

async fn an_erasure_wakes_waiting_readers(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 1)).await;
    let mut changes = store.store.notifier().subscribe(&vault, 10).unwrap();
    let mut change = pin!(changes.changed());
    let epoch = epoch_of(&store, &vault).await;
    erase(&store, &vault, epoch).await;
    change.as_mut().await;
    let cursor = Some(Cursor::from(Timestamp::from_millis(NOW)));
    let pull = Pull { cursor, epoch: Some(known_epoch(epoch)), ..Pull::default() };
    assert_eq!(store.pull(&vault, &pull).await, PullOutcome::VaultErased);
}

async fn a_large_vault_is_erased_in_batches(store: TestStore) {
    let vault = user();
    for part in 0..21 {
        let prefix = format!("r{part}-");
        store.push_applied(&vault, &creates(&prefix, 100)).await;
    }
    let updates: Vec<_> = (0..100).map(|n| update(&format!("r0-{n}"), 1, "v2")).collect();
    store.push_applied_at(&vault, &updates, NOW + HOUR).await;
    let epoch = erase_all(&store, &vault).await;
    assert_eq!(store.state(&vault).await, (None, None, Vec::new()));
    store.push_applied_at(&vault, &creates("r0-", 1), NOW + 2 * HOUR).await;
    store.push_applied_at(&vault, &[update("r0-0", 1, "v2")], NOW + 3 * HOUR).await;
    assert_eq!(store.summaries(&vault).await, [live("r0-0", 2, "v2")]);
    check_refused(&store, &vault, epoch).await;
}

async fn an_erasure_survives_a_restart(store: TestStore) {
    let vault = user();
    store.push_applied(&vault, &creates("r", 3)).await;
    let epoch = epoch_of(&store, &vault).await;
    erase(&store, &vault, epoch).await;
    let store = store.reopen().await;
    check_refused(&store, &vault, epoch).await;
    finish(&store).await;
    assert_eq!(store.state(&vault).await, (None, None, Vec::new()));
    let store = store.reopen().await;
    check_refused(&store, &vault, epoch).await;
    store.push_applied(&vault, &creates("r", 1)).await;
}
