//! `kill -9` at random moments under load, with an integrity check of the file after each.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use vaultsync_testkit::{process::ServerProcess, workload::WriterConfig};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    verify::check_integrity,
    workload::{LoadPlan, WRITES},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "kill-sqlite",
    shows: "a server on SQLite is killed at random moments under load",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let database = context.sqlite();
    let mut server = ServerProcess::start(context.server(&database)).await?;
    let writes = WriterConfig { ciphertext_bytes_max: 4000, ..WRITES };
    let plan = LoadPlan { writes, ..LoadPlan::default() };
    let workload = context.workload(plan.users)?;
    let clients = workload.start(&[server.url()].into(), &plan);
    let mut random = StdRng::seed_from_u64(9);
    for kill in 0..context.pick(200, 10) {
        tokio::time::sleep(Duration::from_micros(random.random_range(5_000..250_000))).await;
        server.kill()?;
        report.count("kills", 1);
        // On a copy: opening the file itself would do the recovery that is the server's task.
        let copy = context.folder().join("copy");
        std::fs::create_dir(&copy)?;
        for suffix in ["", "-wal"] {
            let name = format!("vaultsync.sqlite3{suffix}");
            std::fs::copy(context.folder().join(&name), copy.join(&name))?;
        }
        if let Err(error) = check_integrity(&copy.join("vaultsync.sqlite3")) {
            report.broken.push(format!("after kill {kill}: {error:#}"));
        }
        report.count("integrity checks", 1);
        std::fs::remove_dir_all(copy)?;
        server.start_again().await?;
    }
    clients.finish().await?;
    report.expect_no_panic(&server);
    report.verify(&workload, &database)?;
    Ok(report)
}
