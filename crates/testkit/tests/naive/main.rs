//! Tests of the checker with a store that is run step by step: the correct store breaks no promise, and the
//! naive store and each common mistake break those that they must.
//!
//! Not here: threads and chance. Each seed is one interleaving, and gives the same history each time.

mod rules;
mod scheduler;
mod store;

use std::{cell::Cell, collections::BTreeSet, pin::Pin};

use rand::{SeedableRng as _, rngs::StdRng};
use tokio_util::sync::CancellationToken;
use vaultsync_testkit::{
    history::{Counts, History, Promise, Recorder, Violation, check},
    workload::{Client, Follower, Writer, WriterConfig},
};

use crate::{
    rules::{Commit, Lock, Rules, Times},
    store::{Database, NaiveService},
};

const USERS: usize = 2;
const WRITERS: usize = 3;
const PUSHES: usize = 25;

fn writer_config() -> WriterConfig {
    WriterConfig { records: 12, batch_max: 4, replay_one_in: 8, ..WriterConfig::default() }
}

/// After this many pulls, a follower has been led in circles.
const PULLS_MAX: usize = 1500;

/// Number of interleavings in which each store is run.
const SEEDS: u64 = 40;

/// Runs writers and followers of a few vaults in the interleaving of a seed, and checks the history.
fn run(rules: Rules, seed: u64) -> Result<Counts, Vec<Violation>> {
    let mut random = StdRng::seed_from_u64(seed);
    let database = Database::new(rules, seed);
    let recorder = Recorder::default();
    let (running, written) = (Cell::new(USERS * WRITERS), CancellationToken::new());
    let client = |user: usize, device: &str| {
        let service = NaiveService::new(&database, user);
        Client::new(&recorder, &format!("user {user}").into(), device, service)
    };
    let mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
    for user in 0..USERS {
        for number in 0..WRITERS {
            let client = client(user, &format!("writer {number}"));
            let writer_seed = seed * 100 + u64::try_from(number).unwrap();
            let mut writer = Writer::new(client, writer_config(), writer_seed);
            let (running, written) = (&running, &written);
            tasks.push(Box::pin(async move {
                for _ in 0..PUSHES {
                    writer.write_once().await;
                }
                running.set(running.get() - 1);
                if running.get() == 0 {
                    written.cancel();
                }
            }));
        }
        let follower = Follower::new(client(user, "follower")).with_pulls_max(PULLS_MAX);
        let written = written.clone();
        tasks.push(Box::pin(async move { drop(follower.run(written).await) }));
    }
    scheduler::run(tasks, &mut random);
    for user in 0..USERS {
        let state = database.lock().unwrap().state(user);
        recorder.state(&format!("user {user}").into(), state);
    }
    assert_eq!(recorder.faults(), Vec::<String>::new());
    let events = recorder.finish().expect("no file is written");
    check(&History::new(&events).expect("a history"))
}

/// Asserts that every interleaving keeps all promises, and returns the sums of their counts.
fn keeps_all(rules: Rules) -> Counts {
    let mut sums = Counts::default();
    for seed in 0..SEEDS {
        let counts = run(rules, seed).unwrap_or_else(|violations| {
            panic!("seed {seed} of {rules:?}: {:#?}", &violations[..violations.len().min(5)])
        });
        sums.acknowledged += counts.acknowledged;
        sums.conflicts += counts.conflicts;
        sums.unknown += counts.unknown;
        sums.replays += counts.replays;
        sums.pulled += counts.pulled;
        sums.followers += counts.followers;
    }
    sums
}

/// The promises that at least one interleaving breaks.
fn broken(rules: Rules) -> BTreeSet<Promise> {
    let violations = (0..SEEDS).filter_map(|seed| run(rules, seed).err()).flatten();
    violations.map(|violation| violation.promise).collect()
}

/// Asserts that these promises are broken, and maybe others with them.
#[track_caller]
fn breaks(rules: Rules, expected: &[Promise]) {
    let broken = broken(rules);
    assert!(expected.iter().all(|promise| broken.contains(promise)), "{rules:?}: {broken:?}");
}

#[test]
fn the_correct_store_keeps_every_promise() {
    let sums = keeps_all(Rules::CORRECT);
    let counts = [sums.acknowledged, sums.conflicts, sums.unknown, sums.replays, sums.pulled];
    assert!(counts.iter().all(|&count| count > 100), "everything happens: {sums:?}");
    assert_eq!(sums.followers, USERS * usize::try_from(SEEDS).unwrap());
}

#[test]
fn the_naive_store_breaks_several_promises() {
    let expected = [Promise::Versions, Promise::Following, Promise::Order, Promise::Retries];
    breaks(Rules::NAIVE, &expected);
}

#[test]
fn without_a_lock_a_version_is_acknowledged_twice() {
    breaks(Rules { lock: Lock::Never, ..Rules::CORRECT }, &[Promise::Durable, Promise::Versions]);
}

#[test]
fn with_a_lock_taken_after_reading_a_version_is_acknowledged_twice() {
    let rules = Rules { lock: Lock::AfterReading, ..Rules::CORRECT };
    breaks(rules, &[Promise::Durable, Promise::Versions]);
}

#[test]
fn a_cursor_that_truncates_microseconds_leads_followers_in_circles() {
    let rules = Rules { times: Times::Micros, ..Rules::CORRECT };
    breaks(rules, &[Promise::Following, Promise::Order]);
}

#[test]
fn with_transaction_times_all_records_of_a_push_have_one_time() {
    let rules = Rules { times: Times::Transaction, ..Rules::CORRECT };
    breaks(rules, &[Promise::Following, Promise::Order]);
}

#[test]
fn a_wall_clock_that_steps_back_hides_records_from_followers() {
    let rules = Rules { times: Times::Now, ..Rules::CORRECT };
    breaks(rules, &[Promise::Following, Promise::Order]);
}

#[test]
fn a_push_acknowledged_before_its_commit_is_lost_in_a_crash() {
    let rules = Rules { commit: Commit::AfterResponse, ..Rules::CORRECT };
    breaks(rules, &[Promise::Durable]);
}

#[test]
fn without_a_transaction_half_a_push_remains() {
    let rules = Rules { commit: Commit::EachWrite, ..Rules::CORRECT };
    breaks(rules, &[Promise::Atomic]);
}

#[test]
fn without_receipts_a_retry_gets_a_conflict() {
    let rules = Rules { receipts: false, ..Rules::CORRECT };
    assert_eq!(broken(rules), BTreeSet::from([Promise::Retries]));
}

#[test]
fn a_pull_without_a_user_filter_returns_another_s_records() {
    breaks(Rules { pulls_filter_by_user: false, ..Rules::CORRECT }, &[Promise::Tenancy]);
}

#[test]
fn a_seed_gives_the_same_history_each_time() {
    assert_eq!(run(Rules::CORRECT, 1), run(Rules::CORRECT, 1));
    assert_eq!(run(Rules::NAIVE, 1), run(Rules::NAIVE, 1));
}
