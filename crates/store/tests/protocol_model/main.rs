//! A model of the protocol: it explores every interleaving of two writers and a reader, with crashes, lost
//! responses and a wall clock that jumps.
//!
//! The real [`check_version`](vaultsync_store::check_version) decides each write. The model has the steps of
//! a backend around it: lock, read the record states, decide, write, commit, respond. No reachable state of
//! the protocol violates an invariant, and without any one of its rules an invariant is violated.
//!
//! Not here: SQL and sockets; receipts. A retry after a lost response may therefore conflict, and the writer
//! then pushes on top of the current version.

mod invariants;
mod model;
mod push;
mod state;

use stateright::{Checker as _, HasDiscoveries, Model as _};

use crate::{
    invariants::{
        ACKNOWLEDGED_IS_DURABLE, EACH_VERSION_IS_ONE_WRITE, NO_READER_SKIPS, NO_UPDATE_IS_LOST,
        TIMES_ARE_UNIQUE,
    },
    push::{PROTOCOL, Protocol},
};

/// Checks that a protocol with a mistake violates each of these invariants.
fn check_violations(mistake: Protocol, invariants: &[&'static str]) {
    let found = HasDiscoveries::AllOf(invariants.iter().copied().collect());
    let checker = mistake.checker().finish_when(found).spawn_bfs().join();
    for invariant in invariants {
        let path = checker.discovery(invariant);
        assert!(path.is_some(), "{mistake:?} never violates this: {invariant}");
    }
}

/// Two writers of two pushes each, a reader, a crash, a lost response and a clock that jumps back and forth
/// have 591,166 states. The count is asserted, so that a change that makes the model smaller is noticed.
#[test]
fn no_interleaving_violates_an_invariant() {
    let checker = PROTOCOL.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert_eq!(checker.unique_state_count(), 591_166);
}

/// A smaller model. Every violation in it also exists in the larger one.
const SMALL: Protocol = Protocol { pushes: 1, crashes_max: 0, responses_lost_max: 0, ..PROTOCOL };

#[test]
fn without_the_lock_updates_are_lost() {
    let mistake = Protocol { locks: false, ..SMALL };
    check_violations(mistake, &[NO_UPDATE_IS_LOST, EACH_VERSION_IS_ONE_WRITE, NO_READER_SKIPS]);
}

#[test]
fn without_increasing_times_readers_skip_records() {
    let mistake = Protocol { head_only_increases: false, ..SMALL };
    check_violations(mistake, &[NO_READER_SKIPS, TIMES_ARE_UNIQUE]);
}

#[test]
fn with_a_response_before_the_commit_a_crash_loses_acknowledged_writes() {
    let mistake = Protocol { commits_before_response: false, crashes_max: 1, ..SMALL };
    check_violations(mistake, &[ACKNOWLEDGED_IS_DURABLE]);
}

#[test]
fn the_small_model_without_a_mistake_violates_no_invariant() {
    Protocol { crashes_max: 1, ..SMALL }.checker().spawn_bfs().join().assert_properties();
}
