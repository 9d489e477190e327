//! Histories that look odd and break nothing.

use vaultsync_testkit::history::{Counts, Outcome};

use crate::lines::{Lines, seen, write};

#[test]
fn a_plain_history_is_counted() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one"), write("b", None, "one")], &[1, 1]);
    let push = lines.push(&[write("a", None, "late")]);
    lines.conflict(push, &[seen("a", 1, "one", 10)]);
    let push = lines.push(&[write("c", None, "one")]);
    lines.end(push, Outcome::Refused);
    let pull = lines.pull(None);
    lines.end(pull, Outcome::Unknown);
    lines.pulled(None, &[seen("a", 1, "one", 10)], true);
    lines.pulled(10, &[seen("b", 1, "one", 11)], false);
    lines.state(&[seen("a", 1, "one", 10), seen("b", 1, "one", 11)]);
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
        vaults: 1,
        records: 2,
    };
    assert_eq!(lines.holds(), counts);
}

#[test]
fn a_push_of_unknown_outcome_may_be_there_or_not() {
    for there in [false, true] {
        let lines = Lines::default();
        let push = lines.push(&[write("a", None, "one"), write("b", None, "one")]);
        lines.end(push, Outcome::Unknown);
        let all = [seen("a", 1, "one", 10), seen("b", 1, "one", 11)];
        lines.state(if there { &all } else { &[] });
        lines.holds();
    }
}

#[test]
fn a_push_that_nobody_heard_the_end_of_may_come_after_the_last_page() {
    let lines = Lines::default();
    lines.push(&[write("a", None, "one")]);
    lines.pulled(None, &[], false);
    lines.state(&[seen("a", 1, "one", 10)]);
    assert_eq!(lines.holds().followers, 1);
}

#[test]
fn a_push_refused_first_and_then_acknowledged_is_written() {
    let lines = Lines::default();
    let operations = [write("a", None, "one")];
    let push = lines.push(&operations);
    lines.end(push, Outcome::Refused);
    lines.pushed(&operations, &[1]);
    lines.state(&[seen("a", 1, "one", 10)]);
    lines.holds();
}

#[test]
fn a_push_sent_again_is_one_write() {
    let lines = Lines::default();
    let operations = [write("a", None, "one")];
    lines.pushed(&operations, &[1]);
    lines.pushed(&[write("a", 1, "theirs")], &[2]);
    lines.pushed(&operations, &[1]);
    lines.state(&[seen("a", 2, "theirs", 11)]);
    let counts = lines.holds();
    assert_eq!((counts.pushes, counts.acknowledged, counts.replays), (3, 2, 1));
}

#[test]
fn two_devices_may_write_the_same_bytes_as_one_version() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "same")], &[1]);
    lines.pushed(&[write("b", None, "one"), write("a", None, "same")], &[1, 1]);
    lines.state(&[seen("a", 1, "same", 10), seen("b", 1, "one", 11)]);
    lines.holds();
}

#[test]
fn an_insert_with_a_base_version_makes_version_1() {
    let lines = Lines::default();
    lines.pushed(&[write("a", 7, "one")], &[1]);
    lines.state(&[seen("a", 1, "one", 10)]);
    lines.holds();
}

#[test]
fn an_insert_ahead_of_its_record_may_meet_a_conflict_when_sent_again() {
    let lines = Lines::default();
    let operations = [write("a", 2, "one")];
    lines.pushed(&operations, &[1]);
    lines.pushed(&[write("a", 1, "two")], &[2]);
    let again = lines.push(&operations);
    lines.conflict(again, &[seen("a", 2, "two", 11)]);
    lines.state(&[seen("a", 2, "two", 11)]);
    lines.holds();
}

#[test]
fn a_record_that_moves_on_while_it_is_read_is_not_skipped() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one"), write("b", None, "one")], &[1, 1]);
    let pull = lines.pull(None);
    let late = lines.push(&[write("a", None, "late")]);
    let operations = [write("a", 1, "two")];
    let push = lines.push(&operations);
    lines.page(pull, &[seen("b", 1, "one", 11)], true);
    lines.acknowledge(push, &operations, &[2]);
    lines.pulled(11, &[seen("a", 2, "two", 12)], false);
    lines.conflict(late, &[seen("a", 1, "one", 10)]);
    lines.state(&[seen("a", 2, "two", 12), seen("b", 1, "one", 11)]);
    lines.holds();
}

#[test]
fn pushes_that_overlap_may_come_in_either_order() {
    let lines = Lines::default();
    let (first, second) = ([write("a", None, "one")], [write("b", None, "one")]);
    let early = lines.push(&first);
    lines.pushed(&second, &[1]);
    lines.acknowledge(early, &first, &[1]);
    lines.state(&[seen("b", 1, "one", 10), seen("a", 1, "one", 11)]);
    lines.holds();
}

#[test]
fn a_page_may_end_inside_a_push() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one"), write("b", None, "one")], &[1, 1]);
    lines.pulled(None, &[seen("a", 1, "one", 10)], true);
    lines.pulled(10, &[seen("b", 1, "one", 11)], false);
    lines.state(&[seen("a", 1, "one", 10), seen("b", 1, "one", 11)]);
    lines.holds();
}

#[test]
fn users_may_call_their_records_alike_and_empty_ciphertext_is_nobody_s() {
    let lines = Lines::default();
    for (user, at) in [("ada", 10), ("bob", 10)] {
        let operations = [write("a", None, "")];
        let push = lines.push_of(user, &operations);
        lines.acknowledge(push, &operations, &[1]);
        lines.state_of(user, &[seen("a", 1, "", at)]);
    }
    lines.holds();
}
