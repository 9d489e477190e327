//! Every order in which two writers and a reader can meet, with crashes, lost answers and a clock that
//! steps, explored to the end.
//!
//! What becomes of a write is decided by the real [`judge`]; what is modelled is what a backend does
//! around it, one step at a time: lock, read the heads, judge, write, commit, answer. The model with
//! the protocol as it is has no state that breaks a promise, and each rule that is taken out of it is
//! missed.
//!
//! Not here: SQL and sockets; receipts, so that a push whose answer was lost may meet a conflict, and
//! is then made anew on top of it.

mod model;
mod promises;
mod push;
mod state;

use stateright::{Checker as _, HasDiscoveries, Model as _};

use crate::{
    promises::{
        ACKNOWLEDGED_IS_THERE, EACH_VERSION_IS_ONE_WRITE, NO_READER_SKIPS, NO_UPDATE_IS_LOST,
        TIMES_ARE_UNIQUE,
    },
    push::{PROTOCOL, Protocol},
};

/// Each of these promises is broken by the mistake.
fn breaks(mistake: Protocol, promises: &[&'static str]) {
    let found = HasDiscoveries::AllOf(promises.iter().copied().collect());
    let checker = mistake.checker().finish_when(found).spawn_bfs().join();
    for promise in promises {
        let path = checker.discovery(promise);
        assert!(path.is_some(), "{mistake:?} never breaks this: {promise}");
    }
}

/// With two writers of two pushes each, a reader, a crash, a lost answer and a clock that steps to
/// and fro there are 591,166 states. The count is asserted, so that a change that cuts the model
/// short shows.
#[test]
fn no_interleaving_breaks_a_promise() {
    let checker = PROTOCOL.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert_eq!(checker.unique_state_count(), 591_166);
}

/// Small models: what breaks in them breaks in larger ones too.
const SMALL: Protocol = Protocol { pushes: 1, crashes_max: 0, answers_lost_max: 0, ..PROTOCOL };

#[test]
fn without_the_lock_updates_are_lost() {
    let mistake = Protocol { locks: false, ..SMALL };
    breaks(mistake, &[NO_UPDATE_IS_LOST, EACH_VERSION_IS_ONE_WRITE, NO_READER_SKIPS]);
}

#[test]
fn without_a_clock_that_only_grows_readers_skip() {
    let mistake = Protocol { clock_only_grows: false, ..SMALL };
    breaks(mistake, &[NO_READER_SKIPS, TIMES_ARE_UNIQUE]);
}

#[test]
fn with_an_answer_before_the_commit_a_crash_loses_what_was_acknowledged() {
    let mistake = Protocol { commits_first: false, crashes_max: 1, ..SMALL };
    breaks(mistake, &[ACKNOWLEDGED_IS_THERE]);
}

#[test]
fn a_small_model_without_a_mistake_breaks_nothing() {
    Protocol { crashes_max: 1, ..SMALL }.checker().spawn_bfs().join().assert_properties();
}
