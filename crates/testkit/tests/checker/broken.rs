//! For each way to break a promise, the shortest history that shows it.

use vaultsync_testkit::history::{InTheWay, Outcome, Promise, Request, Write};

use crate::lines::{Lines, seen, write};

#[test]
fn an_acknowledged_write_that_is_gone_is_lost() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one")], &[1]);
    lines.state(&[]);
    lines.breaks(Promise::Durable, "version 1 was acknowledged, and in the end the record is not");
}

#[test]
fn an_acknowledged_write_behind_an_older_version_is_lost() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one")], &[1]);
    lines.pushed(&[write("a", 1, "two")], &[2]);
    lines.state(&[seen("a", 1, "one", 10)]);
    lines.breaks(Promise::Durable, "version 2 was acknowledged, and in the end the record is at");
}

#[test]
fn an_acknowledged_write_that_another_replaced_under_its_version_is_lost() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one")], &[1]);
    lines.push(&[write("a", None, "another")]);
    lines.state(&[seen("a", 1, "another", 10)]);
    lines.breaks_all(&[Promise::Durable, Promise::Versions], "something else under that version");
}

#[test]
fn a_version_that_a_page_showed_and_that_is_gone_was_a_phantom() {
    let lines = Lines::default();
    lines.push(&[write("a", None, "one")]);
    lines.pulled(None, &[seen("a", 1, "one", 10)], false);
    lines.state(&[]);
    lines.breaks_all(&[Promise::Durable, Promise::Following], "version 1 was shown");
}

#[test]
fn a_version_that_a_conflict_showed_and_that_is_gone_was_a_phantom() {
    let lines = Lines::default();
    lines.push(&[write("a", None, "one")]);
    let late = lines.push(&[write("a", None, "late")]);
    lines.conflict(late, &[seen("a", 1, "one", 10)]);
    lines.state(&[]);
    lines.breaks(Promise::Durable, "version 1 was shown");
}

#[test]
fn a_write_of_a_push_that_was_refused_is_no_write() {
    let other = seen("b", 1, "other", 9);
    let conflicts = vec![InTheWay::Record(other.clone())];
    for outcome in [Outcome::Refused, Outcome::Conflict { conflicts }] {
        let lines = Lines::default();
        lines.pushed(&[write("b", None, "other")], &[1]);
        let push = lines.push(&[write("a", None, "one"), write("b", None, "one")]);
        lines.end(push, outcome);
        lines.state(&[seen("a", 1, "one", 10), other.clone()]);
        lines.breaks_all(&[Promise::Atomic, Promise::Versions], "of a push that was told: nothing");
    }
}

#[test]
fn a_push_of_unknown_outcome_is_not_half_there() {
    let lines = Lines::default();
    let push = lines.push(&[write("a", None, "one"), write("b", None, "one")]);
    lines.end(push, Outcome::Unknown);
    lines.state(&[seen("a", 1, "one", 10)]);
    lines.breaks(Promise::Atomic, "a push of unknown outcome wrote it, but not b");
}

#[test]
fn a_push_of_unknown_outcome_is_not_there_where_another_took_one_of_its_versions() {
    let lines = Lines::default();
    lines.push(&[write("a", None, "one"), write("b", None, "one")]);
    lines.pushed(&[write("b", None, "another")], &[1]);
    lines.state(&[seen("a", 1, "one", 10), seen("b", 1, "another", 11)]);
    lines.breaks(Promise::Atomic, "a push of unknown outcome wrote it, but not b");
}

#[test]
fn a_page_to_the_end_does_not_show_half_a_push() {
    let lines = Lines::default();
    let operations = [write("a", None, "one"), write("b", None, "one")];
    let push = lines.push(&operations);
    lines.pulled(None, &[seen("a", 1, "one", 10)], false);
    lines.acknowledge(push, &operations, &[1, 1]);
    lines.state(&[seen("a", 1, "one", 10), seen("b", 1, "one", 11)]);
    lines.breaks(Promise::Atomic, "the page has a of the same push");
}

#[test]
fn a_version_is_not_acknowledged_for_two_writes() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one")], &[1]);
    lines.pushed(&[write("a", 1, "his")], &[2]);
    lines.pushed(&[write("a", 1, "hers")], &[2]);
    lines.pushed(&[write("a", 2, "last")], &[3]);
    lines.state(&[seen("a", 3, "last", 10)]);
    lines.breaks(Promise::Versions, "version 2 was acknowledged for two writes");
}

#[test]
fn a_version_does_not_show_two_writes() {
    let lines = Lines::default();
    lines.push(&[write("a", None, "his")]);
    lines.push(&[write("a", None, "hers")]);
    lines.pulled(None, &[seen("a", 1, "his", 10)], false);
    lines.push(&[write("a", 1, "two")]);
    lines.pulled(None, &[seen("a", 1, "hers", 10)], false);
    lines.state(&[seen("a", 2, "two", 20)]);
    lines.breaks(Promise::Versions, "version 1 was told to hold two writes");
}

#[test]
fn a_version_stands_on_its_base() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one")], &[1]);
    lines.pushed(&[write("a", 1, "two")], &[3]);
    lines.state(&[seen("a", 3, "two", 10)]);
    lines.breaks(Promise::Versions, "version 3 was acknowledged on base version 1");
}

#[test]
fn a_write_is_not_shown_on_another_base() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one")], &[1]);
    lines.pushed(&[write("a", 1, "two")], &[2]);
    lines.push(&[write("a", 1, "three")]);
    lines.state(&[seen("a", 3, "three", 10)]);
    lines.breaks(Promise::Versions, "holds a write that was made on another base");
}

#[test]
fn what_nobody_wrote_is_not_shown() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one")], &[1]);
    lines.push(&[write("a", 1, "two")]);
    lines.state(&[seen("a", 2, "made up", 10)]);
    lines.breaks(Promise::Versions, "version 2 holds what nobody wrote to it");
}

#[test]
fn a_conflict_shows_what_was_in_the_way() {
    let told = "is shown in the way of a push that it was not";
    for (base, shown, what) in [
        (None, vec![], "and nothing shown that was in its way"),
        (None, vec![InTheWay::Nothing("a".into())], told),
        (None, vec![InTheWay::Record(seen("b", 1, "one", 11))], told),
        (Some(1), vec![InTheWay::Record(seen("a", 1, "one", 10))], told),
        (Some(0), vec![InTheWay::Record(seen("a", 1, "late", 10))], told),
    ] {
        let lines = Lines::default();
        let late = lines.push(&[write("a", base, "late")]);
        lines.push(&[write("a", None, "one"), write("b", None, "one")]);
        lines.push(&[write("a", None, "late")]);
        lines.end(late, Outcome::Conflict { conflicts: shown });
        lines.state(&[]);
        let broken = lines.check().unwrap_err();
        let told = broken
            .iter()
            .any(|one| one.promise == Promise::Versions && one.to_string().contains(what));
        assert!(told, "base {base:?}: {broken:?}");
    }
}

#[test]
fn a_conflict_does_not_show_what_was_superseded_before_the_push() {
    for shown in [InTheWay::Nothing("a".into()), InTheWay::Record(seen("a", 1, "one", 10))] {
        let lines = Lines::default();
        lines.pushed(&[write("a", None, "one")], &[1]);
        lines.pushed(&[write("a", 1, "two")], &[2]);
        let late = lines.push(&[write("a", 7, "late")]);
        lines.end(late, Outcome::Conflict { conflicts: vec![shown] });
        lines.state(&[seen("a", 2, "two", 11)]);
        lines.breaks(Promise::Durable, "version 2 was acknowledged before");
    }
}

#[test]
fn versions_have_no_gaps() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one")], &[1]);
    lines.pushed(&[write("a", 2, "three")], &[3]);
    lines.state(&[seen("a", 3, "three", 10)]);
    lines.breaks(Promise::Versions, "there is a version 3, and no push can have made version 2");
}

#[test]
fn a_version_out_of_nowhere_is_told_at_once() {
    let lines = Lines::default();
    lines.state(&[seen("a", u64::MAX, "one", 10)]);
    lines.breaks(Promise::Versions, "no push can have made version 1");
}

#[test]
fn a_page_does_not_skip_what_lies_between_its_cursors() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one"), write("b", None, "one")], &[1, 1]);
    lines.pulled(None, &[seen("b", 1, "one", 11)], true);
    lines.state(&[seen("a", 1, "one", 10), seen("b", 1, "one", 11)]);
    lines.breaks(Promise::Following, "record a: the page skips version 1");
}

#[test]
fn a_page_without_more_does_not_leave_out_what_was_acknowledged_before() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one")], &[1]);
    lines.pulled(5, &[], false);
    lines.state(&[seen("a", 1, "one", 10)]);
    lines.breaks(Promise::Following, "the page skips version 1");
}

#[test]
fn a_page_does_not_show_a_version_that_was_superseded_before() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one")], &[1]);
    lines.pushed(&[write("a", 1, "two")], &[2]);
    lines.pulled(5, &[seen("a", 1, "one", 10)], false);
    lines.state(&[seen("a", 2, "two", 11)]);
    lines.breaks(Promise::Following, "the page skips version 2");
}

#[test]
fn what_comes_up_behind_a_follower_s_cursor_is_skipped() {
    let lines = Lines::default();
    let (early, late) = ([write("a", None, "one")], [write("b", None, "one")]);
    let push = lines.push(&early);
    let other = lines.push(&late);
    lines.acknowledge(other, &late, &[1]);
    lines.pulled(None, &[seen("b", 1, "one", 11)], false);
    lines.acknowledge(push, &early, &[1]);
    lines.pulled(11, &[], false);
    lines.state(&[seen("a", 1, "one", 10), seen("b", 1, "one", 11)]);
    lines.breaks(Promise::Following, "holds version 0, the server version 1");
}

#[test]
fn a_page_keeps_to_its_form() {
    let both = [seen("a", 1, "one", 10), seen("b", 1, "one", 11)];
    let check = |request: Request, outcome: Outcome, what: &str| {
        let lines = Lines::default();
        lines.pushed(&[write("a", None, "one"), write("b", None, "one")], &[1, 1]);
        lines.state(&both);
        let pull = lines.begin("ada", "laptop", request);
        lines.end(pull, outcome);
        lines.breaks(Promise::Following, what);
    };
    let page = |records: &[_], next_cursor, has_more| Outcome::Page {
        records: records.to_vec(),
        next_cursor,
        has_more,
    };
    let from = |cursor, limit| Request::Pull { cursor, limit };
    check(from(None, 1), page(&both, Some(11), false), "more records than were asked for");
    check(from(None, 9), page(&[], None, true), "is empty and says that there is more");
    check(from(None, 9), page(&both, Some(12), false), "cursor is not that of its last record");
    check(from(Some(10), 9), page(&both, Some(11), false), "begins at or before its cursor");
}

#[test]
fn two_records_do_not_share_a_time() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one")], &[1]);
    lines.push(&[write("b", None, "one")]);
    lines.state(&[seen("a", 1, "one", 10), seen("b", 1, "one", 10)]);
    lines.breaks(Promise::Order, "has the time of version 1 of");
}

#[test]
fn a_version_keeps_its_time() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one")], &[1]);
    lines.pulled(5, &[seen("a", 1, "one", 10)], true);
    lines.state(&[seen("a", 1, "one", 20)]);
    lines.breaks(Promise::Order, "version 1 is shown with two times");
}

#[test]
fn a_page_is_in_the_order_of_times() {
    let lines = Lines::default();
    lines.push(&[write("a", None, "one")]);
    lines.push(&[write("b", None, "one")]);
    lines.pulled(5, &[seen("b", 1, "one", 11), seen("a", 1, "one", 10)], true);
    lines.state(&[seen("a", 1, "one", 10), seen("b", 1, "one", 11)]);
    lines.breaks(Promise::Order, "the page's records are not in the order of their times");
}

#[test]
fn times_rise_inside_a_push() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one"), write("b", None, "one")], &[1, 1]);
    lines.state(&[seen("a", 1, "one", 11), seen("b", 1, "one", 10)]);
    lines.breaks(Promise::Order, "not later than that of a write before it in the push");
}

#[test]
fn times_rise_with_the_versions_of_a_record() {
    let lines = Lines::default();
    lines.push(&[write("a", None, "one")]);
    lines.pulled(None, &[seen("a", 1, "one", 10)], true);
    lines.push(&[write("a", 1, "two")]);
    lines.state(&[seen("a", 2, "two", 9)]);
    lines.breaks(Promise::Order, "version 2 is not later than the version before it");
}

#[test]
fn times_rise_in_the_order_of_pushes() {
    let lines = Lines::default();
    lines.pushed(&[write("a", None, "one")], &[1]);
    lines.pushed(&[write("b", None, "one")], &[1]);
    lines.state(&[seen("a", 1, "one", 11), seen("b", 1, "one", 10)]);
    lines.breaks(Promise::Order, "earlier than what was acknowledged before it was sent");
}

/// ada's phone pushes, and others push that many times, and then the phone pushes the same again.
fn sent_again(others: u64) -> (Lines, [Write; 1], u64) {
    let lines = Lines::default();
    let operations = [write("a", None, "one")];
    lines.pushed(&operations, &[1]);
    for version in 1..=others {
        lines.pushed(&[write("a", version, &version.to_string())], &[version + 1]);
    }
    let last = if others == 0 { "one".to_owned() } else { others.to_string() };
    lines.state(&[seen("a", others + 1, &last, 10)]);
    let again = lines.push(&operations);
    (lines, operations, again)
}

#[test]
fn a_push_sent_again_after_its_200_meets_no_conflict() {
    for others in [1, 31] {
        let (lines, _, again) = sent_again(others);
        lines.conflict(again, &[seen("a", others + 1, &others.to_string(), 10)]);
        lines.breaks(Promise::Retries, "a push sent again after its 200 was told of a conflict");
    }
    let (lines, _, again) = sent_again(0);
    lines.conflict(again, &[seen("a", 1, "one", 10)]);
    lines.breaks_all(&[Promise::Versions, Promise::Retries], "that it was not");
}

#[test]
fn a_push_sent_again_gets_the_same_versions() {
    let (lines, operations, again) = sent_again(1);
    lines.acknowledge(again, &operations, &[2]);
    lines.breaks_all(&[Promise::Durable, Promise::Versions, Promise::Retries], "");
}

#[test]
fn past_the_receipts_nothing_is_promised_to_a_push_sent_again() {
    let (lines, _, again) = sent_again(32);
    lines.conflict(again, &[seen("a", 33, "32", 10)]);
    assert_eq!(lines.holds().replays, 0);
}

#[test]
fn nobody_is_shown_another_s_records() {
    let lines = Lines::default();
    let operations = [write("secret", None, "bob's")];
    let push = lines.push_of("bob", &operations);
    lines.acknowledge(push, &operations, &[1]);
    lines.push(&[write("secret", None, "ada's")]);
    lines.state(&[seen("secret", 1, "bob's", 10)]);
    lines.state_of("bob", &[seen("secret", 1, "bob's", 10)]);
    lines.breaks(Promise::Tenancy, "it holds what only bob wrote");
}
