//! Pages of a vault's kept versions, with their ciphertexts.

use vaultsync_protocol::{Epoch, RecordDigest, RecordVersion, Timestamp};
use vaultsync_store::{
    OperatorStore, ReadBudget, Revisions, RevisionsOutcome, RevisionsRequest, StoreOptions,
    Unbounded, Vault,
};

use crate::{
    dsl::{NOW, create, delete, options, update, user},
    history_dsl::MINUTE,
    support::{Backend, TestStore, known_epoch},
};

backends!(
    an_unknown_or_unchanged_vault_has_no_kept_versions,
    kept_versions_are_in_the_order_of_records_and_versions,
    pages_end_at_their_bytes_and_have_every_version_once,
    a_page_ends_when_memory_is_used_up_but_has_one_version,
    another_epoch_is_reported_with_kept_versions,
    kept_versions_are_those_of_one_vault,
    an_operator_reads_the_same_versions,
);

async fn page(store: &TestStore, vault: &Vault, request: &RevisionsRequest) -> Revisions {
    match store.store.revisions(vault, request, Unbounded).await.expect("a page").0 {
        RevisionsOutcome::Page(page) => page,
        other => panic!("no page: {other:?}"),
    }
}

/// The versions of all pages, and the number of pages that are not empty.
async fn all(store: &TestStore, vault: &Vault) -> (Vec<RecordVersion>, usize) {
    let (mut versions, mut request, mut pages) = (Vec::new(), RevisionsRequest::default(), 0);
    loop {
        let read = page(store, vault, &request).await;
        let next = request.after_page(&read);
        versions.extend(read.versions);
        let Some(next) = next else { return (versions, pages) };
        (request, pages) = (next, pages + 1);
    }
}

/// The id and number of each version.
fn keys(versions: &[RecordVersion]) -> Vec<(&str, i64)> {
    let key = |one: &RecordVersion| (one.record_id.to_string(), one.version.get());
    assert!(versions.is_sorted_by(|a, b| key(a) < key(b)));
    versions.iter().map(|one| (one.record_id.as_str(), one.version.get())).collect()
}

/// Replaces versions of `b`, `a` and `B`, of which the last is a tombstone.
async fn fill(store: &TestStore, vault: &Vault) {
    store
        .push_applied_at(vault, &[create("b", "b1"), create("a", "a1"), create("B", "B1")], NOW)
        .await;
    store.push_applied_at(vault, &[update("b", 1, "b2"), delete("B", 1)], NOW + MINUTE).await;
    let writes = [update("b", 2, "b3"), update("a", 1, "a2"), update("B", 2, "B3")];
    store.push_applied_at(vault, &writes, NOW + 2 * MINUTE).await;
}

const FILLED: [(&str, i64); 5] = [("B", 1), ("B", 2), ("a", 1), ("b", 1), ("b", 2)];

async fn an_unknown_or_unchanged_vault_has_no_kept_versions(store: TestStore) {
    let vault = user();
    assert_eq!(all(&store, &vault).await, (vec![], 0));
    store.push_applied(&vault, &[create("a", "v1")]).await;
    assert_eq!(all(&store, &vault).await, (vec![], 0));
}

async fn kept_versions_are_in_the_order_of_records_and_versions(store: TestStore) {
    let vault = user();
    fill(&store, &vault).await;
    let (versions, _) = all(&store, &vault).await;
    assert_eq!(keys(&versions), FILLED);
    for one in &versions {
        assert_eq!(one.digest, RecordDigest::of(one.ciphertext.as_bytes()));
        let found = store.version(&vault, one.record_id.as_str(), one.version.get()).await;
        assert_eq!(*one, found);
    }
    let tombstone = &versions[1];
    assert!(tombstone.deleted && tombstone.ciphertext.is_empty());
    let replaced = tombstone.replaced_at.map(Timestamp::as_millis);
    assert_eq!(replaced, Some(NOW + 2 * MINUTE + 2));
}

async fn pages_end_at_their_bytes_and_have_every_version_once(store: TestStore) {
    let TestStore { backend, .. } = store;
    for (bytes_max, pages) in [(1, 5), (2, 4), (4, 2), (1000, 1)] {
        let options = StoreOptions { page_bytes_max: bytes_max, ..options() };
        let (store, vault) = (TestStore::open(backend, options).await, user());
        fill(&store, &vault).await;
        let (versions, found) = all(&store, &vault).await;
        assert_eq!((keys(&versions), found), (FILLED.to_vec(), pages), "pages of {bytes_max}");
    }
}

/// A budget that has room for some versions.
struct Room(usize);

impl ReadBudget for Room {
    fn take(&mut self, _: usize) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }

    fn clear(&mut self) {}
}

async fn a_page_ends_when_memory_is_used_up_but_has_one_version(store: TestStore) {
    let vault = user();
    fill(&store, &vault).await;
    for (room, expected) in [(0, 1), (1, 1), (3, 3), (5, 5), (9, 5)] {
        let request = RevisionsRequest::default();
        let read = store.store.revisions(&vault, &request, Room(room)).await.expect("a page");
        let RevisionsOutcome::Page(page) = read.0 else { panic!("no page: {:?}", read.0) };
        assert_eq!(keys(&page.versions), FILLED[..expected], "room for {room}");
    }
}

async fn another_epoch_is_reported_with_kept_versions(store: TestStore) {
    let vault = user();
    fill(&store, &vault).await;
    let read = async |epoch: Epoch| {
        let request = RevisionsRequest { epoch: Some(known_epoch(epoch)), after: None };
        store.store.revisions(&vault, &request, Unbounded).await.expect("an outcome").0
    };
    assert_eq!(read(Epoch::from_bytes([9; 16])).await, RevisionsOutcome::EpochChanged);
    let epoch = store.page(&vault, None, 1).await.epoch.expect("an epoch");
    assert!(matches!(read(epoch).await, RevisionsOutcome::Page(page) if page.versions.len() == 5));
    let now = Timestamp::from_millis(NOW + 3 * MINUTE);
    store.store.erase(&vault, &known_epoch(epoch), now).await.expect("an erasure");
    assert_eq!(read(epoch).await, RevisionsOutcome::VaultErased);
}

async fn kept_versions_are_those_of_one_vault(store: TestStore) {
    let (vault, other) = (user(), user());
    fill(&store, &vault).await;
    store.push_applied_at(&other, &[create("a", "other")], NOW).await;
    store.push_applied_at(&other, &[update("a", 1, "other 2")], NOW + MINUTE).await;
    let (versions, _) = all(&store, &other).await;
    assert_eq!(keys(&versions), [("a", 1)]);
    assert_eq!(versions[0].ciphertext.as_bytes(), b"other");
    assert_eq!(keys(&all(&store, &vault).await.0), FILLED);
}

async fn an_operator_reads_the_same_versions(store: TestStore) {
    let vault = user();
    fill(&store, &vault).await;
    let (versions, _) = all(&store, &vault).await;
    let head = store.page(&vault, None, 1).await.head;
    let operator = match store.backend {
        Backend::Sqlite => {
            OperatorStore::open_sqlite(&TestStore::sqlite_path(&store.folder)).expect("it opens")
        }
        Backend::Postgres => OperatorStore::Postgres(Box::new(store.store)),
    };
    let request = RevisionsRequest::default();
    let outcome = operator.revisions(&vault, &request).await.expect("a page");
    assert_eq!(outcome, RevisionsOutcome::Page(Revisions { versions, head }));
}
