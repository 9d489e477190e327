//! A steady load for a long time, and the server's memory meanwhile.

use std::time::Duration;

use vaultsync_testkit::{process::ServerProcess, workload::WriterConfig};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    workload::{LoadPlan, WRITES},
};

/// Runs by name only.
pub(super) const SCENARIO: Scenario = Scenario {
    name: "soak",
    shows: "30 minutes of steady load on SQLite; memory after warm-up grows by less than 5 %",
    needs_root: false,
    by_default: false,
    run: |context| Box::pin(run(context)),
};

/// Number of memory samples in each of the two windows that are compared.
const SAMPLES: u32 = 20;

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let database = context.sqlite();
    let server = ServerProcess::start(context.server(&database)).await?;
    // With a pause between pushes, the history of half an hour fits into memory.
    let writes = WriterConfig { pause: Duration::from_millis(40), ..WRITES };
    let plan = LoadPlan { writes, ..LoadPlan::default() };
    let workload = context.workload(plan.users)?;
    let clients = workload.start(&[server.url()].into(), &plan);
    let time = Duration::from_secs(context.pick(1800, 20));
    tokio::time::sleep(time * 4 / 10).await;
    let before = mean_memory_kib(&server, time / 10).await?;
    tokio::time::sleep(time * 4 / 10).await;
    let after = mean_memory_kib(&server, time / 10).await?;
    clients.finish().await?;
    report.count("KiB after warm-up", before);
    report.count("KiB at the end", after);
    // A few seconds are no warm-up: caches are still being filled.
    let bound = context.pick(before * 105 / 100, before * 3 / 2);
    report.expect(after <= bound, || format!("memory grew from {before} to {after} KiB"));
    report.expect_no_panic(&server);
    report.verify(&workload, &database)?;
    Ok(report)
}

async fn mean_memory_kib(server: &ServerProcess, window: Duration) -> anyhow::Result<u64> {
    let mut sum = 0;
    for _ in 0..SAMPLES {
        sum += server.memory_kib()?;
        tokio::time::sleep(window / SAMPLES).await;
    }
    Ok(sum / u64::from(SAMPLES))
}
