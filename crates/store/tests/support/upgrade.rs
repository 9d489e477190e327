//! What the databases in `fixtures` hold, and what must be true of them after an upgrade.

use vaultsync_protocol::{
    Cursor, DigestedRecord, HistoryQuery, HistoryRequest, ManifestRequest, Operation, PastStates,
    Pull, RecordDigest, Timestamp, VaultSummary, Version,
};
use vaultsync_store::{
    HistoryOutcome, ManifestOutcome, PullOutcome, PushOutcome, RecordsOutcome, Store, Unbounded,
    Vault,
};

use crate::support::{batch, operation, records_request};

/// A user of the fixtures.
pub(crate) fn user_of_fixture(name: &str) -> Vault {
    Vault::of("https://local.vaultsync.invalid", name)
}

/// The first push of `ada`.
fn first_push() -> [Operation; 3] {
    ["kept", "edited", "gone"].map(|id| operation(id, None, format!("{id} v1"), false))
}

async fn push(store: &Store, vault: &Vault, operations: &[Operation]) -> PushOutcome {
    let now = Timestamp::from_millis(1_700_000_000_000);
    store.push(vault, batch(operations, None), now, ()).await.expect("an outcome")
}

/// Each record as id, version, length of its ciphertext, whether it is deleted.
async fn records(store: &Store, vault: &Vault) -> Vec<(String, i64, usize, bool)> {
    let (outcome, _) =
        store.pull(vault, &Pull::default(), Unbounded).await.expect("a pull does not fail");
    let PullOutcome::Page(page) = outcome else { panic!("no page: {outcome:?}") };
    let summary = |record: &vaultsync_protocol::Record| {
        let id = record.record_id.as_str().to_owned();
        (id, record.version.get(), record.ciphertext.len(), record.deleted)
    };
    page.records.iter().map(summary).collect()
}

/// The counts of a user's default vault.
async fn counts(store: &Store, vault: &Vault) -> (Option<i64>, Option<i64>) {
    let vaults = store.vaults(vault).await.expect("vaults are listed");
    let [VaultSummary { name: None, records, bytes, .. }] = &vaults[..] else {
        panic!("not the default vault alone: {vaults:?}")
    };
    (*records, *bytes)
}

/// Checks an upgraded copy of a fixture whose records may still have to be filled: nothing is lost, and
/// retries of pushes to the version before are recognized, with a receipt and without.
pub(crate) async fn check_records(store: &Store) {
    let (ada, ben) = (user_of_fixture("ada"), user_of_fixture("ben"));
    let expected = [("kept", 1, 7, false), ("edited", 2, 9, false), ("gone", 2, 0, true)];
    let expected = expected.into_iter().chain([("large", 1, 6000, false)]);
    let expected: Vec<_> = expected
        .map(|(id, version, len, deleted)| (id.to_owned(), version, len, deleted))
        .collect();
    assert_eq!(records(store, &ada).await, expected);
    assert_eq!(records(store, &ben).await, [("kept".to_owned(), 1, 6, false)]);

    let retried = push(store, &ada, &first_push()).await;
    let PushOutcome::Applied { results: written, .. } = retried else {
        panic!("no retry: {retried:?}")
    };
    assert!(written.iter().all(|written| written.version.get() == 1));
    // Another batch, of which each record holds its write already: only the digest shows that.
    let held = [operation("large", None, "x".repeat(6000), false)];
    let beside = [held.to_vec(), vec![operation("kept", None, "kept v1", false)]].concat();
    assert!(matches!(push(store, &ada, &beside).await, PushOutcome::Applied { .. }));
    let other = [operation("large", None, "y".repeat(6000), false)];
    assert!(matches!(push(store, &ada, &other).await, PushOutcome::Refused(_)));
    assert_eq!(records(store, &ada).await, expected, "nothing was written");
    check_digests(store, &ada).await;
}

/// Checks that the manifest and the records by id have the digests of the ciphertexts.
async fn check_digests(store: &Store, vault: &Vault) {
    let read = store.manifest(vault, &ManifestRequest::default(), Unbounded).await;
    let ManifestOutcome::Manifest(manifest) = read.expect("a manifest").0 else {
        panic!("no epoch was named")
    };
    let ids: Vec<&str> = manifest.entries.iter().map(|entry| entry.record_id.as_str()).collect();
    assert_eq!(ids, ["edited", "gone", "kept", "large"]);
    let read = store.records(vault, &records_request(&ids, None), Unbounded).await;
    let RecordsOutcome::Found(found) = read.expect("records").0 else {
        panic!("no epoch was named")
    };
    for (entry, DigestedRecord { record, digest }) in manifest.entries.iter().zip(found.records) {
        assert_eq!(digest, RecordDigest::of(record.ciphertext.as_bytes()));
        assert_eq!((&entry.record_id, entry.digest), (&record.record_id, digest));
    }
}

/// Checks that counters are right once all is filled, and follow later pushes.
pub(crate) async fn check_counters(store: &Store) {
    let (ada, ben) = (user_of_fixture("ada"), user_of_fixture("ben"));
    assert_eq!(counts(store, &ada).await, (Some(3), Some(6016)));
    assert_eq!(counts(store, &ben).await, (Some(1), Some(6)));
    let changes = [
        operation("large", Some(1), "z", false),
        operation("kept", Some(1), "", true),
        operation("new", None, "new", false),
    ];
    assert!(matches!(push(store, &ada, &changes).await, PushOutcome::Applied { .. }));
    assert_eq!(counts(store, &ada).await, (Some(3), Some(9 + 1 + 3)));
}

async fn states(store: &Store, vault: &Vault, at: Timestamp) -> PastStates {
    let query = HistoryQuery::States { at: Cursor::from(at), after: None, limit: 1000 };
    let request = HistoryRequest { query, epoch: None };
    let (outcome, _) = store.history(vault, &request, Unbounded).await.expect("the history");
    let HistoryOutcome::States(states) = outcome else { panic!("no states: {outcome:?}") };
    states
}

/// Each state as id, current version, version, whether it is exact.
fn summary(states: &PastStates) -> Vec<(&str, i64, Option<i64>, bool)> {
    let entries = states.entries.iter().map(|state| {
        let (current, version) = (state.current_version.get(), state.version.map(Version::get));
        (state.record_id.as_str(), current, version, state.exact)
    });
    entries.collect()
}

/// Checks, after [`check_counters`], that versions from before the upgrade are kept when they are replaced, and
/// that a record whose first version is older is not taken for one that was created later.
pub(crate) async fn check_history(store: &Store) {
    let ada = user_of_fixture("ada");
    let before = states(store, &ada, Timestamp::from_millis(i64::MAX)).await;
    assert_eq!(before.entries, []);
    let before = before.head.expect("the vault exists");
    let changes = [
        operation("edited", Some(2), "edited v3", false),
        operation("gone", Some(2), "back", false),
    ];
    assert!(matches!(push(store, &ada, &changes).await, PushOutcome::Applied { .. }));
    let now = states(store, &ada, before).await;
    assert_eq!(summary(&now), [("edited", 3, Some(2), true), ("gone", 3, Some(2), true)]);
    assert_eq!(now.entries[1].deleted, Some(true));
    let start = states(store, &ada, Timestamp::from_millis(0)).await;
    let expected = [
        ("edited", 3, None, false),
        ("gone", 3, None, false),
        ("kept", 2, Some(0), true),
        ("large", 2, Some(0), true),
        ("new", 1, Some(0), true),
    ];
    assert_eq!(summary(&start), expected);
}
