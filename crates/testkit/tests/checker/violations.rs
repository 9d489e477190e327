//! The shortest history for each way to break a promise.

use vaultsync_testkit::history::{ConflictEntry, Outcome, Promise, Request, Write};

use crate::builder::{Builder, view, write};

#[test]
fn an_acknowledged_write_that_is_missing_is_lost() {
    let history = Builder::default();
    history.push(&[write("a", None, "one")], &[1]);
    history.state(&[]);
    history.breaks(
        Promise::Durable,
        "version 1 was acknowledged, but in the end the record does not exist",
    );
}

#[test]
fn an_acknowledged_write_followed_by_an_older_version_is_lost() {
    let history = Builder::default();
    history.push(&[write("a", None, "one")], &[1]);
    history.push(&[write("a", 1, "two")], &[2]);
    history.state(&[view("a", 1, "one", 10)]);
    history.breaks(Promise::Durable, "version 2 was acknowledged, but in the end the record is at");
}

#[test]
fn an_acknowledged_write_replaced_under_the_same_version_is_lost() {
    let history = Builder::default();
    history.push(&[write("a", None, "one")], &[1]);
    history.begin_push(&[write("a", None, "another")]);
    history.state(&[view("a", 1, "another", 10)]);
    history
        .breaks_all(&[Promise::Durable, Promise::Versions], "another content under that version");
}

#[test]
fn a_version_that_was_on_a_page_and_is_missing_is_lost() {
    let history = Builder::default();
    history.begin_push(&[write("a", None, "one")]);
    history.pull(None, &[view("a", 1, "one", 10)], false);
    history.state(&[]);
    history.breaks_all(&[Promise::Durable, Promise::Following], "version 1 was returned");
}

#[test]
fn a_version_that_was_in_a_conflict_and_is_missing_is_lost() {
    let history = Builder::default();
    history.begin_push(&[write("a", None, "one")]);
    let late = history.begin_push(&[write("a", None, "late")]);
    history.conflict(late, &[view("a", 1, "one", 10)]);
    history.state(&[]);
    history.breaks(Promise::Durable, "version 1 was returned");
}

#[test]
fn a_refused_push_leaves_no_write() {
    let other = view("b", 1, "other", 9);
    let conflicts = vec![ConflictEntry::Record(other.clone())];
    for outcome in [Outcome::Refused, Outcome::Conflict { conflicts }] {
        let history = Builder::default();
        history.push(&[write("b", None, "other")], &[1]);
        let push = history.begin_push(&[write("a", None, "one"), write("b", None, "one")]);
        history.end(push, outcome);
        history.state(&[view("a", 1, "one", 10), other.clone()]);
        history.breaks_all(
            &[Promise::Atomic, Promise::Versions],
            "comes from a push that was refused",
        );
    }
}

#[test]
fn a_push_of_unknown_outcome_is_not_half_applied() {
    let history = Builder::default();
    let push = history.begin_push(&[write("a", None, "one"), write("b", None, "one")]);
    history.end(push, Outcome::Unknown);
    history.state(&[view("a", 1, "one", 10)]);
    history.breaks(Promise::Atomic, "a push of unknown outcome wrote it, but not b");
}

#[test]
fn a_push_of_unknown_outcome_is_not_applied_if_another_push_took_one_of_its_versions() {
    let history = Builder::default();
    history.begin_push(&[write("a", None, "one"), write("b", None, "one")]);
    history.push(&[write("b", None, "another")], &[1]);
    history.state(&[view("a", 1, "one", 10), view("b", 1, "another", 11)]);
    history.breaks(Promise::Atomic, "a push of unknown outcome wrote it, but not b");
}

#[test]
fn a_last_page_does_not_have_half_a_push() {
    let history = Builder::default();
    let operations = [write("a", None, "one"), write("b", None, "one")];
    let push = history.begin_push(&operations);
    history.pull(None, &[view("a", 1, "one", 10)], false);
    history.acknowledge(push, &operations, &[1, 1]);
    history.state(&[view("a", 1, "one", 10), view("b", 1, "one", 11)]);
    history.breaks(Promise::Atomic, "the last page has a of the same push");
}

#[test]
fn a_version_is_not_acknowledged_for_two_writes() {
    let history = Builder::default();
    history.push(&[write("a", None, "one")], &[1]);
    history.push(&[write("a", 1, "first")], &[2]);
    history.push(&[write("a", 1, "second")], &[2]);
    history.push(&[write("a", 2, "last")], &[3]);
    history.state(&[view("a", 3, "last", 10)]);
    history.breaks(Promise::Versions, "version 2 was acknowledged for two writes");
}

#[test]
fn a_version_is_not_returned_with_two_contents() {
    let history = Builder::default();
    history.begin_push(&[write("a", None, "first")]);
    history.begin_push(&[write("a", None, "second")]);
    history.pull(None, &[view("a", 1, "first", 10)], false);
    history.begin_push(&[write("a", 1, "two")]);
    history.pull(None, &[view("a", 1, "second", 10)], false);
    history.state(&[view("a", 2, "two", 20)]);
    history.breaks(Promise::Versions, "version 1 was returned with the content of two writes");
}

#[test]
fn a_version_is_one_above_its_base_version() {
    let history = Builder::default();
    history.push(&[write("a", None, "one")], &[1]);
    history.push(&[write("a", 1, "two")], &[3]);
    history.state(&[view("a", 3, "two", 10)]);
    history.breaks(Promise::Versions, "version 3 was acknowledged on base version 1");
}

#[test]
fn a_write_is_not_returned_on_another_base_version() {
    let history = Builder::default();
    history.push(&[write("a", None, "one")], &[1]);
    history.push(&[write("a", 1, "two")], &[2]);
    history.begin_push(&[write("a", 1, "three")]);
    history.state(&[view("a", 3, "three", 10)]);
    history.breaks(Promise::Versions, "has a write that was made on another base version");
}

#[test]
fn content_that_no_push_wrote_is_not_returned() {
    let history = Builder::default();
    history.push(&[write("a", None, "one")], &[1]);
    history.begin_push(&[write("a", 1, "two")]);
    history.state(&[view("a", 2, "made up", 10)]);
    history.breaks(Promise::Versions, "version 2 has content that no push wrote to it");
}

#[test]
fn a_conflict_lists_only_conflicting_records() {
    let not_conflicting = "which does not conflict";
    for (base, conflicts, what) in [
        (None, vec![], "a conflict that lists no record"),
        (None, vec![ConflictEntry::Missing("a".into())], not_conflicting),
        (None, vec![ConflictEntry::Record(view("b", 1, "one", 11))], not_conflicting),
        (Some(1), vec![ConflictEntry::Record(view("a", 1, "one", 10))], not_conflicting),
        (Some(0), vec![ConflictEntry::Record(view("a", 1, "late", 10))], not_conflicting),
    ] {
        let history = Builder::default();
        let late = history.begin_push(&[write("a", base, "late")]);
        history.begin_push(&[write("a", None, "one"), write("b", None, "one")]);
        history.begin_push(&[write("a", None, "late")]);
        history.end(late, Outcome::Conflict { conflicts });
        history.state(&[]);
        let broken = history.check().unwrap_err();
        let is_found = broken
            .iter()
            .any(|one| one.promise == Promise::Versions && one.to_string().contains(what));
        assert!(is_found, "base {base:?}: {broken:?}");
    }
}

#[test]
fn a_conflict_does_not_list_a_version_superseded_before_the_push() {
    for entry in
        [ConflictEntry::Missing("a".into()), ConflictEntry::Record(view("a", 1, "one", 10))]
    {
        let history = Builder::default();
        history.push(&[write("a", None, "one")], &[1]);
        history.push(&[write("a", 1, "two")], &[2]);
        let late = history.begin_push(&[write("a", 7, "late")]);
        history.end(late, Outcome::Conflict { conflicts: vec![entry] });
        history.state(&[view("a", 2, "two", 11)]);
        history.breaks(Promise::Durable, "version 2 was acknowledged before");
    }
}

#[test]
fn versions_have_no_gaps() {
    let history = Builder::default();
    history.push(&[write("a", None, "one")], &[1]);
    history.push(&[write("a", 2, "three")], &[3]);
    history.state(&[view("a", 3, "three", 10)]);
    history.breaks(Promise::Versions, "there is a version 3, but no push can have made version 2");
}

#[test]
fn a_version_out_of_nowhere_is_reported_at_once() {
    let history = Builder::default();
    history.state(&[view("a", u64::MAX, "one", 10)]);
    history.breaks(Promise::Versions, "no push can have made version 1");
}

#[test]
fn a_page_does_not_skip_a_version_between_its_cursors() {
    let history = Builder::default();
    history.push(&[write("a", None, "one"), write("b", None, "one")], &[1, 1]);
    history.pull(None, &[view("b", 1, "one", 11)], true);
    history.state(&[view("a", 1, "one", 10), view("b", 1, "one", 11)]);
    history.breaks(Promise::Following, "record a: the page skips version 1");
}

#[test]
fn a_last_page_does_not_skip_a_version_that_was_acknowledged_before() {
    let history = Builder::default();
    history.push(&[write("a", None, "one")], &[1]);
    history.pull(5, &[], false);
    history.state(&[view("a", 1, "one", 10)]);
    history.breaks(Promise::Following, "the page skips version 1");
}

#[test]
fn a_page_does_not_have_a_version_that_was_superseded_before() {
    let history = Builder::default();
    history.push(&[write("a", None, "one")], &[1]);
    history.push(&[write("a", 1, "two")], &[2]);
    history.pull(5, &[view("a", 1, "one", 10)], false);
    history.state(&[view("a", 2, "two", 11)]);
    history.breaks(Promise::Following, "the page skips version 2");
}

#[test]
fn a_record_that_appears_behind_a_follower_s_cursor_is_skipped() {
    let history = Builder::default();
    let (early, late) = ([write("a", None, "one")], [write("b", None, "one")]);
    let push = history.begin_push(&early);
    let other = history.begin_push(&late);
    history.acknowledge(other, &late, &[1]);
    history.pull(None, &[view("b", 1, "one", 11)], false);
    history.acknowledge(push, &early, &[1]);
    history.pull(11, &[], false);
    history.state(&[view("a", 1, "one", 10), view("b", 1, "one", 11)]);
    history.breaks(Promise::Following, "has version 0, but the server has version 1");
}

#[test]
fn a_page_is_well_formed() {
    let both = [view("a", 1, "one", 10), view("b", 1, "one", 11)];
    let check = |request: Request, outcome: Outcome, what: &str| {
        let history = Builder::default();
        history.push(&[write("a", None, "one"), write("b", None, "one")], &[1, 1]);
        history.state(&both);
        let pull = history.begin("ada", "laptop", request);
        history.end(pull, outcome);
        history.breaks(Promise::Following, what);
    };
    let page = |records: &[_], next_cursor, has_more| Outcome::Page {
        records: records.to_vec(),
        next_cursor,
        has_more,
        epoch: None,
    };
    let from = |cursor, limit| Request::Pull { cursor, limit, epoch: None };
    check(from(None, 1), page(&both, Some(11), false), "more records than were requested");
    check(from(None, 9), page(&[], None, true), "is empty but says that there is more");
    check(from(None, 9), page(&both, Some(12), false), "cursor is not that of its last record");
    check(from(Some(10), 9), page(&both, Some(11), false), "begins at or before its cursor");
}

#[test]
fn two_records_do_not_have_the_same_time() {
    let history = Builder::default();
    history.push(&[write("a", None, "one")], &[1]);
    history.begin_push(&[write("b", None, "one")]);
    history.state(&[view("a", 1, "one", 10), view("b", 1, "one", 10)]);
    history.breaks(Promise::Order, "has the same time as version 1 of");
}

#[test]
fn a_version_keeps_its_time() {
    let history = Builder::default();
    history.push(&[write("a", None, "one")], &[1]);
    history.pull(5, &[view("a", 1, "one", 10)], true);
    history.state(&[view("a", 1, "one", 20)]);
    history.breaks(Promise::Order, "version 1 was returned with two times");
}

#[test]
fn a_page_is_in_the_order_of_times() {
    let history = Builder::default();
    history.begin_push(&[write("a", None, "one")]);
    history.begin_push(&[write("b", None, "one")]);
    history.pull(5, &[view("b", 1, "one", 11), view("a", 1, "one", 10)], true);
    history.state(&[view("a", 1, "one", 10), view("b", 1, "one", 11)]);
    history.breaks(Promise::Order, "the page's records are not in the order of their times");
}

#[test]
fn times_increase_within_a_push() {
    let history = Builder::default();
    history.push(&[write("a", None, "one"), write("b", None, "one")], &[1, 1]);
    history.state(&[view("a", 1, "one", 11), view("b", 1, "one", 10)]);
    history.breaks(Promise::Order, "not later than that of an earlier write of the same push");
}

#[test]
fn times_increase_with_the_versions_of_a_record() {
    let history = Builder::default();
    history.begin_push(&[write("a", None, "one")]);
    history.pull(None, &[view("a", 1, "one", 10)], true);
    history.begin_push(&[write("a", 1, "two")]);
    history.state(&[view("a", 2, "two", 9)]);
    history.breaks(Promise::Order, "version 2 is not later than the version before it");
}

#[test]
fn times_increase_in_the_order_of_pushes() {
    let history = Builder::default();
    history.push(&[write("a", None, "one")], &[1]);
    history.push(&[write("b", None, "one")], &[1]);
    history.state(&[view("a", 1, "one", 11), view("b", 1, "one", 10)]);
    history.breaks(Promise::Order, "earlier than a write that was acknowledged before it was sent");
}

/// A push by ada's phone, `others` further pushes, and the begin of a retry of the first push.
fn retry_after(others: u64) -> (Builder, [Write; 1], u64) {
    let history = Builder::default();
    let operations = [write("a", None, "one")];
    history.push(&operations, &[1]);
    for version in 1..=others {
        history.push(&[write("a", version, &version.to_string())], &[version + 1]);
    }
    let last = if others == 0 { "one".to_owned() } else { others.to_string() };
    history.state(&[view("a", others + 1, &last, 10)]);
    let retry = history.begin_push(&operations);
    (history, operations, retry)
}

#[test]
fn a_retry_after_a_200_gets_no_conflict() {
    for others in [1, 31] {
        let (history, _, retry) = retry_after(others);
        history.conflict(retry, &[view("a", others + 1, &others.to_string(), 10)]);
        history.breaks(Promise::Retries, "a retry after a 200 got a conflict");
    }
    let (history, _, retry) = retry_after(0);
    history.conflict(retry, &[view("a", 1, "one", 10)]);
    history.breaks_all(&[Promise::Versions, Promise::Retries], "which does not conflict");
}

#[test]
fn a_retry_gets_the_same_versions() {
    let (history, operations, retry) = retry_after(1);
    history.acknowledge(retry, &operations, &[2]);
    history.breaks_all(&[Promise::Durable, Promise::Versions, Promise::Retries], "");
}

#[test]
fn a_retry_after_too_many_other_pushes_is_promised_nothing() {
    let (history, _, retry) = retry_after(32);
    history.conflict(retry, &[view("a", 33, "32", 10)]);
    assert_eq!(history.is_valid().replays, 0);
}

#[test]
fn no_user_gets_another_s_content() {
    let history = Builder::default();
    let operations = [write("secret", None, "bob's")];
    let push = history.begin_push_by("bob", &operations);
    history.acknowledge(push, &operations, &[1]);
    history.begin_push(&[write("secret", None, "ada's")]);
    history.state(&[view("secret", 1, "bob's", 10)]);
    history.state_of("bob", &[view("secret", 1, "bob's", 10)]);
    history.breaks(Promise::Tenancy, "it has content that was written only to bob");
}
