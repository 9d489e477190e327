//! Followers: a client that follows `nextCursor` ends with the server's records, whatever the writers and
//! their clocks do meanwhile.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;
use vaultsync_protocol::{Pull, Record, Timestamp};
use vaultsync_store::{PullOutcome, PushOutcome, Vault};

use crate::{
    dsl::{HOUR, NOW, operation, pull_after},
    support::{TestStore, batch, known_epoch},
};

backends!(
    followers_of_eight_writers_end_with_the_server_s_records,
    a_follower_of_writers_that_only_create_sees_each_write,
);

const WRITERS: usize = 8;
const FOLLOWERS: usize = 4;
const PUSHES: usize = 60;

/// A bad clock: mostly right, sometimes behind or ahead, and now and then up to a day ahead.
fn bad_clock(random: &mut StdRng, turn: usize) -> i64 {
    let now = NOW + i64::try_from(turn).unwrap();
    match random.random_range(0..20) {
        0..10 => now,
        10..15 => now - random.random_range(0..HOUR),
        15..19 => now + random.random_range(0..1000),
        _ => now + random.random_range(0..24 * HOUR),
    }
}

/// Pushes batches of 1 to 32 records: its own and shared ones, some of them deletes.
async fn write(store: Arc<TestStore>, vault: Vault, writer: usize, shared: bool) {
    let mut random = StdRng::seed_from_u64(writer as u64);
    let mut known = HashMap::<String, i64>::new();
    for turn in 0..PUSHES {
        let count = if random.random_bool(0.2) { 30 } else { random.random_range(1..=6) };
        let mut operations: Vec<_> = (0..count)
            .map(|n| {
                let id = format!("{writer} {turn} {n}");
                operation(&id, None, id.clone(), false)
            })
            .collect();
        if shared {
            let id = format!("shared {}", random.random_range(0..12));
            let deleted = random.random_bool(0.2);
            let text = format!("{writer} {turn}");
            operations.push(operation(&id, known.get(&id).copied(), text, deleted));
            let id = format!("own {writer} {}", random.random_range(0..5));
            let base = known.get(&id).copied();
            operations.push(operation(&id, base, format!("{turn}"), false));
        }
        let now = bad_clock(&mut random, turn);
        match store.push(&vault, batch(&operations, None), now).await {
            PushOutcome::Applied { results: written, .. } => {
                for one in written {
                    known.insert(one.record_id.as_str().to_owned(), one.version.get());
                }
            }
            PushOutcome::Refused(refused) => {
                for conflict in refused.conflicts {
                    let id = conflict.record_id.as_str().to_owned();
                    known.insert(id, conflict.current_version.get());
                }
            }
            other => panic!("neither an epoch nor a limit is set: {other:?}"),
        }
        tokio::task::yield_now().await;
    }
}

/// Pulls pages of 7 records until the writers are done and no page has records. Returns the records by id,
/// and how many were received.
async fn follow(
    store: Arc<TestStore>,
    vault: Vault,
    writing: Arc<AtomicUsize>,
) -> (BTreeMap<String, Record>, usize) {
    let (mut records, mut cursor, mut received) = (BTreeMap::<String, Record>::new(), None, 0);
    let (mut epoch, mut clock, mut has_more) = (None, None, false);
    loop {
        let done = writing.load(Ordering::SeqCst) == 0;
        // With the epoch, the server reports a cursor that is later than the head: this one never is.
        let pull = Pull { epoch: epoch.map(known_epoch), ..pull_after(cursor, 7) };
        let page = match store.pull(&vault, &pull).await {
            PullOutcome::Page(page) => page,
            other => panic!("no page after {cursor:?}: {other:?}"),
        };
        assert!(page.head >= clock, "the head went back");
        assert!(!has_more || !page.records.is_empty(), "an empty page follows one with `hasMore`");
        (epoch, clock, has_more) = (page.epoch, page.head, page.has_more);
        let times: Vec<_> =
            page.records.iter().map(|record| record.updated_at.as_millis()).collect();
        assert!(times.is_sorted_by(|a, b| a < b), "a page is strictly ascending: {times:?}");
        assert!(
            times.first().copied() > cursor || times.is_empty(),
            "a page is later than its cursor"
        );
        assert_eq!(page.next_cursor.map(Timestamp::as_millis), times.last().copied());
        assert!(page.head.map(Timestamp::as_millis) >= times.last().copied());
        if page.records.is_empty() && done {
            return (records, received);
        }
        cursor = times.last().copied().or(cursor);
        received += page.records.len();
        for record in page.records {
            let id = record.record_id.as_str().to_owned();
            if let Some(before) = records.insert(id.clone(), record.clone()) {
                assert!(before.version < record.version, "{id} went back to an earlier version");
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Runs the writers and followers of one vault. Returns how many records each follower received, and how
/// many the server has.
async fn run(store: TestStore, shared: bool) -> (Vec<usize>, usize) {
    let (store, vault) = (Arc::new(store), crate::dsl::user());
    let writing = Arc::new(AtomicUsize::new(WRITERS));
    let mut followers = JoinSet::new();
    for _ in 0..FOLLOWERS {
        followers.spawn(follow(Arc::clone(&store), vault.clone(), Arc::clone(&writing)));
    }
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, vault) = (Arc::clone(&store), vault.clone());
        let writing = Arc::clone(&writing);
        writers.spawn(async move {
            write(store, vault, writer, shared).await;
            writing.fetch_sub(1, Ordering::SeqCst);
        });
    }
    writers.join_all().await;
    let followed = followers.join_all().await;

    let records = store.pull_all(&vault, 100).await;
    let count = records.len();
    let server: BTreeMap<_, _> =
        records.into_iter().map(|record| (record.record_id.as_str().to_owned(), record)).collect();
    assert_eq!(server.len(), count, "each record is returned once");
    let mut received = Vec::new();
    for (records, count) in followed {
        let missing: Vec<_> = server.keys().filter(|id| !records.contains_key(*id)).collect();
        assert!(missing.is_empty(), "{} of {count} records are missing", missing.len());
        assert!(records == server, "a follower has other records than the server");
        received.push(count);
    }
    (received, server.len())
}

async fn followers_of_eight_writers_end_with_the_server_s_records(store: TestStore) {
    let (_, records) = run(store, true).await;
    assert!(records > 200, "the writers made progress: {records} records");
}

async fn a_follower_of_writers_that_only_create_sees_each_write(store: TestStore) {
    let (received, records) = run(store, false).await;
    assert!(records > WRITERS * PUSHES);
    assert_eq!(received, [records; FOLLOWERS], "each record is received once");
}
