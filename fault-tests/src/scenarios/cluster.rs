//! Many clients for a long time without a fault: races alone could break promises.

use std::time::Duration;

use tokio::time::Instant;
use vaultsync_test_servers::PostgresServer;
use vaultsync_testkit::{
    process::{ServerProcess, addresses},
    workload::WriterConfig,
};

use crate::{Scenario, ScenarioContext, ScenarioReport, verify::Database, workload::LoadPlan};

pub(super) const ON_POSTGRES: Scenario = Scenario {
    name: "cluster",
    shows: "8 users with 8 writers and 4 followers each, on 3 servers and one PostgreSQL",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(on_postgres(context)),
};

pub(super) const ON_SQLITE: Scenario = Scenario {
    name: "crowd-sqlite",
    shows: "8 users with 8 writers and 4 followers each, on one server and SQLite",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(on_sqlite(context)),
};

/// So many records that most pushes are applied, and so few that many get a conflict.
const PLAN: LoadPlan = LoadPlan {
    users: 8,
    writers: 8,
    followers: 4,
    writes: WriterConfig {
        records: 400,
        batch_max: 20,
        ciphertext_bytes_max: 300,
        replay_one_in: 0,
        guard_one_in: 0,
        pause: Duration::from_millis(5),
    },
};

/// When to stop in any case.
const TIME_MAX: Duration = Duration::from_secs(600);

async fn on_postgres(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let postgres = PostgresServer::start();
    let database = Database::Postgres(postgres.url("postgres"));
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(ServerProcess::start(context.server(&database)).await?);
    }
    run(&context, &servers, &database).await
}

async fn on_sqlite(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let database = context.sqlite();
    let server = ServerProcess::start(context.server(&database)).await?;
    run(&context, &[server], &database).await
}

async fn run(
    context: &ScenarioContext,
    servers: &[ServerProcess],
    database: &Database,
) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let workload = context.workload(PLAN.users)?;
    let clients = workload.start(&addresses(servers), &PLAN);
    let (writes, time_max) = context.pick((100_000, TIME_MAX), (u64::MAX, Duration::from_secs(10)));
    let started = Instant::now();
    while workload.tally.totals().acknowledged < writes && started.elapsed() < time_max {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    clients.finish().await?;
    for server in servers {
        report.expect_no_panic(server);
    }
    report.verify(&workload, database)?;
    Ok(report)
}
