//! Which replaced versions are kept.
//!
//! Not here: paging (`history_reads`), states at a cursor (`rewind`).

use futures_util::future::join_all;
use vaultsync_protocol::{Operation, RecordDigest, Timestamp};
use vaultsync_store::{HistoryOptions, PushOutcome, StoreOptions};

use crate::{
    dsl::{HOUR, NOW, create, creates, delete, options, update, user},
    history_dsl::{MINUTE, SECOND},
    support::{TestStore, batch},
};

backends!(
    a_version_that_stood_for_a_minute_is_kept_as_it_was,
    a_version_that_stood_for_less_is_not_kept,
    a_version_is_kept_over_a_boundary_of_ten_minutes,
    autosaves_cost_one_version_in_ten_minutes,
    a_tombstone_and_a_restored_record_keep_what_they_replace,
    messages_of_a_pairing_are_never_kept,
    nothing_is_kept_while_the_history_is_off,
    a_full_history_keeps_what_stood_for_an_hour,
    a_refused_push_keeps_nothing,
    a_retry_keeps_nothing,
    every_record_of_a_batch_is_decided_by_itself,
    large_pushes_keep_what_they_replace,
    pushes_at_the_same_time_keep_what_they_replace,
    each_vault_has_its_own_history,
    the_history_survives_a_restart,
);

/// NOW is a boundary of ten minutes, which most cases must not cross.
const START: i64 = NOW + SECOND;

/// A new store of the same backend with other rules.
async fn with_history(store: &TestStore, history: HistoryOptions) -> TestStore {
    TestStore::open(store.backend, StoreOptions { history, ..options() }).await
}

async fn a_version_that_stood_for_a_minute_is_kept_as_it_was(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "first")], START).await;
    assert_eq!(store.kept(&vault, "a").await, []);
    store.push_applied_at(&vault, &[update("a", 1, "second")], START + MINUTE).await;
    let kept = store.kept(&vault, "a").await;
    let [one] = &kept[..] else { panic!("not one version: {kept:?}") };
    assert_eq!((one.version.get(), one.deleted, one.bytes), (1, false, 5));
    assert_eq!(one.updated_at, Timestamp::from_millis(START));
    assert_eq!(one.replaced_at, Timestamp::from_millis(START + MINUTE));
    assert_eq!(one.digest, RecordDigest::of(b"first"));
    let found = store.version(&vault, "a", 1).await;
    assert_eq!((found.record_id.as_str(), found.version.get()), ("a", 1));
    assert_eq!((found.ciphertext.as_bytes(), found.deleted), (&b"first"[..], false));
    assert_eq!((found.updated_at, found.replaced_at), (one.updated_at, Some(one.replaced_at)));
    assert_eq!(found.digest, one.digest);
}

async fn a_version_that_stood_for_less_is_not_kept(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "v1")], START).await;
    store.push_applied_at(&vault, &[update("a", 1, "v2")], START + MINUTE - 1).await;
    assert_eq!(store.kept_numbers(&vault, "a").await, [0; 0]);
    // Counted from its own writing, not from that of the record.
    store.push_applied_at(&vault, &[update("a", 2, "v3")], START + 2 * MINUTE - 2).await;
    assert_eq!(store.kept_numbers(&vault, "a").await, [0; 0]);
    store.push_applied_at(&vault, &[update("a", 3, "v4")], START + 3 * MINUTE - 2).await;
    assert_eq!(store.kept_numbers(&vault, "a").await, [3]);
}

async fn a_version_is_kept_over_a_boundary_of_ten_minutes(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "v1")], NOW - 2).await;
    store.push_applied_at(&vault, &[update("a", 1, "v2")], NOW - 1).await;
    store.push_applied_at(&vault, &[update("a", 2, "v3")], NOW).await;
    store.push_applied_at(&vault, &[update("a", 3, "v4")], NOW + 1).await;
    assert_eq!(store.kept_numbers(&vault, "a").await, [2]);
    // The wall clock, and not that of the vault, which runs ahead of it here.
    let ahead = user();
    store.push_applied_at(&ahead, &[create("a", "v1")], NOW + HOUR).await;
    store.push_applied_at(&ahead, &[update("a", 1, "v2")], NOW).await;
    store.push_applied_at(&ahead, &[update("a", 2, "v3")], NOW + 30 * SECOND).await;
    store.push_applied_at(&ahead, &[update("a", 3, "v4")], NOW + 60 * SECOND).await;
    assert_eq!(store.kept_numbers(&ahead, "a").await, [1], "the clock went back over a boundary");
    store.push_applied_at(&ahead, &[update("a", 4, "v5")], NOW + 2 * MINUTE).await;
    assert_eq!(store.kept_numbers(&ahead, "a").await, [4, 1]);
}

async fn autosaves_cost_one_version_in_ten_minutes(store: TestStore) {
    const PERIODS: i64 = 3;
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "saved")], NOW).await;
    let saves = PERIODS * 10 * MINUTE / (5 * SECOND);
    for save in 1..=saves {
        let write = update("a", save, &format!("saved {save}"));
        store.push_applied_at(&vault, &[write], NOW + save * 5 * SECOND).await;
    }
    let expected: Vec<_> = (1..=PERIODS).rev().map(|period| period * saves / PERIODS).collect();
    assert_eq!(store.kept_numbers(&vault, "a").await, expected, "the last one of each period");
}

async fn a_tombstone_and_a_restored_record_keep_what_they_replace(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "content")], START).await;
    store.push_applied_at(&vault, &[delete("a", 1)], START + MINUTE).await;
    store.push_applied_at(&vault, &[update("a", 2, "content")], START + 2 * MINUTE).await;
    let kept = store.kept(&vault, "a").await;
    let summary: Vec<_> =
        kept.iter().map(|kept| (kept.version.get(), kept.deleted, kept.bytes)).collect();
    assert_eq!(summary, [(2, true, 0), (1, false, 7)]);
    assert!(store.version(&vault, "a", 2).await.deleted);
}

async fn messages_of_a_pairing_are_never_kept(store: TestStore) {
    let vault = user();
    let ids = ["vaultsync.pair.x", "vaultsync.pair.", "vaultsync.pair", "vaultsync.keyring", "a"];
    store.push_applied_at(&vault, &ids.map(|id| create(id, "secret")), START).await;
    store.push_applied_at(&vault, &ids.map(|id| update(id, 1, "v2")), START + HOUR).await;
    for (id, kept) in ids.into_iter().zip([false, false, true, true, true]) {
        assert_eq!(!store.kept(&vault, id).await.is_empty(), kept, "{id}");
    }
}

async fn nothing_is_kept_while_the_history_is_off(store: TestStore) {
    let off = HistoryOptions { days: 0, ..HistoryOptions::default() };
    let (store, vault) = (with_history(&store, off).await, user());
    store.push_applied_at(&vault, &[create("a", "v1")], START).await;
    store.push_applied_at(&vault, &[update("a", 1, "v2")], START + HOUR).await;
    assert_eq!(store.kept(&vault, "a").await, []);
    assert_eq!(store.found_version(&vault, "a", 1).await.record, None);
    let [state] = &store.states(&vault, START, 1000).await[..] else { panic!("not one state") };
    assert_eq!((state.version, state.exact), (None, false));
}

async fn a_full_history_keeps_what_stood_for_an_hour(store: TestStore) {
    let small = HistoryOptions { bytes_max: 10, ..HistoryOptions::default() };
    let (store, vault) = (with_history(&store, small).await, user());
    let names = ["a", "b", "c"];
    store.push_applied_at(&vault, &names.map(|id| create(id, "123456")), START).await;
    let minute_later = START + MINUTE + SECOND;
    store.push_applied_at(&vault, &[update("a", 1, "v2")], minute_later).await;
    // The second one exceeds the limit, the third finds it exceeded.
    store.push_applied_at(&vault, &[update("b", 1, "v2")], minute_later).await;
    store.push_applied_at(&vault, &[update("c", 1, "v2")], minute_later).await;
    let has_history = async |id| !store.kept(&vault, id).await.is_empty();
    assert!(has_history("a").await && has_history("b").await && !has_history("c").await);
    store.push_applied_at(&vault, &[update("c", 2, "v3")], minute_later + HOUR - 1).await;
    assert!(!has_history("c").await);
    store.push_applied_at(&vault, &[update("c", 3, "v4")], minute_later + 2 * HOUR - 1).await;
    assert_eq!(store.kept_numbers(&vault, "c").await, [3]);
    let other = user();
    store.push_applied_at(&other, &[create("a", "v1")], START).await;
    store.push_applied_at(&other, &[update("a", 1, "v2")], minute_later).await;
    assert_eq!(store.kept_numbers(&other, "a").await, [1], "by vault");
}

async fn a_refused_push_keeps_nothing(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &creates("r", 3), START).await;
    let push = [update("r0", 1, "v2"), update("r1", 7, "conflict"), delete("r2", 1)];
    let refused = store.push(&vault, batch(&push, None), START + HOUR).await;
    assert!(matches!(refused, PushOutcome::Refused(_)), "{refused:?}");
    for id in ["r0", "r1", "r2"] {
        assert_eq!(store.kept(&vault, id).await, [], "{id}");
    }
}

async fn a_retry_keeps_nothing(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "v1")], START).await;
    let push = [update("a", 1, "v2")];
    for minutes in [1, 2, 3] {
        store.push_applied_at(&vault, &push, START + minutes * MINUTE).await;
    }
    // A retry in another batch, recognized by what the record holds.
    let beside = [update("a", 1, "v2"), create("b", "v1")];
    store.push_applied_at(&vault, &beside, START + 4 * MINUTE).await;
    assert_eq!(store.kept_numbers(&vault, "a").await, [1]);
    assert_eq!(store.kept(&vault, "b").await, []);
}

async fn every_record_of_a_batch_is_decided_by_itself(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("old", "v1"), create("both", "v1")], START).await;
    let later = START + 2 * MINUTE;
    store.push_applied_at(&vault, &[create("new", "v1"), update("both", 1, "v2")], later).await;
    let push = [
        update("new", 1, "v2"),
        update("both", 2, "v3"),
        create("x", "v1"),
        update("old", 1, "v2"),
        create("vaultsync.pair.y", "v1"),
    ];
    store.push_applied_at(&vault, &push, later + SECOND).await;
    assert_eq!(store.kept_numbers(&vault, "old").await, [1]);
    assert_eq!(store.kept_numbers(&vault, "both").await, [1]);
    assert_eq!(store.kept_numbers(&vault, "new").await, [0; 0]);
    let old = store.kept(&vault, "old").await[0].replaced_at;
    let states = store.states(&vault, later, 100).await;
    let head = states.iter().find(|state| state.record_id.as_str() == "old");
    assert!(head.is_some(), "it changed after the cursor");
    let page = store.page(&vault, Some(old.as_millis() - 1), 1).await;
    assert_eq!(page.records[0].record_id.as_str(), "old", "replaced at its own millisecond");
}

/// More records and bytes than pushes that share a transaction may have.
async fn large_pushes_keep_what_they_replace(store: TestStore) {
    let vault = user();
    let text = |n: usize, round: usize| format!("{n} of {round} {}", "x".repeat(20_000));
    let ids: Vec<_> = (0..100).map(|n| format!("r{n}")).collect();
    let first: Vec<_> = ids.iter().enumerate().map(|(n, id)| create(id, &text(n, 1))).collect();
    store.push_applied_at(&vault, &first, START).await;
    let second: Vec<_> = ids.iter().enumerate().map(|(n, id)| update(id, 1, &text(n, 2))).collect();
    store.push_applied_at(&vault, &second, START + MINUTE).await;
    for (n, id) in ids.iter().enumerate() {
        let found = store.version(&vault, id, 1).await;
        assert_eq!(found.ciphertext.as_bytes(), text(n, 1).as_bytes(), "{id}");
    }
}

/// On PostgreSQL and on SQLite, such pushes share transactions.
async fn pushes_at_the_same_time_keep_what_they_replace(store: TestStore) {
    let vaults: Vec<_> = (0..40).map(|_| user()).collect();
    let push = async |operations: &[Operation], now| {
        join_all(vaults.iter().map(|vault| store.push_applied_at(vault, operations, now))).await
    };
    push(&[create("a", "v1"), create("b", "v1")], START).await;
    push(&[update("a", 1, "v2"), create("c", "v1")], START + MINUTE).await;
    push(&[update("a", 2, "v3"), delete("b", 1)], START + MINUTE + SECOND).await;
    for vault in &vaults {
        let kept = async |id| store.kept_numbers(vault, id).await;
        assert_eq!((kept("a").await, kept("b").await), (vec![1], vec![1]));
        assert_eq!(kept("c").await, [0; 0]);
        assert_eq!(store.version(vault, "b", 1).await.ciphertext.as_bytes(), b"v1");
    }
}

async fn each_vault_has_its_own_history(store: TestStore) {
    let (ada, ben) = (user(), user());
    for vault in [&ada, &ben] {
        store.push_applied_at(vault, &[create("a", "v1")], START).await;
    }
    store.push_applied_at(&ada, &[update("a", 1, "v2")], START + MINUTE).await;
    assert_eq!(store.kept_numbers(&ada, "a").await, [1]);
    assert_eq!(store.kept(&ben, "a").await, []);
    assert_eq!(store.found_version(&ben, "a", 2).await.record, None);
    assert_eq!(store.states(&ben, START, 1000).await, []);
}

async fn the_history_survives_a_restart(store: TestStore) {
    let vault = user();
    store.push_applied_at(&vault, &[create("a", "v1")], START).await;
    store.push_applied_at(&vault, &[delete("a", 1)], START + MINUTE).await;
    let (kept, found) = (store.kept(&vault, "a").await, store.found_version(&vault, "a", 1).await);
    let store = store.reopen().await;
    assert_eq!(store.kept(&vault, "a").await, kept);
    assert_eq!(store.found_version(&vault, "a", 1).await, found);
}
