//! `kill -9` at random moments under load, with a look at the whole file after each.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    judge::{Database, integrity, judge},
    load::{Crowd, Load, Plan},
    process::{Server, Spec},
};

/// See the module.
pub(super) const SCENARIO: Scenario = Scenario {
    name: "kill-sqlite",
    shows: "a server on SQLite is killed at random moments under load",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let path = context.folder().join("vaultsync.sqlite3");
    let database = format!("sqlite:{}", path.display());
    let mut server = Server::start(Spec::new(&context.program, context.folder(), database)).await?;
    let plan = Plan { bytes_max: 4000, ..Plan::default() };
    let crowd = Crowd::new(&context.program, &context.folder().join("data"), plan.users)?;
    let load = Load::start(&crowd, &[server.url()].into(), plan);
    let mut random = StdRng::seed_from_u64(9);
    for kill in 0..context.pick(200, 10) {
        tokio::time::sleep(Duration::from_micros(random.random_range(5_000..250_000))).await;
        server.kill()?;
        report.count("kills", 1);
        // Of a copy: to look at the file would do the recovery that is the server's part.
        let copy = context.folder().join("copy");
        std::fs::create_dir(&copy)?;
        for end in ["", "-wal"] {
            let name = format!("vaultsync.sqlite3{end}");
            std::fs::copy(context.folder().join(&name), copy.join(&name))?;
        }
        if let Err(error) = integrity(&copy.join("vaultsync.sqlite3")) {
            report.broken.push(format!("after kill {kill}: {error:#}"));
        }
        report.count("integrity checks", 1);
        std::fs::remove_dir_all(copy)?;
        server.start_again().await?;
    }
    load.finish().await?;
    report.expect(!server.panicked(), || "the server panicked".to_owned());
    report.broken.extend(crowd.tally.so_far().faults);
    report.take(judge(&crowd.case, &Database::Sqlite(path))?);
    Ok(report)
}
