//! Guards, named vaults and erased epochs: histories that break their promises, and some that do not.

use vaultsync_testkit::history::{
    ConflictEntry, Event, History, Malformed, Outcome, Promise, RecordView, Request, VaultLabel,
    Write,
};

use crate::builder::{Builder, pull, push, view, write};

/// Adds a push with guards that is acknowledged as version 1 of `a` before anything else happens.
fn push_guarded(history: &Builder, text: &str, guards: &[(&str, u64)]) {
    let operations = [write("a", None, text)];
    let number = history.begin("ada", "phone", push(&operations, guards, None));
    history.acknowledge(number, &operations, &[1]);
}

/// `key` reaches version 2, and then `a` is written with this guard on it.
fn guarded_after_two_versions(version: u64) -> Builder {
    let history = Builder::default();
    history.push(&[write("key", None, "one")], &[1]);
    history.push(&[write("key", 1, "two")], &[2]);
    push_guarded(&history, "a", &[("key", version)]);
    history.state(&[view("key", 2, "two", 11), view("a", 1, "a", 12)]);
    history
}

#[test]
fn a_guard_that_holds_is_counted() {
    assert_eq!(guarded_after_two_versions(2).is_valid().guarded, 1);
}

#[test]
fn a_push_is_not_applied_if_its_guard_is_on_an_older_version() {
    let history = guarded_after_two_versions(1);
    history.breaks(Promise::Guards, "the record was at version 2 before");
}

#[test]
fn a_push_is_not_applied_if_its_guard_is_on_a_version_that_does_not_exist() {
    let history = guarded_after_two_versions(3);
    history.breaks(Promise::Guards, "the record got that version only later");
    let history = Builder::default();
    push_guarded(&history, "a", &[("key", 1)]);
    history.state(&[view("a", 1, "a", 12)]);
    history.breaks(Promise::Guards, "the record got that version only later");
}

#[test]
fn a_push_is_not_applied_if_its_guard_says_that_a_record_does_not_exist_which_does() {
    let history = guarded_after_two_versions(0);
    history.breaks(Promise::Guards, "the record was at version 2 before");
}

/// No response has a time of the guarded push: it was superseded.
#[test]
fn responses_alone_show_that_a_guard_did_not_hold() {
    let history = Builder::default();
    history.push(&[write("key", None, "one")], &[1]);
    history.push(&[write("key", 1, "two")], &[2]);
    push_guarded(&history, "a", &[("key", 1)]);
    history.push(&[write("a", 1, "later")], &[2]);
    history.state(&[view("key", 2, "two", 11), view("a", 2, "later", 13)]);
    history.breaks(Promise::Guards, "version 2 was acknowledged before");
    let history = Builder::default();
    push_guarded(&history, "a", &[("key", 1)]);
    history.push(&[write("key", None, "one")], &[1]);
    history.push(&[write("a", 1, "later")], &[2]);
    history.state(&[view("key", 1, "one", 11), view("a", 2, "later", 13)]);
    history.breaks(Promise::Guards, "no push of that version had been sent");
}

#[test]
fn a_guard_may_hold_between_two_writes_that_overlap_with_its_push() {
    let history = Builder::default();
    let operations = [write("a", None, "a")];
    let guarded = history.begin("ada", "laptop", push(&operations, &[("key", 1)], None));
    history.push(&[write("key", None, "one")], &[1]);
    history.push(&[write("key", 1, "two")], &[2]);
    history.acknowledge(guarded, &operations, &[1]);
    history.state(&[view("a", 1, "a", 11), view("key", 2, "two", 12)]);
    assert_eq!(history.is_valid().guarded, 1);
}

/// Guards are not checked if the records hold the writes already, so a push that found them says nothing.
#[test]
fn a_push_whose_writes_another_one_may_have_made_is_not_judged() {
    let history = Builder::default();
    history.push(&[write("a", None, "a")], &[1]);
    push_guarded(&history, "a", &[("key", 7)]);
    history.state(&[view("a", 1, "a", 11)]);
    assert_eq!(history.is_valid().guarded, 0);
}

#[test]
fn a_conflict_may_be_that_of_a_guard_if_it_does_not_hold() {
    let refused = |version, entry| {
        let history = Builder::default();
        history.push(&[write("key", None, "one")], &[1]);
        let operations = [write("a", None, "a")];
        let number = history.begin("ada", "phone", push(&operations, &[("key", version)], None));
        history.end(number, Outcome::Conflict { conflicts: vec![entry] });
        history.state(&[view("key", 1, "one", 10)]);
        history
    };
    let key = || ConflictEntry::Record(view("key", 1, "one", 10));
    refused(2, key()).is_valid();
    refused(0, key()).is_valid();
    refused(1, key()).breaks(Promise::Versions, "version 1, which does not conflict");
    let missing = ConflictEntry::Missing("key".into());
    refused(2, missing).breaks(Promise::Durable, "version 1 was acknowledged before");
}

fn notes() -> VaultLabel {
    VaultLabel::named("ada", "notes")
}

/// Adds a push of a new record to a vault, in an epoch or without naming one.
fn push_to(history: &Builder, vault: VaultLabel, text: &str, epoch: Option<&str>) {
    let operations = [write("a", None, text)];
    let number = history.begin(vault, "phone", push(&operations, &[], epoch));
    history.acknowledge(number, &operations, &[1]);
}

#[test]
fn vaults_of_a_user_have_the_same_ids_and_orders_of_their_own() {
    let history = Builder::default();
    push_to(&history, "ada".into(), "default", None);
    push_to(&history, notes(), "note", None);
    history.state(&[view("a", 1, "default", 10)]);
    history.state_of(notes(), &[view("a", 1, "note", 10)]);
    assert_eq!(history.is_valid().vaults, 2);
}

#[test]
fn no_vault_shows_the_content_of_another_of_the_same_user() {
    let history = Builder::default();
    push_to(&history, notes(), "note", None);
    history.begin_push(&[write("a", None, "default")]);
    history.state(&[view("a", 1, "note", 10)]);
    history.state_of(notes(), &[view("a", 1, "note", 10)]);
    history.breaks(Promise::Tenancy, "it has content that was written only to notes of ada");
}

/// Ada's vault in epoch `one`, which is then erased, with this request beside it.
fn erased(history: &Builder) -> u64 {
    push_to(history, "ada".into(), "old", None);
    page(history, None, &[view("a", 1, "old", 10)], "one");
    let erase = history.begin("ada", "phone", Request::Erase { epoch: "one".into() });
    history.end(erase, Outcome::Erased);
    erase
}

/// Adds a pull from the start that names an epoch, and a page of one.
fn page(history: &Builder, named: Option<&str>, records: &[RecordView], epoch: &str) {
    let number = history.begin("ada", "laptop", pull(None, named));
    let (records, next_cursor) = (records.to_vec(), records.last().map(|last| last.updated_at));
    let epoch = Some(epoch.into());
    history.end(number, Outcome::Page { records, next_cursor, has_more: false, epoch });
}

#[test]
fn an_erased_vault_begins_anew() {
    let history = Builder::default();
    erased(&history);
    let refused = history.begin("ada", "phone", push(&[write("a", 1, "x")], &[], Some("one")));
    history.end(refused, Outcome::VaultErased);
    let refused = history.begin("ada", "laptop", pull(Some(10), Some("one")));
    history.end(refused, Outcome::VaultErased);
    push_to(&history, "ada".into(), "new", None);
    page(&history, None, &[view("a", 1, "new", 20)], "two");
    history.state(&[view("a", 1, "new", 20)]);
    let counts = history.is_valid();
    assert_eq!((counts.erasures, counts.refused_as_erased, counts.vaults), (1, 2, 1));
}

#[test]
fn a_request_that_was_sent_before_the_erasure_ended_may_be_served() {
    let history = Builder::default();
    push_to(&history, "ada".into(), "old", None);
    let erase = history.begin("ada", "phone", Request::Erase { epoch: "one".into() });
    let operations = [write("b", None, "late")];
    let late = history.begin("ada", "tablet", push(&operations, &[], Some("one")));
    history.end(erase, Outcome::Erased);
    history.acknowledge(late, &operations, &[1]);
    history.state(&[]);
    history.is_valid();
}

#[test]
fn no_push_that_names_an_erased_epoch_is_acknowledged() {
    let history = Builder::default();
    erased(&history);
    push_to(&history, "ada".into(), "again", Some("one"));
    history.state(&[]);
    let broken = [Promise::Versions, Promise::Erasure];
    history.breaks_all(&broken, "was acknowledged for two writes");
    let history = Builder::default();
    erased(&history);
    let operations = [write("b", None, "again")];
    let number = history.begin("ada", "phone", push(&operations, &[], Some("one")));
    history.acknowledge(number, &operations, &[1]);
    history.state(&[]);
    history.breaks(Promise::Erasure, "a push that names an erased epoch was acknowledged");
}

#[test]
fn a_push_that_names_an_erased_epoch_gets_no_conflict() {
    let history = Builder::default();
    erased(&history);
    let operations: [Write; 1] = [write("a", None, "again")];
    let number = history.begin("ada", "phone", push(&operations, &[], Some("one")));
    history.conflict(number, &[view("a", 1, "old", 10)]);
    history.state(&[]);
    history.breaks(Promise::Erasure, "a push that names an erased epoch got a conflict");
}

#[test]
fn no_reader_sees_a_record_of_an_erased_epoch() {
    for named in [None, Some("one")] {
        let history = Builder::default();
        erased(&history);
        page(&history, named, &[view("a", 1, "old", 10)], "one");
        history.state(&[]);
        history.breaks(Promise::Erasure, "a pull returned a page of an erased epoch");
    }
    let history = Builder::default();
    erased(&history);
    history.begin("ada", "phone", push(&[write("a", None, "new")], &[], Some("two")));
    page(&history, None, &[view("a", 1, "old", 20)], "two");
    history.state(&[view("a", 1, "new", 20)]);
    history.breaks_all(
        &[Promise::Durable, Promise::Versions, Promise::Following, Promise::Erasure],
        "",
    );
    let history = Builder::default();
    erased(&history);
    history.begin("ada", "phone", push(&[write("a", None, "new")], &[], Some("two")));
    history.state(&[view("a", 1, "old", 20)]);
    history.breaks(Promise::Erasure, "it has content that was erased with epoch one");
}

#[test]
fn the_times_of_a_vault_go_on_after_an_erasure() {
    let history = Builder::default();
    erased(&history);
    push_to(&history, "ada".into(), "new", None);
    history.state(&[view("a", 1, "new", 10)]);
    history.breaks(Promise::Erasure, "a time is not later than those of the epoch");
}

#[test]
fn an_erasure_that_leaves_open_what_was_erased_makes_no_history() {
    let malformed = |events: &[Event]| History::new(events).unwrap_err();
    let history = Builder::default();
    let erase = history.begin("ada", "phone", Request::Erase { epoch: "one".into() });
    history.end(erase, Outcome::Unknown);
    history.state(&[]);
    assert_eq!(malformed(&history.events()), Malformed::UndecidedErasure(erase));

    let history = Builder::default();
    let number = history.begin_push(&[write("a", None, "x")]);
    erased(&history);
    history.state(&[]);
    assert_eq!(malformed(&history.events()), Malformed::AmbiguousPush(number));
}
