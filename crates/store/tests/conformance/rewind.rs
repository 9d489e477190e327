//! The states that records had at a cursor: which are listed, what is said of them, and where a page ends.
//!
//! Not here: random histories (`rewind_model`).

use futures_util::future::join_all;
use vaultsync_protocol::{HistoryQuery, Operation, RecordDigest, RecordId, Timestamp};
use vaultsync_store::{HistoryOutcome, ReadBudget, Vault};

use crate::{
    dsl::{HOUR, NOW, create, creates, delete, operation, update, user},
    history_dsl::{MINUTE, SECOND, State, cursor, state},
    support::TestStore,
};

backends!(
    records_that_did_not_change_are_not_listed,
    a_record_created_later_did_not_exist,
    a_kept_version_that_stood_at_the_cursor_is_exact,
    an_earlier_kept_version_is_not_exact,
    a_record_without_a_kept_version_is_not_known,
    a_tombstone_at_the_cursor_is_listed_as_one,
    entries_say_what_the_version_says,
    pages_of_any_size_list_every_record_once,
    a_page_looks_at_as_many_records_as_its_limit,
    a_page_of_states_ends_when_memory_is_used_up,
    every_id_is_listed_in_byte_order,
    a_vault_that_was_deleted_comes_back_whole,
);

/// NOW is a boundary of ten minutes, which most cases must not cross.
const START: i64 = NOW + SECOND;

/// The states at a cursor, as the case states them.
async fn check(store: &TestStore, vault: &Vault, at: i64, expected: &[State<'_>]) {
    let states = store.states(vault, at, 1000).await;
    let found: Vec<_> = states.iter().map(state).collect();
    assert_eq!(found, expected, "{} ms after the start", at - START);
}

async fn records_that_did_not_change_are_not_listed(store: TestStore) {
    let vault = user();
    check(&store, &vault, START, &[]).await;
    assert_eq!(store.states_page(&vault, START, None, 1).await.head, None);
    store.push_applied_at(&vault, &creates("r", 3), START).await;
    check(&store, &vault, START + 2, &[]).await;
    check(&store, &vault, i64::MAX, &[]).await;
    store.push_applied_at(&vault, &[update("r1", 1, "v2")], START + MINUTE).await;
    check(&store, &vault, START + 2, &[("r1", 2, Some(1), true)]).await;
    check(&store, &vault, START + MINUTE, &[]).await;
    let page = store.states_page(&vault, START, None, 1000).await;
    assert_eq!(page.head.map(Timestamp::as_millis), Some(START + MINUTE));
    assert_eq!(page.epoch.unwrap().to_string(), store.epoch(&vault).await);
}

async fn a_record_created_later_did_not_exist(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("old", "v1")], START).await;
    store.push_applied_at(&vault, &[create("new", "v1")], START + MINUTE).await;
    check(&store, &vault, START, &[("new", 1, Some(0), true)]).await;
    // Also once the record has kept versions.
    store.push_applied_at(&vault, &[update("new", 1, "v2")], START + HOUR).await;
    check(&store, &vault, START, &[("new", 2, Some(0), true)]).await;
    check(&store, &vault, START + MINUTE, &[("new", 2, Some(1), true)]).await;
    let states = store.states(&vault, START, 1000).await;
    let nothing = (states[0].deleted, states[0].updated_at, states[0].bytes, states[0].digest);
    assert_eq!(nothing, (None, None, None, None));
    let all = [("new", 2, Some(0), true), ("old", 1, Some(0), true)];
    check(&store, &vault, START - 1, &all).await;
    check(&store, &vault, i64::MIN, &all).await;
}

async fn a_kept_version_that_stood_at_the_cursor_is_exact(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "v1")], START).await;
    for base in 1..=3 {
        let write = update("a", base, &format!("v{}", base + 1));
        store.push_applied_at(&vault, &[write], START + base * MINUTE).await;
    }
    for (at, version) in
        [(START, 1), (START + MINUTE - 1, 1), (START + MINUTE, 2), (START + 3 * MINUTE - 1, 3)]
    {
        check(&store, &vault, at, &[("a", 4, Some(version), true)]).await;
    }
    check(&store, &vault, START + 3 * MINUTE, &[]).await;
}

async fn an_earlier_kept_version_is_not_exact(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "v1")], START).await;
    store.push_applied_at(&vault, &[update("a", 1, "v2")], START + MINUTE).await;
    // Stood for a second.
    store.push_applied_at(&vault, &[update("a", 2, "v3")], START + MINUTE + SECOND).await;
    store.push_applied_at(&vault, &[update("a", 3, "v4")], START + 3 * MINUTE).await;
    assert_eq!(store.kept_numbers(&vault, "a").await, [3, 1]);
    check(&store, &vault, START + MINUTE - 1, &[("a", 4, Some(1), true)]).await;
    check(&store, &vault, START + MINUTE, &[("a", 4, Some(1), false)]).await;
    check(&store, &vault, START + MINUTE + SECOND - 1, &[("a", 4, Some(1), false)]).await;
    check(&store, &vault, START + MINUTE + SECOND, &[("a", 4, Some(3), true)]).await;
}

async fn a_record_without_a_kept_version_is_not_known(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "v1")], START).await;
    store.push_applied_at(&vault, &[update("a", 1, "v2")], START + SECOND).await;
    store.push_applied_at(&vault, &[update("a", 2, "v3")], START + 2 * MINUTE).await;
    check(&store, &vault, START, &[("a", 3, None, false)]).await;
    check(&store, &vault, START + SECOND, &[("a", 3, Some(2), true)]).await;
    let states = store.states(&vault, START, 1000).await;
    let nothing = (states[0].deleted, states[0].updated_at, states[0].bytes, states[0].digest);
    assert_eq!(nothing, (None, None, None, None));
}

async fn a_tombstone_at_the_cursor_is_listed_as_one(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "v1")], START).await;
    store.push_applied_at(&vault, &[delete("a", 1)], START + MINUTE).await;
    store.push_applied_at(&vault, &[update("a", 2, "back")], START + 2 * MINUTE).await;
    for (at, deleted) in [(START, false), (START + MINUTE, true)] {
        let states = store.states(&vault, at, 1000).await;
        assert_eq!((states[0].deleted, states[0].exact), (Some(deleted), true));
    }
}

async fn entries_say_what_the_version_says(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "twelve bytes")], START).await;
    store.push_applied_at(&vault, &[update("a", 1, "v2")], START + MINUTE).await;
    let states = store.states(&vault, START, 1000).await;
    let kept = store.kept(&vault, "a").await[0];
    assert_eq!(states[0].version, Some(kept.version));
    assert_eq!(states[0].current_version, kept.version.next());
    assert_eq!(states[0].updated_at, Some(kept.updated_at));
    assert_eq!((states[0].deleted, states[0].bytes), (Some(false), Some(12)));
    assert_eq!(states[0].digest, Some(RecordDigest::of(b"twelve bytes")));
}

/// A vault of `r0` to `r8`, of which those with an odd number changed after the start.
async fn five_unchanged_and_four_changed(store: &TestStore) -> Vault {
    let vault = user();
    store.push_applied_at(&vault, &creates("r", 9), START).await;
    let changes = ["r1", "r3", "r5", "r7"].map(|id| update(id, 1, "v2"));
    store.push_applied_at(&vault, &changes, START + MINUTE).await;
    vault
}

async fn pages_of_any_size_list_every_record_once(store: TestStore) {
    let vault = five_unchanged_and_four_changed(&store).await;
    let whole = store.states(&vault, START + SECOND, 1000).await;
    let ids: Vec<_> = whole.iter().map(|state| state.record_id.as_str()).collect();
    assert_eq!(ids, ["r1", "r3", "r5", "r7"]);
    for limit in (1..=10).chain([999]) {
        assert_eq!(store.states(&vault, START + SECOND, limit).await, whole, "pages of {limit}");
    }
}

async fn a_page_looks_at_as_many_records_as_its_limit(store: TestStore) {
    let vault = five_unchanged_and_four_changed(&store).await;
    for (after, limit, expected, next) in [
        (None, 1, &[][..], Some("r0")),
        (Some("r0"), 1, &["r1"], Some("r1")),
        (None, 3, &["r1"], Some("r2")),
        (Some("r2"), 3, &["r3", "r5"], Some("r5")),
        (Some("r5"), 3, &["r7"], None),
        (Some("r5"), 2, &["r7"], Some("r7")),
        (Some("r7"), 1, &[], None),
        (Some("r4x"), 1, &["r5"], Some("r5")),
        (Some("r8"), 1000, &[], None),
        (None, 9, &["r1", "r3", "r5", "r7"], None),
        (None, 8, &["r1", "r3", "r5", "r7"], Some("r7")),
    ] {
        let page = store.states_page(&vault, START + SECOND, after, limit).await;
        let ids: Vec<_> = page.entries.iter().map(|state| state.record_id.as_str()).collect();
        let found = (ids, page.next.as_ref().map(RecordId::as_str));
        assert_eq!(found, (expected.to_vec(), next), "{limit} after {after:?}");
    }
}

/// A budget of some entries.
struct Entries(usize);

impl ReadBudget for Entries {
    fn take(&mut self, _: usize) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }

    fn clear(&mut self) {}
}

async fn a_page_of_states_ends_when_memory_is_used_up(store: TestStore) {
    let vault = five_unchanged_and_four_changed(&store).await;
    for (after, room, expected, next) in [
        (None, 0, &[][..], Some("r0")),
        (Some("r0"), 0, &["r1"], Some("r2")),
        (None, 1, &["r1"], Some("r2")),
        (None, 3, &["r1", "r3", "r5"], Some("r6")),
        (None, 4, &["r1", "r3", "r5", "r7"], None),
    ] {
        let after = after.map(crate::history_dsl::id);
        let query = HistoryQuery::States { at: cursor(START + SECOND), after, limit: 1000 };
        let HistoryOutcome::States(page) = store.history(&vault, query, Entries(room)).await else {
            panic!("states were asked for")
        };
        let ids: Vec<_> = page.entries.iter().map(|state| state.record_id.as_str()).collect();
        let found = (ids, page.next.as_ref().map(RecordId::as_str));
        assert_eq!(found, (expected.to_vec(), next), "room for {room}");
    }
}

async fn every_id_is_listed_in_byte_order(store: TestStore) {
    let vault = user();
    let mut ids = ["b", "A", "é", "a", "vaultsync.keyring", "vaultsync.pair.x", "~", "a b", "😀"];
    store.push_applied_at(&vault, &ids.map(|id| create(id, "v1")), START).await;
    store.push_applied_at(&vault, &ids.map(|id| update(id, 1, "v2")), START + MINUTE).await;
    ids.sort_by_key(|id| id.as_bytes());
    for limit in [1, 3, 1000] {
        let states = store.states(&vault, START + SECOND, limit).await;
        let found: Vec<_> = states.iter().map(|state| state.record_id.as_str()).collect();
        assert_eq!(found, ids, "pages of {limit}");
    }
    let pair = [("vaultsync.pair.x", 2, None, false)];
    let states = store.states(&vault, START + SECOND, 1000).await;
    let found: Vec<_> =
        states.iter().map(state).filter(|state| state.0.starts_with("vaultsync.pair.")).collect();
    assert_eq!(found, pair);
}

/// As a client does: list, read each version, push it again.
async fn a_vault_that_was_deleted_comes_back_whole(store: TestStore) {
    const RECORDS: usize = 10_000;
    let vault = user();
    let ids: Vec<_> = (0..RECORDS).map(|n| format!("note-{n}")).collect();
    let push = async |operations: Vec<Operation>, now| {
        for (push, operations) in (0..).zip(operations.chunks(100)) {
            store.push_applied_at(&vault, operations, now + push * SECOND).await;
        }
    };
    push(ids.iter().map(|id| create(id, &format!("content of {id}"))).collect(), NOW).await;
    let before = store.head(&vault).await;
    push(ids.iter().map(|id| delete(id, 1)).collect(), NOW + HOUR).await;
    let states = store.states(&vault, before, 1000).await;
    assert_eq!(states.len(), RECORDS);
    let mut restored = Vec::new();
    for states in states.chunks(50) {
        let versions = states.iter().map(async |state| {
            assert!(state.exact, "{state:?}");
            let version = state.version.expect("a version").get();
            let found = store.version(&vault, state.record_id.as_str(), version).await;
            let base = Some(state.current_version.get());
            operation(state.record_id.as_str(), base, found.ciphertext.as_bytes(), found.deleted)
        });
        restored.extend(join_all(versions).await);
    }
    push(restored, NOW + 2 * HOUR).await;
    let mut records = store.summaries(&vault).await;
    records.sort();
    let mut expected: Vec<_> = ids
        .iter()
        .map(|id| (id.clone(), 3, format!("content of {id}").into_bytes(), false))
        .collect();
    expected.sort();
    assert!(records == expected, "every record is as it was");
}
