//! Tests of the checker with a store that is run step by step: the correct store breaks no promise, and the
//! naive store and each common mistake break those that they must.
//!
//! Not here: threads and chance. Each seed is one interleaving, and gives the same history each time.

mod rules;
mod scheduler;
mod service;
mod store;

use std::{cell::Cell, collections::BTreeSet, pin::Pin};

use rand::{SeedableRng as _, rngs::StdRng};
use tokio_util::sync::CancellationToken;
use vaultsync_testkit::{
    history::{Counts, History, Promise, Recorder, VaultLabel, Violation, check},
    workload::{Client, Eraser, Follower, Writer, WriterConfig},
};

use crate::{
    rules::{Commit, Erasure, Guards, Lock, Names, Rules, Times},
    service::NaiveService,
    store::{Database, VaultKey},
};

/// The vaults: each user's default one, and a named one that is erased several times.
const VAULTS: [VaultKey; 4] = [(0, ""), (1, ""), (0, "notes"), (1, "notes")];
/// Writers of a default vault, and of a named one.
const WRITERS: [usize; 2] = [3, 2];
const PUSHES: usize = 25;

/// How often a named vault is erased, and how many steps of its eraser lie between.
const ERASURES: usize = 3;
const STEPS_BETWEEN: usize = 200;

/// After this many pulls, a follower has been led in circles.
const PULLS_MAX: usize = 700;

/// Number of interleavings in which each store is run.
const SEEDS: u64 = 40;

fn writer_config() -> WriterConfig {
    let (records, batch_max) = (12, 4);
    let (replay_one_in, guard_one_in) = (8, 4);
    WriterConfig { records, batch_max, replay_one_in, guard_one_in, ..WriterConfig::default() }
}

fn label((user, name): VaultKey) -> VaultLabel {
    let user = format!("user {user}");
    if name.is_empty() { user.as_str().into() } else { VaultLabel::named(&user, name) }
}

type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Runs writers and followers of a few vaults in the interleaving of a seed, and checks the history.
fn run(rules: Rules, seed: u64) -> Result<Counts, Vec<Violation>> {
    let mut random = StdRng::seed_from_u64(seed);
    let database = Database::new(rules, seed);
    let recorder = Recorder::default();
    let (running, written) = (Cell::new(0), CancellationToken::new());
    let until_written = async |work: Task<'_>| {
        running.set(running.get() + 1);
        work.await;
        running.set(running.get() - 1);
        if running.get() == 0 {
            written.cancel();
        }
    };
    let mut tasks: Vec<Task<'_>> = Vec::new();
    for vault in VAULTS {
        let client = |device: &str| {
            let service = NaiveService::new(&database, vault);
            Client::new(&recorder, label(vault), device, service)
        };
        let is_erased = !vault.1.is_empty();
        for number in 0..WRITERS[usize::from(is_erased)] {
            let client = client(&format!("writer {number}"));
            let client = if is_erased { client.naming_epoch_in_pushes() } else { client };
            let writer_seed = seed * 100 + u64::try_from(number).unwrap();
            let mut writer = Writer::new(client, writer_config(), writer_seed);
            tasks.push(Box::pin(until_written(Box::pin(async move {
                for _ in 0..PUSHES {
                    writer.write_once().await;
                }
            }))));
        }
        if is_erased {
            let eraser = Eraser::new(client("eraser"));
            tasks.push(Box::pin(until_written(Box::pin(erase_repeatedly(eraser)))));
        }
        let follower = Follower::new(client("follower")).with_pulls_max(PULLS_MAX);
        let written = written.clone();
        tasks.push(Box::pin(async move { drop(follower.run(written).await) }));
    }
    scheduler::run(tasks, &mut random);
    for vault in VAULTS {
        recorder.state(&label(vault), database.lock().unwrap().state(vault));
    }
    assert_eq!(recorder.faults(), Vec::<String>::new());
    let events = recorder.finish().expect("no file is written");
    check(&History::new(&events).expect("a history"))
}

/// Begins a vault, and erases it a few times.
async fn erase_repeatedly(mut eraser: Eraser<NaiveService>) {
    eraser.begin().await;
    for _ in 0..ERASURES {
        for _ in 0..STEPS_BETWEEN {
            scheduler::step().await;
        }
        eraser.erase().await;
        eraser.begin().await;
    }
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
        sums.guarded += counts.guarded;
        sums.erasures += counts.erasures;
        sums.refused_as_erased += counts.refused_as_erased;
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
    assert!(sums.guarded > 100 && sums.refused_as_erased > 100, "{sums:?}");
    let seeds = usize::try_from(SEEDS).unwrap();
    assert_eq!(sums.erasures, 2 * ERASURES * seeds);
    assert!(sums.followers >= VAULTS.len() * seeds, "{sums:?}");
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
fn guards_that_are_checked_before_the_lock_or_never_let_pushes_through() {
    for guards in [Guards::BeforeLock, Guards::Never] {
        assert_eq!(broken(Rules { guards, ..Rules::CORRECT }), BTreeSet::from([Promise::Guards]));
    }
}

#[test]
fn a_store_that_ignores_the_names_of_vaults_mixes_them() {
    for names in [Names::None, Names::NotPulls] {
        breaks(Rules { names, ..Rules::CORRECT }, &[Promise::Tenancy]);
    }
}

#[test]
fn an_erasure_that_is_not_complete_or_not_for_ever_is_noticed() {
    for erasure in [Erasure::Forgotten, Erasure::LeavesRecords, Erasure::AfterResponse] {
        breaks(Rules { erasure, ..Rules::CORRECT }, &[Promise::Erasure]);
    }
    let erasure = Erasure::ClockBeginsAgain;
    assert_eq!(broken(Rules { erasure, ..Rules::CORRECT }), BTreeSet::from([Promise::Erasure]));
}

#[test]
fn a_seed_gives_the_same_history_each_time() {
    assert_eq!(run(Rules::CORRECT, 1), run(Rules::CORRECT, 1));
    assert_eq!(run(Rules::NAIVE, 1), run(Rules::NAIVE, 1));
}
