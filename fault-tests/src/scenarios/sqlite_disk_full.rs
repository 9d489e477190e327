//! SQLite on a disk that runs full under load, gets more space, and runs full again.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;
use vaultsync_testkit::{process::ServerProcess, workload::WriterConfig};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    shell::SmallDisk,
    verify::{Database, check_integrity},
    workload::{LoadPlan, WRITES},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "sqlite-disk-full",
    shows: "the disk under SQLite runs full under load; it grows, and the server recovers by itself",
    needs_root: true,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// Size of the disk at first. Each growth adds the same.
const STEP_KIB: u32 = 6 * 1024;

/// How long clients may take to fill the disk.
const FULL_MAX: Duration = Duration::from_secs(120);

/// How long the server may take to recover.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let disk = SmallDisk::mount(context.folder().join("disk"), STEP_KIB)?;
    let path = disk.path().join("vaultsync.sqlite3");
    let database = Database::Sqlite(path.clone());
    let mut server = ServerProcess::start(context.server(&database)).await?;
    // So many records that the file keeps growing.
    let writes =
        WriterConfig { records: 100_000, ciphertext_bytes_max: 8000, batch_max: 10, ..WRITES };
    let plan = LoadPlan { writes, ..LoadPlan::default() };
    let workload = context.workload(plan.users)?;
    let totals = || workload.tally.totals();
    let clients = workload.start(&[server.url()].into(), &plan);
    for round in 1..=context.pick(10, 2) {
        let refused = totals().with_status(503);
        let is_full = || totals().with_status(503) > refused + 10;
        wait_until(FULL_MAX, is_full).await.context("the disk does not run full")?;
        // Long enough that pulls, too, are requested while the disk is full.
        tokio::time::sleep(Duration::from_millis(500)).await;
        report.count("times full", 1);
        let (before, grown_at) = (totals().acknowledged, Instant::now());
        disk.grow(STEP_KIB * (round + 1))?;
        let has_recovered = || totals().acknowledged > before;
        let recovered = wait_until(RECOVERY_MAX, has_recovered).await;
        report.expect(recovered.is_ok(), || format!("no recovery after round {round}"));
        let took = u64::try_from(grown_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        report.maximum("ms to recover at most", took);
    }
    disk.grow(STEP_KIB * 40)?;
    clients.finish().await?;
    report.expect_no_panic(&server);
    server.kill()?;
    if let Err(error) = check_integrity(&path) {
        report.broken.push(format!("{error:#}"));
    }
    report.count("responses 503", totals().with_status(503));
    report.verify(&workload, &database)?;
    Ok(report)
}

/// Waits until a condition holds.
async fn wait_until(time_max: Duration, condition: impl Fn() -> bool) -> anyhow::Result<()> {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    Ok(tokio::time::timeout(time_max, waiting).await?)
}
