//! What clients must be able to do in every deployment.
//!
//! To add a check, write its function, which returns an error if it fails, and add it to [`CHECKS`].

mod addresses;
mod bodies;
mod patience;
mod requests;
mod waiting;

use std::{pin::Pin, time::Duration};

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::entry::Entry;
use crate::ScenarioReport;

/// One thing that clients must be able to do.
struct Check {
    name: &'static str,
    run: fn(Entry) -> CheckFuture,
}

type CheckFuture = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

const CHECKS: [Check; 16] = [
    Check { name: "info", run: |entry| Box::pin(requests::info(entry)) },
    Check { name: "push and pull", run: |entry| Box::pin(requests::push_and_pull(entry)) },
    Check { name: "conflict", run: |entry| Box::pin(requests::conflict(entry)) },
    Check { name: "errors", run: |entry| Box::pin(requests::errors(entry)) },
    Check { name: "request ids", run: |entry| Box::pin(requests::request_ids(entry)) },
    Check { name: "encoded characters", run: |entry| Box::pin(requests::encoded(entry)) },
    Check { name: "long headers", run: |entry| Box::pin(requests::long_headers(entry)) },
    Check { name: "a large batch", run: |entry| Box::pin(bodies::large_batch(entry)) },
    Check { name: "a body above the limit", run: |entry| Box::pin(bodies::too_large(entry)) },
    Check { name: "expect continue", run: |entry| Box::pin(bodies::expect_continue(entry)) },
    Check { name: "compression", run: |entry| Box::pin(bodies::compressed_page(entry)) },
    Check { name: "waiting pulls", run: |entry| Box::pin(waiting::pulls(entry)) },
    Check { name: "events", run: |entry| Box::pin(waiting::events(entry, "identity")) },
    Check { name: "events with gzip", run: |entry| Box::pin(waiting::events(entry, "gzip")) },
    Check { name: "client addresses", run: |entry| Box::pin(addresses::of_clients(entry)) },
    Check { name: "forged addresses", run: |entry| Box::pin(addresses::forged(entry)) },
];

/// Checks that take longer than any timeout of a proxy should be.
const LONG_CHECKS: [Check; 2] = [
    Check { name: "the longest wait", run: |entry| Box::pin(patience::longest_wait(entry)) },
    Check { name: "a quiet event stream", run: |entry| Box::pin(patience::quiet_stream(entry)) },
];

/// How long a check may take, on a busy machine.
const CHECK_MAX: Duration = Duration::from_secs(180);

/// Runs the checks one after the other.
pub(super) async fn run(entry: &Entry, report: &mut ScenarioReport) {
    for check in &CHECKS {
        note(check.name, run_one(check, entry.clone()).await, report);
    }
}

/// The long checks, which run while something else does.
pub(super) struct LongChecks(JoinSet<(&'static str, anyhow::Result<()>)>);

impl LongChecks {
    pub(super) fn start(entry: &Entry) -> Self {
        let mut running = JoinSet::new();
        for check in &LONG_CHECKS {
            let entry = entry.clone();
            running.spawn(async move { (check.name, run_one(check, entry).await) });
        }
        Self(running)
    }

    pub(super) async fn finish(mut self, report: &mut ScenarioReport) {
        while let Some(ended) = self.0.join_next().await {
            let (name, result) = ended.unwrap_or_else(|error| ("a long check", Err(error.into())));
            note(name, result, report);
        }
    }
}

async fn run_one(check: &'static Check, entry: Entry) -> anyhow::Result<()> {
    tokio::time::timeout(CHECK_MAX, (check.run)(entry)).await.context("it does not end")?
}

fn note(name: &str, result: anyhow::Result<()>, report: &mut ScenarioReport) {
    report.count("checks", 1);
    if let Err(error) = result {
        report.broken.push(format!("{name}: {error:#}"));
    }
}
