//! Short versions of the scenarios of `cargo xtask faults` that need neither root nor a quiet machine.

#![cfg(target_os = "linux")]

use std::path::Path;

use vaultsync_fault_tests::{Scale, ScenarioContext, ScenarioReport, scenarios};

/// Runs it, and gives what it counted where no promise was broken.
async fn kept(name: &str) -> ScenarioReport {
    let program = Path::new(env!("CARGO_BIN_EXE_vaultsync"));
    let found = scenarios::named(&[name.to_owned()]).expect("the scenario is there");
    let context = ScenarioContext::new(program, Scale::Quick).expect("a folder");
    let report = (found[0].run)(context).await.unwrap_or_else(|error| panic!("{name}: {error:#}"));
    assert!(report.broken.is_empty(), "{name}:\n{}", report.broken.join("\n"));
    assert!(report.counted("writes acknowledged") > 0, "there was a load: {report:?}");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_and_syncs_of_sqlite_that_fail_lose_nothing() {
    let report = kept("sqlite-io-errors").await;
    assert!(report.counted("faults") >= 40, "each call was made to fail: {report:?}");
    assert!(report.counted("answers 503") > 0, "somebody was told: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_sqlite_that_is_killed_leaves_a_file_in_order() {
    assert_eq!(kept("kill-sqlite").await.counted("integrity checks"), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_push_whose_answer_was_lost_is_told_409_when_sent_again() {
    let report = kept("lost-responses").await;
    assert_eq!(report.counted("answers lost"), 40);
    assert_eq!(report.counted("written over meanwhile"), 20);
    assert_eq!(report.counted("told 409 wrongly"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_makes_no_reader_skip_a_record() {
    assert_eq!(kept("clock-steps").await.counted("jumps"), 12);
}
