//! Reads of kept versions: pages, single versions, epochs and memory.

use vaultsync_protocol::{
    Epoch, HistoryQuery, HistoryRequest, PastStates, RecordDigest, Timestamp, Version,
};
use vaultsync_store::{EraseOutcome, HistoryOutcome, ReadBudget, Unbounded, Vault};

use crate::{
    dsl::{NOW, create, delete, update, user},
    history_dsl::{MINUTE, cursor, id, numbers, version},
    support::{TestStore, known_epoch},
};

backends!(
    an_unknown_vault_or_record_has_no_versions,
    every_page_size_returns_every_version_once,
    a_page_continues_before_any_version,
    the_current_version_is_found_but_not_listed,
    a_version_that_is_not_kept_is_not_found,
    a_page_of_versions_ends_when_memory_is_used_up,
    a_version_takes_memory_for_its_ciphertext,
    another_epoch_is_reported_by_every_query,
    ids_are_compared_byte_by_byte,
    an_erased_vault_has_no_history,
);

/// A record `a` with six versions that are kept, one a minute, and a seventh that is current.
async fn seven_versions(store: &TestStore) -> Vault {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "v1")], NOW).await;
    for base in 1..=6 {
        let write = update("a", base, &format!("v{}", base + 1));
        store.push_applied_at(&vault, &[write], NOW + base * MINUTE).await;
    }
    vault
}

async fn an_unknown_vault_or_record_has_no_versions(store: TestStore) {
    let vault = user();
    for exists in [false, true] {
        let history = store.versions(&vault, "a", None, 1000).await;
        assert_eq!((history.versions, history.next), (vec![], None));
        assert_eq!(history.record_id, id("a"));
        assert_eq!((history.epoch.is_some(), history.head.is_some()), (exists, exists));
        let found = store.found_version(&vault, "a", 1).await;
        assert_eq!((found.record, found.epoch), (None, history.epoch));
        assert_eq!(found.head, history.head);
        store.push_applied(&vault, &[create("b", "v1")]).await;
    }
}

async fn every_page_size_returns_every_version_once(store: TestStore) {
    let vault = seven_versions(&store).await;
    let whole = store.kept(&vault, "a").await;
    assert_eq!(numbers(&whole), [6, 5, 4, 3, 2, 1]);
    for limit in 1..=7 {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let page = store.versions(&vault, "a", before, limit).await;
            assert!(page.versions.len() <= limit);
            assert_eq!(page.head.expect("a head").as_millis(), NOW + 6 * MINUTE);
            all.extend(page.versions);
            before = page.next.map(Version::get);
            if before.is_none() {
                break;
            }
        }
        assert_eq!(all, whole, "pages of {limit}");
    }
}

async fn a_page_continues_before_any_version(store: TestStore) {
    let vault = seven_versions(&store).await;
    for (before, limit, expected, next) in [
        (None, 5, &[6, 5, 4, 3, 2][..], Some(2)),
        (None, 6, &[6, 5, 4, 3, 2, 1], None),
        (Some(100), 2, &[6, 5], Some(5)),
        (Some(7), 1, &[6], Some(6)),
        (Some(3), 1, &[2], Some(2)),
        (Some(3), 2, &[2, 1], None),
        (Some(1), 1000, &[], None),
    ] {
        let page = store.versions(&vault, "a", before, limit).await;
        let found = (numbers(&page.versions), page.next.map(Version::get));
        assert_eq!(found, (expected.to_vec(), next), "{limit} before {before:?}");
    }
}

async fn the_current_version_is_found_but_not_listed(store: TestStore) {
    let vault = seven_versions(&store).await;
    let current = store.version(&vault, "a", 7).await;
    assert_eq!((current.replaced_at, current.ciphertext.as_bytes()), (None, &b"v7"[..]));
    assert_eq!(current.updated_at.as_millis(), NOW + 6 * MINUTE);
    assert_eq!(current.digest, RecordDigest::of(b"v7"));
    for number in 1..=6 {
        let found = store.version(&vault, "a", number).await;
        assert_eq!(found.ciphertext.as_bytes(), format!("v{number}").as_bytes());
        assert_eq!(found.replaced_at.map(Timestamp::as_millis), Some(NOW + number * MINUTE));
    }
    store.push_applied_at(&vault, &[delete("a", 7)], NOW + 7 * MINUTE).await;
    let tombstone = store.version(&vault, "a", 8).await;
    assert!(tombstone.deleted && tombstone.ciphertext.is_empty());
}

async fn a_version_that_is_not_kept_is_not_found(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "v1")], NOW + 1).await;
    store.push_applied_at(&vault, &[update("a", 1, "v2")], NOW + 2).await;
    for number in [1, 3, 1_000_000] {
        let found = store.found_version(&vault, "a", number).await;
        assert_eq!(found.record, None, "version {number}");
        assert_eq!(found.head.map(Timestamp::as_millis), Some(NOW + 2));
    }
}

/// A budget of some entries, which counts the bytes that are asked for.
#[derive(Debug, Default)]
struct Entries {
    room: usize,
    bytes: usize,
}

impl ReadBudget for Entries {
    fn take(&mut self, ciphertext_bytes: usize) -> bool {
        self.bytes += ciphertext_bytes;
        let left = self.room.checked_sub(1);
        self.room = left.unwrap_or(0);
        left.is_some()
    }

    fn clear(&mut self) {}
}

async fn a_page_of_versions_ends_when_memory_is_used_up(store: TestStore) {
    let vault = seven_versions(&store).await;
    for (room, expected, next) in [
        (0, &[6][..], Some(6)),
        (1, &[6], Some(6)),
        (4, &[6, 5, 4, 3], Some(3)),
        (6, &[6, 5, 4, 3, 2, 1], None),
    ] {
        let query = HistoryQuery::Versions { record_id: id("a"), before: None, limit: 1000 };
        let budget = Entries { room, bytes: 0 };
        let HistoryOutcome::Versions(page) = store.history(&vault, query, budget).await else {
            panic!("versions were asked for")
        };
        let found = (numbers(&page.versions), page.next.map(Version::get));
        assert_eq!(found, (expected.to_vec(), next), "room for {room}");
    }
}

async fn a_version_takes_memory_for_its_ciphertext(store: TestStore) {
    let vault = user();
    let text = "x".repeat(12_345);
    store.push_applied_at(&vault, &[create("a", &text)], NOW).await;
    store.push_applied_at(&vault, &[update("a", 1, "now")], NOW + MINUTE).await;
    for (number, bytes) in [(1, 12_345), (2, 3), (3, 0)] {
        let query = HistoryQuery::Version { record_id: id("a"), version: version(number) };
        let request = HistoryRequest { query, epoch: None };
        let budget = Entries { room: 1, bytes: 0 };
        let (outcome, budget) =
            store.store.history(&vault, &request, budget).await.expect("a version");
        let HistoryOutcome::Version(found) = outcome else { panic!("one version was asked for") };
        assert_eq!((found.record.is_some(), budget.bytes), (bytes > 0, bytes));
    }
}

async fn another_epoch_is_reported_by_every_query(store: TestStore) {
    let vault = user();
    let queries = [
        HistoryQuery::Versions { record_id: id("a"), before: None, limit: 1 },
        HistoryQuery::Version { record_id: id("a"), version: version(1) },
        HistoryQuery::States { at: cursor(NOW), after: None, limit: 1 },
    ];
    let read = async |query: &HistoryQuery, epoch: Option<Epoch>| {
        let request = HistoryRequest { query: query.clone(), epoch: epoch.map(known_epoch) };
        store.store.history(&vault, &request, Unbounded).await.expect("the history").0
    };
    let another = Some(Epoch::from_bytes([9; 16]));
    for query in &queries {
        assert_eq!(read(query, another).await, HistoryOutcome::EpochChanged, "no vault");
    }
    store.push_applied(&vault, &[create("a", "v1")]).await;
    let epoch = store.page(&vault, None, 1).await.epoch;
    for query in &queries {
        assert_eq!(read(query, another).await, HistoryOutcome::EpochChanged);
        assert_eq!(read(query, epoch).await, read(query, None).await);
    }
}

async fn ids_are_compared_byte_by_byte(store: TestStore) {
    let vault = user();
    let ids = ["a", "A", "a ", "ä", "a\u{308}", "ß", "ss", "'", "%", "_"];
    store.push_applied_at(&vault, &ids.map(|id| create(id, id)), NOW).await;
    store.push_applied_at(&vault, &ids.map(|id| update(id, 1, "v2")), NOW + MINUTE).await;
    for id in ids {
        let found = store.version(&vault, id, 1).await;
        assert_eq!(found.ciphertext.as_bytes(), id.as_bytes(), "{id:?}");
    }
    assert_eq!(store.kept(&vault, "b").await, []);
}

async fn an_erased_vault_has_no_history(store: TestStore) {
    let vault = seven_versions(&store).await;
    let epoch = store.page(&vault, None, 1).await.epoch.expect("an epoch");
    let now = Timestamp::from_millis(NOW + 7 * MINUTE);
    let erased = store.store.erase(&vault, &known_epoch(epoch), now).await.expect("an outcome");
    assert_eq!(erased, EraseOutcome::Erased);
    // At once, and not only when the rows are gone.
    let history = store.versions(&vault, "a", None, 1000).await;
    assert_eq!((history.versions, history.head), (vec![], None));
    assert_eq!(store.found_version(&vault, "a", 1).await.record, None);
    assert_eq!(store.states_page(&vault, i64::MIN, None, 1000).await, PastStates::default());
    let query = HistoryQuery::Version { record_id: id("a"), version: version(1) };
    let request = HistoryRequest { query, epoch: Some(known_epoch(epoch)) };
    let (outcome, _) = store.store.history(&vault, &request, Unbounded).await.expect("an outcome");
    assert_eq!(outcome, HistoryOutcome::VaultErased);
}
