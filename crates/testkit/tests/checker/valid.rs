//! Histories that look unusual but break no promise.

use vaultsync_testkit::history::{Counts, Outcome};

use crate::builder::{Builder, view, write};

#[test]
fn the_counts_of_a_history_are_right() {
    let history = Builder::default();
    history.push(&[write("a", None, "one"), write("b", None, "one")], &[1, 1]);
    let push = history.begin_push(&[write("a", None, "late")]);
    history.conflict(push, &[view("a", 1, "one", 10)]);
    let push = history.begin_push(&[write("c", None, "one")]);
    history.end(push, Outcome::Refused);
    let pull = history.begin_pull(None);
    history.end(pull, Outcome::Unknown);
    history.pull(None, &[view("a", 1, "one", 10)], true);
    history.pull(10, &[view("b", 1, "one", 11)], false);
    history.state(&[view("a", 1, "one", 10), view("b", 1, "one", 11)]);
    let counts = Counts {
        pushes: 3,
        acknowledged: 2,
        conflicts: 1,
        refused: 1,
        unknown: 1,
        replays: 0,
        pages: 2,
        pulled: 2,
        followers: 1,
        guarded: 0,
        erasures: 0,
        refused_as_erased: 0,
        vaults: 1,
        records: 2,
    };
    assert_eq!(history.is_valid(), counts);
}

#[test]
fn a_push_of_unknown_outcome_may_be_applied_or_not() {
    for is_applied in [false, true] {
        let history = Builder::default();
        let push = history.begin_push(&[write("a", None, "one"), write("b", None, "one")]);
        history.end(push, Outcome::Unknown);
        let all = [view("a", 1, "one", 10), view("b", 1, "one", 11)];
        history.state(if is_applied { &all } else { &[] });
        history.is_valid();
    }
}

#[test]
fn a_push_without_an_end_may_be_applied_after_the_last_page() {
    let history = Builder::default();
    history.begin_push(&[write("a", None, "one")]);
    history.pull(None, &[], false);
    history.state(&[view("a", 1, "one", 10)]);
    assert_eq!(history.is_valid().followers, 1);
}

#[test]
fn a_push_may_be_refused_first_and_then_acknowledged() {
    let history = Builder::default();
    let operations = [write("a", None, "one")];
    let push = history.begin_push(&operations);
    history.end(push, Outcome::Refused);
    history.push(&operations, &[1]);
    history.state(&[view("a", 1, "one", 10)]);
    history.is_valid();
}

#[test]
fn a_retried_push_is_one_write() {
    let history = Builder::default();
    let operations = [write("a", None, "one")];
    history.push(&operations, &[1]);
    history.push(&[write("a", 1, "theirs")], &[2]);
    history.push(&operations, &[1]);
    history.state(&[view("a", 2, "theirs", 11)]);
    let counts = history.is_valid();
    assert_eq!((counts.pushes, counts.acknowledged, counts.replays), (3, 2, 1));
}

#[test]
fn two_devices_may_write_the_same_bytes_as_one_version() {
    let history = Builder::default();
    history.push(&[write("a", None, "same")], &[1]);
    history.push(&[write("b", None, "one"), write("a", None, "same")], &[1, 1]);
    history.state(&[view("a", 1, "same", 10), view("b", 1, "one", 11)]);
    history.is_valid();
}

#[test]
fn an_insert_with_a_base_version_makes_version_1() {
    let history = Builder::default();
    history.push(&[write("a", 7, "one")], &[1]);
    history.state(&[view("a", 1, "one", 10)]);
    history.is_valid();
}

#[test]
fn an_insert_ahead_of_its_record_may_get_a_conflict_when_retried() {
    let history = Builder::default();
    let operations = [write("a", 2, "one")];
    history.push(&operations, &[1]);
    history.push(&[write("a", 1, "two")], &[2]);
    let retry = history.begin_push(&operations);
    history.conflict(retry, &[view("a", 2, "two", 11)]);
    history.state(&[view("a", 2, "two", 11)]);
    history.is_valid();
}

#[test]
fn a_page_may_skip_a_record_that_is_updated_while_it_is_read() {
    let history = Builder::default();
    history.push(&[write("a", None, "one"), write("b", None, "one")], &[1, 1]);
    let pull = history.begin_pull(None);
    let late = history.begin_push(&[write("a", None, "late")]);
    let operations = [write("a", 1, "two")];
    let push = history.begin_push(&operations);
    history.page(pull, &[view("b", 1, "one", 11)], true);
    history.acknowledge(push, &operations, &[2]);
    history.pull(11, &[view("a", 2, "two", 12)], false);
    history.conflict(late, &[view("a", 1, "one", 10)]);
    history.state(&[view("a", 2, "two", 12), view("b", 1, "one", 11)]);
    history.is_valid();
}

#[test]
fn overlapping_pushes_may_be_applied_in_either_order() {
    let history = Builder::default();
    let (first, second) = ([write("a", None, "one")], [write("b", None, "one")]);
    let early = history.begin_push(&first);
    history.push(&second, &[1]);
    history.acknowledge(early, &first, &[1]);
    history.state(&[view("b", 1, "one", 10), view("a", 1, "one", 11)]);
    history.is_valid();
}

#[test]
fn a_page_may_end_within_a_push() {
    let history = Builder::default();
    history.push(&[write("a", None, "one"), write("b", None, "one")], &[1, 1]);
    history.pull(None, &[view("a", 1, "one", 10)], true);
    history.pull(10, &[view("b", 1, "one", 11)], false);
    history.state(&[view("a", 1, "one", 10), view("b", 1, "one", 11)]);
    history.is_valid();
}

#[test]
fn two_users_may_have_the_same_record_ids_and_empty_ciphertexts() {
    let history = Builder::default();
    for (user, at) in [("ada", 10), ("bob", 10)] {
        let operations = [write("a", None, "")];
        let push = history.begin_push_by(user, &operations);
        history.acknowledge(push, &operations, &[1]);
        history.state_of(user, &[view("a", 1, "", at)]);
    }
    history.is_valid();
}
