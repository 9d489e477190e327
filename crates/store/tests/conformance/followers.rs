//! Followers: whoever reads on by `nextCursor` ends with what the server has, whatever the writers
//! and their clocks do meanwhile.

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
    dsl::{HOUR, NOW, after, operation},
    support::{TestStore, batch, known},
};

backends!(
    followers_of_eight_writers_end_with_what_the_server_has,
    a_follower_of_writers_that_only_create_sees_each_write,
);

const WRITERS: usize = 8;
const FOLLOWERS: usize = 4;
const PUSHES: usize = 60;

/// A clock as bad as clocks get: near enough, behind, ahead, and now and then years off.
fn bad_clock(random: &mut StdRng, turn: usize) -> i64 {
    let now = NOW + i64::try_from(turn).unwrap();
    match random.random_range(0..20) {
        0..10 => now,
        10..15 => now - random.random_range(0..HOUR),
        15..19 => now + random.random_range(0..1000),
        _ => now + random.random_range(0..24 * HOUR),
    }
}

/// Writes records of its own and shared ones, some of them deletes, in batches of 1 to 30.
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
            PushOutcome::Applied(written) => {
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
            PushOutcome::EpochChanged => panic!("no epoch was sent"),
        }
        tokio::task::yield_now().await;
    }
}

/// Reads pages of 7 until the writers are done and there is nothing more; what it then holds, and
/// how many records it was told of on the way.
async fn follow(
    store: Arc<TestStore>,
    vault: Vault,
    writing: Arc<AtomicUsize>,
) -> (BTreeMap<String, Record>, usize) {
    let (mut held, mut cursor, mut told) = (BTreeMap::<String, Record>::new(), None, 0);
    let (mut epoch, mut clock, mut has_more) = (None, None, false);
    loop {
        let done = writing.load(Ordering::SeqCst) == 0;
        // Who names the history is told where a cursor is later than the clock: this one never is.
        let pull = Pull { epoch: epoch.map(known), ..after(cursor, 7) };
        let page = match store.pull(&vault, &pull).await {
            PullOutcome::Page(page) => page,
            other => panic!("no page after {cursor:?}: {other:?}"),
        };
        assert!(page.head >= clock, "the head went back in a follower's eyes");
        assert!(!has_more || !page.records.is_empty(), "there was more, and then there was not");
        (epoch, clock, has_more) = (page.epoch, page.head, page.has_more);
        let times: Vec<_> =
            page.records.iter().map(|record| record.updated_at.as_millis()).collect();
        assert!(times.is_sorted_by(|a, b| a < b), "a page is strictly ascending: {times:?}");
        assert!(times.first().copied() > cursor || times.is_empty(), "and later than its cursor");
        assert_eq!(page.next_cursor.map(Timestamp::as_millis), times.last().copied());
        assert!(page.head.map(Timestamp::as_millis) >= times.last().copied());
        if page.records.is_empty() && done {
            return (held, told);
        }
        cursor = times.last().copied().or(cursor);
        told += page.records.len();
        for record in page.records {
            let id = record.record_id.as_str().to_owned();
            if let Some(before) = held.insert(id.clone(), record.clone()) {
                assert!(before.version < record.version, "{id} went back in a follower's eyes");
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Lets the writers and followers at one vault; answers what each follower was told.
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

    let records = store.follow(&vault, 100).await;
    let count = records.len();
    let server: BTreeMap<_, _> =
        records.into_iter().map(|record| (record.record_id.as_str().to_owned(), record)).collect();
    assert_eq!(server.len(), count, "no record stands in two places");
    let mut told = Vec::new();
    for (held, count) in followed {
        let missing: Vec<_> = server.keys().filter(|id| !held.contains_key(*id)).collect();
        assert!(missing.is_empty(), "{} of {count} records are lost", missing.len());
        assert!(held == server, "a follower holds something else than the server");
        told.push(count);
    }
    (told, server.len())
}

async fn followers_of_eight_writers_end_with_what_the_server_has(store: TestStore) {
    let (_, records) = run(store, true).await;
    assert!(records > 200, "the writers got somewhere: {records}");
}

async fn a_follower_of_writers_that_only_create_sees_each_write(store: TestStore) {
    let (told, records) = run(store, false).await;
    assert!(records > WRITERS * PUSHES);
    assert_eq!(told, [records; FOLLOWERS], "each record is told once");
}
