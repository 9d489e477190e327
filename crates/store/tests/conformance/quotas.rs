//! Quotas of a vault.

use vaultsync_protocol::Operation;
use vaultsync_store::{Counters, PushOutcome, QuotaExceeded, Quotas, StoreOptions, Vault};

use crate::{
    dsl::{create, creates, delete, options, update, user},
    support::TestStore,
};

backends!(
    a_full_vault_refuses_new_records_and_names_the_operations,
    a_vault_over_its_bytes_accepts_what_does_not_grow,
    tombstones_have_a_quota_of_their_own,
    a_retry_and_a_conflict_are_not_judged_by_quotas,
    eight_devices_never_exceed_a_quota,
);

async fn with_quotas(store: &TestStore, records: Option<i64>, bytes: Option<i64>) -> TestStore {
    let quotas = Quotas { records, bytes };
    TestStore::open(store.backend, StoreOptions { quotas, ..options() }).await
}

/// The refusal of a push that must exceed a quota.
async fn exceeded(store: &TestStore, vault: &Vault, operations: &[Operation]) -> QuotaExceeded {
    match store.try_push(vault, operations).await {
        PushOutcome::QuotaExceeded(exceeded) => exceeded,
        other => panic!("{operations:?} exceeds no quota: {other:?}"),
    }
}

async fn a_full_vault_refuses_new_records_and_names_the_operations(store: TestStore) {
    let store = with_quotas(&store, Some(3), None).await;
    let vault = user();
    store.push_applied(&vault, &creates("r", 3)).await;
    let before = store.state(&vault).await;
    let push = [update("r0", 1, "v2"), create("new", "v1"), delete("r1", 1), create("x", "v1")];
    let refused = exceeded(&store, &vault, &push).await;
    let usage = Counters { live_records: 3, record_rows: 3, bytes: 15 };
    assert_eq!(refused, QuotaExceeded { usage, operations: vec![1, 3] });
    assert_eq!(store.state(&vault).await, before, "nothing is written");
    // In sum it does not grow.
    store.push_applied(&vault, &[create("new", "v1"), delete("r1", 1)]).await;
    store.push_applied(&vault, &[delete("r2", 1)]).await;
    store.push_applied(&vault, &[create("x", "v1")]).await;
    exceeded(&store, &vault, &[update("r2", 2, "back")]).await;
    // Another vault has its own.
    store.push_applied(&user(), &creates("r", 3)).await;
    exceeded(&store, &user(), &creates("r", 4)).await;
}

async fn a_vault_over_its_bytes_accepts_what_does_not_grow(store: TestStore) {
    let store = with_quotas(&store, None, Some(10)).await;
    let vault = user();
    store.push_applied(&vault, &[create("a", "12345"), create("b", "12345")]).await;
    assert_eq!(exceeded(&store, &vault, &[create("c", "1")]).await.operations, [0]);
    // A record that exists may exceed it by 1 MiB in total.
    let large = "x".repeat((1 << 20) + 5);
    exceeded(&store, &vault, &[update("a", 1, &format!("{large}x"))]).await;
    store.push_applied(&vault, &[update("a", 1, &large)]).await;
    exceeded(&store, &vault, &[update("b", 1, "123456")]).await;
    store.push_applied(&vault, &[update("b", 1, "54321")]).await;
    let mut tombstone = delete("b", 2);
    tombstone.ciphertext = vaultsync_protocol::Ciphertext::from_bytes(vec![1; 1024]);
    store.push_applied(&vault, &[tombstone.clone()]).await;
    tombstone.ciphertext = vaultsync_protocol::Ciphertext::from_bytes(vec![1; 2048]);
    tombstone.base_version = tombstone.base_version.map(vaultsync_protocol::Version::next);
    exceeded(&store, &vault, &[tombstone]).await;
    store.push_applied(&vault, &[delete("a", 2)]).await;
}

async fn tombstones_have_a_quota_of_their_own(store: TestStore) {
    let store = with_quotas(&store, Some(2), None).await;
    let vault = user();
    for round in 0..10 {
        let prefix = format!("r{round}-");
        store.push_applied(&vault, &creates(&prefix, 2)).await;
        let deletes = [delete(&format!("{prefix}0"), 1), delete(&format!("{prefix}1"), 1)];
        store.push_applied(&vault, &deletes).await;
    }
    assert_eq!(exceeded(&store, &vault, &creates("new", 1)).await.operations, [0]);
    let only_tombstone = crate::dsl::operation("never-seen", None, "", true);
    assert_eq!(exceeded(&store, &vault, &[only_tombstone]).await.operations, [0]);
    store.push_applied(&vault, &[update("r0-0", 2, "back")]).await;
}

async fn a_retry_and_a_conflict_are_not_judged_by_quotas(store: TestStore) {
    let vault = user();
    let first = creates("r", 3);
    let unlimited = with_quotas(&store, None, None).await;
    unlimited.push_applied(&vault, &first).await;
    let store = match store.backend {
        crate::support::Backend::Postgres => with_quotas(&store, Some(1), None).await,
        // The same file, with quotas.
        crate::support::Backend::Sqlite => {
            let quotas = Quotas { records: Some(1), bytes: None };
            let options = StoreOptions { quotas, ..options() };
            unlimited.store.close().await;
            let TestStore { store, backend, folder, .. } = unlimited;
            drop(store);
            TestStore::open_in(folder, backend, options).await
        }
    };
    store.push_applied(&vault, &first).await;
    store.push_refused(&vault, &[create("r0", "other"), create("new", "v1")]).await;
    exceeded(&store, &vault, &[create("new", "v1")]).await;
}

async fn eight_devices_never_exceed_a_quota(store: TestStore) {
    let store = with_quotas(&store, Some(20), Some(100)).await;
    let vault = user();
    let device = async |device: usize| {
        let mut applied = 0;
        for round in 0..10 {
            let operation = create(&format!("{device}-{round}"), "12345");
            match store.try_push(&vault, &[operation]).await {
                PushOutcome::Applied { .. } => applied += 1,
                PushOutcome::QuotaExceeded(_) => {}
                other => panic!("{other:?}"),
            }
        }
        applied
    };
    let applied = futures_util::future::join_all((0..8).map(device)).await;
    assert_eq!(applied.iter().sum::<usize>(), 20);
    assert_eq!(store.summaries(&vault).await.len(), 20);
}
