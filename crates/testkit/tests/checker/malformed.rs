//! Events and files that are no history, and the round trip through a file.

use std::fs::File;
use std::io::BufReader;

use vaultsync_testkit::history::{
    History, Malformed, Outcome, Recorder, Request, VaultLabel, check, read,
};

use crate::builder::{Builder, pull as pull_of, push as push_of, view, write};

#[test]
fn a_history_recorded_to_a_file_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let recorder = Recorder::to_file(&path).unwrap();
    let (user, notes) = (VaultLabel::from("ada"), VaultLabel::named("ada", "notes"));
    let device = "phone".into();
    let operations = vec![write("a", None, "one"), write("b", 3, "one")];
    let push = recorder.begin(&user, &device, push_of(&operations, &[("c", 4)], Some("e")));
    recorder.end(push, Outcome::Unknown);
    let retry = recorder.begin(&user, &device, push_of(&operations, &[], None));
    recorder.end(retry, Outcome::Conflict { conflicts: vec![] });
    let pull = recorder.begin(&user, &device, pull_of(Some(-5), Some("e")));
    let records = vec![view("a", 1, "one", 10)];
    let epoch = Some("e".into());
    let page = Outcome::Page { records, next_cursor: Some(10), has_more: false, epoch };
    recorder.end(pull, page);
    let erase = recorder.begin(&notes, &device, Request::Erase { epoch: "e".into() });
    recorder.end(erase, Outcome::Erased);
    recorder.state(&user, vec![view("a", 1, "one", 10), view("b", 1, "one", 11)]);
    let events = recorder.finish().unwrap();
    assert_eq!(read(BufReader::new(File::open(&path).unwrap())).unwrap(), events);
    assert_eq!(events.len(), 9);
}

#[test]
fn an_invalid_line_is_reported_by_its_number() {
    let line = r#"{"event":"end","operation":0,"outcome":"refused"}"#;
    let text = format!("{line}\n{line}\n{{}}\n");
    let error = read(text.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("line 3: "), "{error}");
}

#[test]
fn events_that_make_no_history_are_rejected() {
    let malformed = |history: &Builder| History::new(&history.events()).unwrap_err();
    let operations = [write("a", None, "one")];

    let history = Builder::default();
    history.end(7, Outcome::Refused);
    assert_eq!(malformed(&history), Malformed::EndsAlone(7));

    let history = Builder::default();
    let push = history.push(&operations, &[1]);
    history.end(push, Outcome::Refused);
    assert_eq!(malformed(&history), Malformed::EndsAlone(push));

    let history = Builder::default();
    let push = history.begin_push(&operations);
    history.page(push, &[], false);
    assert_eq!(malformed(&history), Malformed::EndsOddly(push));

    let history = Builder::default();
    let push = history.begin_push(&operations);
    history.acknowledge(push, &[write("b", None, "one")], &[1]);
    assert_eq!(malformed(&history), Malformed::EndsOddly(push));

    let history = Builder::default();
    history.push(&operations, &[1]);
    assert_eq!(malformed(&history), Malformed::NoState("ada".into()));

    let history = Builder::default();
    history.state(&[view("a", 1, "one", 10), view("a", 1, "one", 10)]);
    assert_eq!(malformed(&history), Malformed::StateTwice("ada".into(), "a".into()));

    let history = Builder::default();
    history.begin_push(&operations);
    let mut events = history.events();
    events.push(events[0].clone());
    assert_eq!(History::new(&events).unwrap_err(), Malformed::BeginsTwice(0));
}

#[test]
fn an_empty_history_breaks_no_promise() {
    assert_eq!(check(&History::default()), Ok(vaultsync_testkit::history::Counts::default()));
}
