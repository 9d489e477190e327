//! What is a history at all, in memory and as lines of a file.

use std::fs::File;
use std::io::BufReader;

use vaultsync_testkit::history::{History, Malformed, Outcome, Recorder, Request, check, read};

use crate::lines::{Lines, seen, write};

#[test]
fn what_is_recorded_to_a_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let recorder = Recorder::to_file(&path).unwrap();
    let (user, device) = ("ada".into(), "phone".into());
    let operations = vec![write("a", None, "one"), write("b", 3, "one")];
    let push = recorder.begin(&user, &device, Request::Push { operations: operations.clone() });
    recorder.end(push, Outcome::Unknown);
    let again = recorder.begin(&user, &device, Request::Push { operations });
    recorder.end(again, Outcome::Conflict { conflicts: vec![] });
    let pull = recorder.begin(&user, &device, Request::Pull { cursor: Some(-5), limit: 7 });
    let records = vec![seen("a", 1, "one", 10)];
    recorder.end(pull, Outcome::Page { records, next_cursor: Some(10), has_more: false });
    recorder.state(&user, vec![seen("a", 1, "one", 10), seen("b", 1, "one", 11)]);
    let lines = recorder.finish().unwrap();
    assert_eq!(read(BufReader::new(File::open(&path).unwrap())).unwrap(), lines);
    assert_eq!(lines.len(), 7);
}

#[test]
fn a_line_that_is_none_is_named() {
    let line = r#"{"event":"end","operation":0,"outcome":"refused"}"#;
    let text = format!("{line}\n{line}\n{{}}\n");
    let error = read(text.as_bytes()).unwrap_err().to_string();
    assert!(error.starts_with("line 3: "), "{error}");
}

#[test]
fn lines_that_make_no_history_are_not_judged() {
    let malformed = |lines: &Lines| History::new(&lines.events()).unwrap_err();
    let operations = [write("a", None, "one")];

    let lines = Lines::default();
    lines.end(7, Outcome::Refused);
    assert_eq!(malformed(&lines), Malformed::EndsAlone(7));

    let lines = Lines::default();
    let push = lines.pushed(&operations, &[1]);
    lines.end(push, Outcome::Refused);
    assert_eq!(malformed(&lines), Malformed::EndsAlone(push));

    let lines = Lines::default();
    let push = lines.push(&operations);
    lines.page(push, &[], false);
    assert_eq!(malformed(&lines), Malformed::EndsOddly(push));

    let lines = Lines::default();
    let push = lines.push(&operations);
    lines.acknowledge(push, &[write("b", None, "one")], &[1]);
    assert_eq!(malformed(&lines), Malformed::EndsOddly(push));

    let lines = Lines::default();
    lines.pushed(&operations, &[1]);
    assert_eq!(malformed(&lines), Malformed::NoState("ada".into()));

    let lines = Lines::default();
    lines.state(&[seen("a", 1, "one", 10), seen("a", 1, "one", 10)]);
    assert_eq!(malformed(&lines), Malformed::StateTwice("ada".into(), "a".into()));

    let lines = Lines::default();
    lines.push(&operations);
    let mut events = lines.events();
    events.push(events[0].clone());
    assert_eq!(History::new(&events).unwrap_err(), Malformed::BeginsTwice(0));
}

#[test]
fn a_history_of_nothing_breaks_nothing() {
    assert_eq!(check(&History::default()), Ok(vaultsync_testkit::history::Counts::default()));
}
