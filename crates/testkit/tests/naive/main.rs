//! The checker against a store that is run step by step: the right one breaks nothing, the naive one
//! and each of the mistakes that are easily made break what they must.
//!
//! Not here: threads or luck. Each seed is one interleaving, and gives the same history each time.

mod rules;
mod scheduler;
mod store;

use std::{cell::Cell, collections::BTreeSet, pin::Pin};

use rand::{SeedableRng as _, rngs::StdRng};
use vaultsync_testkit::{
    history::{Counts, History, Promise, Recorder, Violation, check},
    workload::{Device, Follower, Load, Writer},
};

use crate::{
    rules::{Commit, Lock, Rules, Times},
    store::{Client, Database},
};

const USERS: usize = 2;
const WRITERS: usize = 3;
const TURNS: usize = 25;
const LOAD: Load = Load { records: 12, batch_max: 4, one_again_in: 8 };

/// Pulls after which a follower has been led in circles.
const PULLS_MAX: usize = 1500;

/// How many interleavings each store is run in.
const SEEDS: u64 = 40;

/// Writers and followers of a few vaults, in the interleaving of that seed.
fn run(rules: Rules, seed: u64) -> Result<Counts, Vec<Violation>> {
    let mut random = StdRng::seed_from_u64(seed);
    let database = Database::new(rules, seed);
    let recorder = Recorder::default();
    let writing = Cell::new(USERS * WRITERS);
    let device = |user: usize, name: String| Device {
        recorder: recorder.clone(),
        user: format!("user {user}").into(),
        name: name.into(),
    };
    let mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
    for user in 0..USERS {
        for number in 0..WRITERS {
            let device = device(user, format!("writer {number}"));
            let lots = seed * 100 + u64::try_from(number).unwrap();
            let mut writer = Writer::new(device, Client::new(&database, user), LOAD, lots);
            let writing = &writing;
            tasks.push(Box::pin(async move {
                for _ in 0..TURNS {
                    writer.turn().await;
                }
                assert!(writer.faults.is_empty(), "{:?}", writer.faults);
                writing.set(writing.get() - 1);
            }));
        }
        let device = device(user, "follower".to_owned());
        let follower = Follower::new(device, Client::new(&database, user));
        let follower = follower.with_pulls_max(PULLS_MAX);
        let writing = &writing;
        tasks.push(Box::pin(async move {
            let follower = follower.run(|| writing.get() == 0).await;
            assert!(follower.faults.is_empty(), "{:?}", follower.faults);
        }));
    }
    scheduler::run(tasks, &mut random);
    for user in 0..USERS {
        let state = database.lock().unwrap().state(user);
        recorder.state(&format!("user {user}").into(), state);
    }
    let events = recorder.finish().expect("no file is written");
    check(&History::new(&events).expect("a history"))
}

/// Every interleaving keeps all promises; what there was in all of them together.
fn holds(rules: Rules) -> Counts {
    let mut all = Counts::default();
    for seed in 0..SEEDS {
        let counts = run(rules, seed).unwrap_or_else(|violations| {
            panic!("seed {seed} of {rules:?}: {:#?}", &violations[..violations.len().min(5)])
        });
        all.acknowledged += counts.acknowledged;
        all.conflicts += counts.conflicts;
        all.unknown += counts.unknown;
        all.replays += counts.replays;
        all.pulled += counts.pulled;
        all.followers += counts.followers;
    }
    all
}

/// The promises that are broken in any interleaving.
fn broken(rules: Rules) -> BTreeSet<Promise> {
    let violations = (0..SEEDS).filter_map(|seed| run(rules, seed).err()).flatten();
    violations.map(|violation| violation.promise).collect()
}

/// These promises are broken at least; others may break with them.
#[track_caller]
fn breaks(rules: Rules, expected: &[Promise]) {
    let broken = broken(rules);
    assert!(expected.iter().all(|promise| broken.contains(promise)), "{rules:?}: {broken:?}");
}

#[test]
fn the_right_store_keeps_every_promise() {
    let all = holds(Rules::RIGHT);
    let seen = [all.acknowledged, all.conflicts, all.unknown, all.replays, all.pulled];
    assert!(seen.iter().all(|&count| count > 100), "everything happens: {all:?}");
    assert_eq!(all.followers, USERS * usize::try_from(SEEDS).unwrap());
}

#[test]
fn the_naive_store_breaks_what_it_must() {
    let expected = [Promise::Versions, Promise::Following, Promise::Order, Promise::Retries];
    breaks(Rules::NAIVE, &expected);
}

#[test]
fn without_a_lock_a_version_is_acknowledged_twice() {
    breaks(Rules { lock: Lock::Never, ..Rules::RIGHT }, &[Promise::Durable, Promise::Versions]);
}

#[test]
fn with_a_lock_that_comes_after_reading_a_version_is_acknowledged_twice() {
    let rules = Rules { lock: Lock::AfterReading, ..Rules::RIGHT };
    breaks(rules, &[Promise::Durable, Promise::Versions]);
}

#[test]
fn microseconds_that_a_cursor_cuts_lead_followers_in_circles() {
    let rules = Rules { times: Times::Micros, ..Rules::RIGHT };
    breaks(rules, &[Promise::Following, Promise::Order]);
}

#[test]
fn the_time_of_a_transaction_is_shared_by_its_records() {
    let rules = Rules { times: Times::Transaction, ..Rules::RIGHT };
    breaks(rules, &[Promise::Following, Promise::Order]);
}

#[test]
fn a_wall_clock_that_steps_back_hides_records_from_followers() {
    let rules = Rules { times: Times::Now, ..Rules::RIGHT };
    breaks(rules, &[Promise::Following, Promise::Order]);
}

#[test]
fn an_answer_before_the_commit_is_lost_in_a_crash() {
    let rules = Rules { commit: Commit::AfterAnswer, ..Rules::RIGHT };
    breaks(rules, &[Promise::Durable]);
}

#[test]
fn writes_without_a_transaction_leave_half_a_push() {
    let rules = Rules { commit: Commit::EachWrite, ..Rules::RIGHT };
    breaks(rules, &[Promise::Atomic]);
}

#[test]
fn without_receipts_a_push_sent_again_meets_a_conflict() {
    let rules = Rules { receipts: false, ..Rules::RIGHT };
    assert_eq!(broken(rules), BTreeSet::from([Promise::Retries]));
}

#[test]
fn a_pull_that_names_no_user_shows_another_s_records() {
    breaks(Rules { pulls_name_the_user: false, ..Rules::RIGHT }, &[Promise::Tenancy]);
}

#[test]
fn a_seed_gives_the_same_history_each_time() {
    assert_eq!(run(Rules::RIGHT, 1), run(Rules::RIGHT, 1));
    assert_eq!(run(Rules::NAIVE, 1), run(Rules::NAIVE, 1));
}
