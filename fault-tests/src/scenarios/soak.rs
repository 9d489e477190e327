//! A steady load for long, and what the server has in memory meanwhile.

use std::time::Duration;

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    judge::{Database, judge},
    load::{Crowd, Load, Plan},
    process::{Server, Spec},
};

/// See the module. It is run by name only.
pub(super) const SCENARIO: Scenario = Scenario {
    name: "soak",
    shows: "30 minutes of steady load on SQLite; memory after warm-up grows by less than 5 %",
    needs_root: false,
    by_default: false,
    run: |context| Box::pin(run(context)),
};

/// How often the memory is looked at in each of the two windows that are compared.
const LOOKS: u32 = 20;

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let path = context.folder().join("vaultsync.sqlite3");
    let spec = Spec::new(&context.program, context.folder(), format!("sqlite:{}", path.display()));
    let server = Server::start(spec).await?;
    // At rest between pushes, so that the history of half an hour fits into memory.
    let plan = Plan { rest: Duration::from_millis(40), ..Plan::default() };
    let crowd = Crowd::new(&context.program, &context.folder().join("data"), plan.users)?;
    let load = Load::start(&crowd, &[server.url()].into(), plan);
    let time = Duration::from_secs(context.pick(1800, 20));
    tokio::time::sleep(time * 4 / 10).await;
    let before = memory(&server, time / 10).await?;
    tokio::time::sleep(time * 4 / 10).await;
    let after = memory(&server, time / 10).await?;
    load.finish().await?;
    report.count("KiB after warm-up", before);
    report.count("KiB at the end", after);
    // Some seconds are no warm-up: caches are still being filled.
    let bound = context.pick(before * 105 / 100, before * 3 / 2);
    report.expect(after <= bound, || format!("memory grew from {before} to {after} KiB"));
    report.expect(!server.panicked(), || "the server panicked".to_owned());
    report.broken.extend(crowd.tally.so_far().faults);
    report.take(judge(&crowd.case, &Database::Sqlite(path))?);
    Ok(report)
}

/// The mean over a while, in KiB.
async fn memory(server: &Server, time: Duration) -> anyhow::Result<u64> {
    let mut sum = 0;
    for _ in 0..LOOKS {
        sum += server.memory_kib()?;
        tokio::time::sleep(time / LOOKS).await;
    }
    Ok(sum / u64::from(LOOKS))
}
