//! SQLite on a disk that runs full under load, gets more room, and runs full again.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    judge::{Database, integrity, judge},
    load::{Crowd, Load, Plan},
    process::{Server, Spec},
    shell::SmallDisk,
};

/// See the module.
pub(super) const SCENARIO: Scenario = Scenario {
    name: "sqlite-disk-full",
    shows: "the disk under SQLite runs full under load; it grows, and the server goes on by itself",
    needs_root: true,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// What the disk has at first, and what each growth adds.
const STEP_KIB: u32 = 6 * 1024;

/// How long clients may take to fill the disk.
const FULL_MAX: Duration = Duration::from_secs(120);

/// How long the server may take to go on.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let disk = SmallDisk::mount(context.folder().join("disk"), STEP_KIB)?;
    let path = disk.path().join("vaultsync.sqlite3");
    let database = format!("sqlite:{}", path.display());
    let mut server = Server::start(Spec::new(&context.program, context.folder(), database)).await?;
    // Records without end, so that the file grows.
    let plan = Plan { records: 100_000, bytes_max: 8000, batch_max: 10, ..Plan::default() };
    let crowd = Crowd::new(&context.program, &context.folder().join("data"), plan.users)?;
    let load = Load::start(&crowd, &[server.url()].into(), plan);
    for round in 1..=context.pick(10, 2) {
        let refused = crowd.tally.so_far().of_status(503);
        let full = || crowd.tally.so_far().of_status(503) > refused + 10;
        until(FULL_MAX, full).await.context("the disk does not run full")?;
        // For a while, so that pulls, too, are asked for while it is.
        tokio::time::sleep(Duration::from_millis(500)).await;
        report.count("times full", 1);
        let (before, grown_at) = (crowd.tally.so_far().acknowledged, Instant::now());
        disk.grow(STEP_KIB * (round + 1))?;
        let goes_on = || crowd.tally.so_far().acknowledged > before;
        let recovered = until(RECOVERY_MAX, goes_on).await;
        report.expect(recovered.is_ok(), || format!("it did not go on after round {round}"));
        let took = u64::try_from(grown_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        report.at_most("ms to go on at most", took);
    }
    disk.grow(STEP_KIB * 40)?;
    load.finish().await?;
    report.expect(!server.panicked(), || "the server panicked".to_owned());
    server.kill()?;
    if let Err(error) = integrity(&path) {
        report.broken.push(format!("{error:#}"));
    }
    let counted = crowd.tally.so_far();
    report.count("answers 503", counted.of_status(503));
    report.broken.extend(counted.faults);
    report.take(judge(&crowd.case, &Database::Sqlite(path))?);
    Ok(report)
}

/// Waits until it is so.
async fn until(longest: Duration, mut is_so: impl FnMut() -> bool) -> anyhow::Result<()> {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    Ok(tokio::time::timeout(longest, waited).await?)
}
