//! Short runs of the scenarios of `cargo xtask faults` and `cargo xtask deployments` that need neither root, nor
//! an idle machine, nor more programs than the other tests.

#![cfg(target_os = "linux")]

use std::path::Path;

use vaultsync_fault_tests::{
    Scale, Scenario, ScenarioContext, ScenarioReport, deployments, scenario::named, scenarios,
};

/// Runs a scenario, and returns its report. The test fails if a promise was broken.
async fn run(name: &str) -> ScenarioReport {
    run_one_of(scenarios::ALL, name).await
}

async fn run_one_of(all: &[Scenario], name: &str) -> ScenarioReport {
    let program = Path::new(env!("CARGO_BIN_EXE_vaultsync"));
    let found = named(all, &[name.to_owned()]).expect("the scenario exists");
    let context = ScenarioContext::new(program, Scale::Quick).expect("a folder");
    let report = (found[0].run)(context).await.unwrap_or_else(|error| panic!("{name}: {error:#}"));
    assert!(report.broken.is_empty(), "{name}:\n{}", report.broken.join("\n"));
    assert!(report.counted("writes acknowledged") > 0, "there was a load: {report:?}");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_writes_and_syncs_of_sqlite_lose_nothing() {
    let report = run("sqlite-io-errors").await;
    assert!(report.counted("faults") >= 40, "each call was made to fail: {report:?}");
    assert!(report.counted("responses 503") > 0, "clients noticed the faults: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_leaves_an_intact_sqlite_file() {
    assert_eq!(run("kill-sqlite").await.counted("integrity checks"), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sqlite_file_that_is_deleted_or_replaced_takes_no_pushes_and_can_be_saved() {
    for name in ["sqlite-deleted", "sqlite-replaced", "sqlite-log-deleted"] {
        assert_eq!(run(name).await.counted("times changed"), 2, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_sqlite_file_takes_no_pushes_and_is_refused_at_the_start() {
    assert!(run("sqlite-damaged").await.counted("responses 503") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_retry_after_a_lost_response_is_answered_409() {
    let report = run("lost-responses").await;
    assert_eq!(report.counted("responses lost"), 40);
    assert_eq!(report.counted("updated in between"), 20);
    assert_eq!(report.counted("retries answered 409"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_leaves_no_statements_behind() {
    let report = run("table-locked").await;
    assert!(report.counted("responses 503") > 0, "clients noticed the lock: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_makes_no_reader_skip_a_record() {
    assert_eq!(run("clock-steps").await.counted("jumps"), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_costs_no_request() {
    assert_eq!(run("log-sinks").await.counted("sinks"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_a_descriptor_are_refused_and_clients_are_served() {
    let report = run("descriptors").await;
    assert!(report.counted("connections refused with 503") > 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_behind_a_balancer_fails_no_request() {
    assert_eq!(run("drain-delay").await.counted("restarts"), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_for_nginx_passes_on_what_clients_and_nodes_send() {
    let report = run_one_of(deployments::ALL, "nginx").await;
    assert!(report.counted("checks") > 10, "{report:?}");
}
