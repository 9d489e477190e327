//! The database, or the whole server, stands still for a moment under a few clients. They are served late,
//! and none of them is refused.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::time::sleep;
use vaultsync_test_servers::PostgresServer;
use vaultsync_testkit::{process::ServerProcess, workload::WriterConfig};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    verify::Database,
    workload::{LoadPlan, WRITES},
};

pub(super) const ON_POSTGRES: Scenario = Scenario {
    name: "short-stall",
    shows: "PostgreSQL stands still for 0.6 s, again and again, under 8 clients that write and read",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(on_postgres(context)),
};

pub(super) const ON_SQLITE: Scenario = Scenario {
    name: "short-stall-sqlite",
    shows: "a server on SQLite stands still for 0.6 s, again and again, under 8 clients",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(on_sqlite(context)),
};

const STALL: Duration = Duration::from_millis(600);
const BETWEEN: Duration = Duration::from_secs(1);

async fn on_postgres(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let postgres = PostgresServer::start();
    let database = Database::Postgres(postgres.url("postgres"));
    let server = ServerProcess::start(context.server(&database)).await?;
    run(&context, &server, &database, |is_stalled| {
        if is_stalled {
            postgres.pause();
        } else {
            postgres.resume();
        }
        Ok(())
    })
    .await
}

async fn on_sqlite(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let database = context.sqlite();
    let server = ServerProcess::start(context.server(&database)).await?;
    let id = server.id().context("the server is not running")?;
    run(&context, &server, &database, |is_stalled| {
        let signal = if is_stalled { "-STOP" } else { "-CONT" };
        let sent = Command::new("sh").args(["-c", &format!("kill {signal} {id}")]).status()?;
        ensure!(sent.success(), "{signal} cannot be sent to the server");
        Ok(())
    })
    .await
}

async fn run(
    context: &ScenarioContext,
    server: &ServerProcess,
    database: &Database,
    set_stalled: impl Fn(bool) -> anyhow::Result<()>,
) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    // Users with a vault each, and one vault of many writers.
    for (users, writers) in [(4, 1), (1, 7)] {
        let writes = WriterConfig { pause: Duration::from_millis(5), ..WRITES };
        let plan = LoadPlan { users, writers, followers: 1, writes };
        let workload = context.workload(plan.users)?;
        let clients = workload.start(&[server.url()].into(), &plan);
        for _ in 0..context.pick(10, 2) {
            sleep(BETWEEN).await;
            set_stalled(true)?;
            sleep(STALL).await;
            set_stalled(false)?;
            report.count("stalls", 1);
        }
        sleep(BETWEEN).await;
        clients.finish().await?;
        let totals = workload.tally.totals();
        let refused = totals.with_status(503) + totals.unanswered + totals.unreached;
        report.count("requests that were not served", refused);
        report.expect(refused == 0, || {
            format!("{refused} requests of {users} users with {writers} writers were not served")
        });
        if users > 1 {
            report.verify(&workload, database)?;
        }
    }
    report.expect_no_panic(server);
    Ok(report)
}
