//! Removal of old tombstones and replaced versions.

use serde_json::json;
use uuid::Uuid;
use vaultsync_protocol::{Cursor, Pull, Push, Timestamp};
use vaultsync_store::{
    GcOptions, GcReport, PostgresOptions, PullOutcome, PushOutcome, Removed, Store, Vault,
};
use vaultsync_test_servers::shared_postgres;

use crate::{
    dsl::{HOUR, NOW, create, creates, delete, operation, summary, update, user},
    support::{Backend, TestStore, postgres_options},
};

backends!(
    only_old_tombstones_are_removed_and_counted,
    a_dry_run_removes_nothing,
    only_a_client_that_may_have_missed_a_tombstone_is_told,
    a_push_with_since_cannot_bring_back_what_was_purged,
    a_purged_record_can_be_created_again,
    versions_are_thinned_and_counted,
    many_tombstones_and_versions_are_removed_in_batches,
    gc_beside_pushes_loses_nothing,
);

const DAY: i64 = 24 * HOUR;

fn options(now: i64) -> GcOptions {
    let now = Timestamp::from_millis(now);
    GcOptions { history_days: 30, tombstone_days: 90, now, dry_run: false }
}

/// Removes what is old at `now`.
async fn gc(store: &TestStore, now: i64) -> GcReport {
    store.store.gc(options(now)).await.expect("gc does not fail")
}

/// A store whose database no other test uses: what one removes, the others would miss.
async fn alone(store: &TestStore) -> TestStore {
    let (backend, options) = (store.backend, crate::dsl::options());
    if matches!(backend, Backend::Sqlite) {
        return TestStore::open(backend, options).await;
    }
    let name = format!("alone_{}", Uuid::new_v4().simple());
    shared_postgres().create_database(&name, None);
    let primaries = vec![shared_postgres().url(&name).parse().expect("a URL")];
    let postgres = PostgresOptions { primaries, ..postgres_options() };
    let store = Store::open_postgres(postgres, options).await.expect("the database opens");
    TestStore { store, backend, options, folder: tempfile::tempdir().unwrap() }
}

/// Live records, all rows and bytes, as the list of vaults has them and as they are.
async fn check_counters(store: &TestStore, vault: &Vault) {
    let summaries = store.summaries(vault).await;
    let live = summaries.iter().filter(|(.., deleted)| !deleted).count();
    let bytes: usize = summaries.iter().map(|(_, _, ciphertext, _)| ciphertext.len()).sum();
    let listed = store.store.vaults(vault).await.expect("vaults are listed");
    let counted = listed.iter().find(|one| one.name.is_none()).expect("the default vault");
    let expected = (i64::try_from(live).ok(), i64::try_from(bytes).ok());
    assert_eq!((counted.records, counted.bytes), expected);
}

async fn ids(store: &TestStore, vault: &Vault) -> Vec<String> {
    let mut ids: Vec<_> = store.summaries(vault).await.into_iter().map(|(id, ..)| id).collect();
    ids.sort();
    ids
}

async fn only_old_tombstones_are_removed_and_counted(store: TestStore) {
    let store = alone(&store).await;
    let vault = user();
    store.push_applied(&vault, &creates("r", 4)).await;
    let reserved = operation("vaultsync.x", None, "keyring", true);
    let deletes = [delete("r0", 1), operation("r1", Some(1), "why", true), reserved];
    store.push_applied_at(&vault, &deletes, NOW).await;
    store.push_applied_at(&vault, &[delete("r2", 1)], NOW + DAY).await;
    gc(&store, NOW + 90 * DAY).await;
    assert_eq!(ids(&store, &vault).await, ["r0", "r1", "r2", "r3", "vaultsync.x"]);
    gc(&store, NOW + 90 * DAY + 100).await;
    assert_eq!(ids(&store, &vault).await, ["r2", "r3", "vaultsync.x"]);
    check_counters(&store, &vault).await;
    gc(&store, NOW + 1000 * DAY).await;
    assert_eq!(ids(&store, &vault).await, ["r3", "vaultsync.x"]);
    check_counters(&store, &vault).await;
    let off = GcOptions { tombstone_days: 0, ..options(NOW + 9000 * DAY) };
    store.push_applied(&vault, &[delete("r3", 1)]).await;
    store.store.gc(off).await.unwrap();
    assert_eq!(ids(&store, &vault).await, ["r3", "vaultsync.x"]);
}

async fn a_dry_run_removes_nothing(store: TestStore) {
    let store = alone(&store).await;
    let vault = user();
    store.push_applied(&vault, &[create("a", "12345"), create("b", "v1")]).await;
    store.push_applied_at(&vault, &[update("a", 1, "v2")], NOW + HOUR).await;
    store.push_applied_at(&vault, &[operation("b", Some(1), "123", true)], NOW + HOUR).await;
    let before = store.state(&vault).await;
    let later = options(NOW + 200 * DAY);
    let dry = store.store.gc(GcOptions { dry_run: true, ..later }).await.unwrap();
    let (tombstones, versions) = (Removed { rows: 1, bytes: 3 }, Removed { rows: 2, bytes: 7 });
    assert_eq!(dry, GcReport { tombstones, versions });
    assert_eq!(store.state(&vault).await, before);
    assert_eq!(store.store.gc(later).await.unwrap(), dry);
    assert_eq!(store.store.gc(later).await.unwrap(), GcReport::default());
}

fn pull(since: Option<i64>, cursor: Option<i64>) -> Pull {
    let cursor_of = |millis: i64| Cursor::from(Timestamp::from_millis(millis));
    Pull { since: since.map(cursor_of), cursor: cursor.map(cursor_of), ..Pull::default() }
}

async fn only_a_client_that_may_have_missed_a_tombstone_is_told(store: TestStore) {
    let store = alone(&store).await;
    let vault = user();
    store.push_applied(&vault, &creates("r", 3)).await;
    store.push_applied_at(&vault, &[delete("r1", 1)], NOW + 100).await;
    store.push_applied_at(&vault, &[update("r2", 1, "v2")], NOW + 200).await;
    let expired = async |since, cursor| {
        let outcome = store.pull(&vault, &pull(since, cursor)).await;
        matches!(outcome, PullOutcome::CursorExpired)
    };
    assert!(!expired(Some(NOW), Some(NOW)).await, "nothing is purged yet");
    gc(&store, NOW + 100 * DAY).await;
    assert_eq!(ids(&store, &vault).await, ["r0", "r2"]);
    for (since, cursor, is_expired) in [
        (Some(NOW), Some(NOW), true),
        (Some(NOW + 99), Some(NOW + 99), true),
        (Some(NOW + 100), Some(NOW), false),
        (Some(NOW), Some(NOW + 100), false),
        (Some(NOW + 200), Some(NOW + 200), false),
        (Some(NOW), None, false),
        (None, Some(NOW), false),
        (None, None, false),
    ] {
        assert_eq!(expired(since, cursor).await, is_expired, "{since:?} {cursor:?}");
    }
    // The cached head says the same after a push.
    store.push_applied_at(&vault, &[create("new", "v1")], NOW + 300).await;
    assert!(expired(Some(NOW), Some(NOW + 99)).await);
    assert!(!expired(Some(NOW), Some(NOW + 300)).await);
}

fn push_since(operations: &serde_json::Value, since: i64) -> Push {
    let since = Timestamp::from_millis(since);
    let body = json!({ "operations": operations, "since": since }).to_string();
    Push::from_json(body.as_bytes(), usize::MAX).expect("a valid body")
}

async fn a_push_with_since_cannot_bring_back_what_was_purged(store: TestStore) {
    let store = alone(&store).await;
    let vault = user();
    store.push_applied(&vault, &creates("r", 2)).await;
    let other =
        json!([{ "recordId": "x", "baseVersion": null, "ciphertext": "AAAA", "deleted": false }]);
    let remembered = push_since(&other, NOW);
    let first = store.push(&vault, remembered.clone(), NOW).await;
    store.push_applied_at(&vault, &[delete("r1", 1)], NOW + 100).await;
    let retried = store.push(&vault, remembered.clone(), NOW).await;
    assert!(matches!(retried, PushOutcome::Applied { .. }), "{first:?} {retried:?}");
    gc(&store, NOW + 100 * DAY).await;
    let back =
        json!([{ "recordId": "r1", "baseVersion": null, "ciphertext": "AAAA", "deleted": false }]);
    for since in [NOW, NOW + 99] {
        let outcome = store.push(&vault, push_since(&back, since), NOW).await;
        assert_eq!(outcome, PushOutcome::CursorExpired);
    }
    assert_eq!(ids(&store, &vault).await, ["r0", "x"]);
    let outcome = store.push(&vault, push_since(&back, NOW + 100), NOW).await;
    assert!(matches!(outcome, PushOutcome::Applied { .. }), "{outcome:?}");
}

async fn a_purged_record_can_be_created_again(store: TestStore) {
    let store = alone(&store).await;
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    store.push_applied_at(&vault, &[update("a", 1, "v2")], NOW + HOUR).await;
    store.push_applied_at(&vault, &[delete("a", 2)], NOW + 2 * HOUR).await;
    // So soon that the history has its versions still.
    let options = GcOptions { tombstone_days: 1, ..options(NOW + 2 * DAY) };
    store.store.gc(options).await.unwrap();
    assert_eq!(ids(&store, &vault).await, Vec::<String>::new());
    store.push_applied_at(&vault, &[create("a", "v1")], NOW + 3 * DAY).await;
    store.push_applied_at(&vault, &[update("a", 1, "v2")], NOW + 4 * DAY).await;
    store.push_applied_at(&vault, &[update("a", 2, "v3")], NOW + 5 * DAY).await;
    assert_eq!(store.summaries(&vault).await, [crate::dsl::live("a", 3, "v3")]);
    check_counters(&store, &vault).await;
}

async fn versions_are_thinned_and_counted(store: TestStore) {
    let store = alone(&store).await;
    let vault = user();
    // One version every ten minutes for three hours of one day.
    for step in 0..18_i64 {
        let text = format!("{step:05}");
        let write = if step == 0 { create("a", &text) } else { update("a", step, &text) };
        store.push_applied_at(&vault, &[write], NOW + step * HOUR / 6).await;
    }
    let versions = async |now| store.store.gc(options(now)).await.unwrap().versions.rows;
    assert_eq!(versions(NOW + DAY / 2).await, 0, "of the last day all are kept");
    // 17 were replaced, in four hours of the clock.
    assert_eq!(versions(NOW + 3 * DAY).await, 13);
    assert_eq!(versions(NOW + 3 * DAY).await, 0);
    assert_eq!(versions(NOW + 10 * DAY).await, 3, "one a day");
    assert_eq!(versions(NOW + 31 * DAY).await, 1);
    assert_eq!(store.summaries(&vault).await.len(), 1);
}

async fn many_tombstones_and_versions_are_removed_in_batches(store: TestStore) {
    let store = alone(&store).await;
    let vault = user();
    for part in 0..11 {
        let prefix = format!("r{part}-");
        store.push_applied(&vault, &creates(&prefix, 100)).await;
        let deletes: Vec<_> = (0..100).map(|n| delete(&format!("{prefix}{n}"), 1)).collect();
        store.push_applied_at(&vault, &deletes, NOW + HOUR).await;
    }
    store.push_applied(&vault, &creates("live", 3)).await;
    gc(&store, NOW + 100 * DAY).await;
    assert_eq!(ids(&store, &vault).await, ["live0", "live1", "live2"]);
    check_counters(&store, &vault).await;
}

/// A tombstone that is revived between the moments when it is found and removed stays.
async fn gc_beside_pushes_loses_nothing(store: TestStore) {
    let store = alone(&store).await;
    let vault = user();
    let count = 60;
    store.push_applied(&vault, &creates("r", count)).await;
    let deletes: Vec<_> = (0..count).map(|n| delete(&format!("r{n}"), 1)).collect();
    store.push_applied_at(&vault, &deletes, NOW + HOUR).await;
    let revive = async {
        let mut revived = Vec::new();
        for n in 0..count {
            let id = format!("r{n}");
            // If it is gone, a base version on it makes a new record.
            let write = [update(&id, 2, "back")];
            let results = store.push_applied_at(&vault, &write, NOW + 100 * DAY).await;
            revived.push((id, results[0].version.get()));
        }
        revived
    };
    let cleaning = async {
        for _ in 0..10 {
            gc(&store, NOW + 100 * DAY).await;
        }
    };
    let (mut revived, ()) = tokio::join!(revive, cleaning);
    let records = store.pull_all(&vault, 100).await;
    let mut found: Vec<_> =
        records.iter().map(summary).map(|(id, version, ..)| (id, version)).collect();
    found.sort();
    revived.sort();
    assert_eq!(found, revived);
    check_counters(&store, &vault).await;
}
