//! Many clients for long, with nothing broken: what races alone could break.

use std::time::Duration;

use tokio::time::Instant;
use vaultsync_test_servers::PostgresServer;

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    judge::{Database, judge},
    load::{Crowd, Load, Plan},
    process::{Server, Spec, addresses},
};

/// Three servers on one PostgreSQL.
pub(super) const ON_POSTGRES: Scenario = Scenario {
    name: "cluster",
    shows: "8 users with 8 writers and 4 followers each, on 3 servers and one PostgreSQL",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(on_postgres(context)),
};

/// One server on SQLite.
pub(super) const ON_SQLITE: Scenario = Scenario {
    name: "crowd-sqlite",
    shows: "8 users with 8 writers and 4 followers each, on one server and SQLite",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(on_sqlite(context)),
};

/// Enough records that most pushes are applied, few enough that many are not.
const PLAN: Plan = Plan {
    users: 8,
    writers: 8,
    followers: 4,
    records: 400,
    batch_max: 20,
    bytes_max: 300,
    rest: Duration::from_millis(5),
};

/// When to stop in any case.
const TIME_MAX: Duration = Duration::from_secs(600);

async fn on_postgres(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let postgres = PostgresServer::start();
    let url = postgres.url("postgres");
    let mut servers = Vec::new();
    for _ in 0..3 {
        let spec = Spec::new(&context.program, context.folder(), url.clone());
        servers.push(Server::start(spec).await?);
    }
    run(&context, &servers, &Database::Postgres(url)).await
}

async fn on_sqlite(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let path = context.folder().join("vaultsync.sqlite3");
    let spec = Spec::new(&context.program, context.folder(), format!("sqlite:{}", path.display()));
    let server = Server::start(spec).await?;
    run(&context, &[server], &Database::Sqlite(path)).await
}

async fn run(
    context: &ScenarioContext,
    servers: &[Server],
    database: &Database,
) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let crowd = Crowd::new(&context.program, &context.folder().join("data"), PLAN.users)?;
    let load = Load::start(&crowd, &addresses(servers), PLAN);
    let (wanted, time_max) = context.pick((100_000, TIME_MAX), (u64::MAX, Duration::from_secs(10)));
    let begun = Instant::now();
    while crowd.tally.so_far().acknowledged < wanted && begun.elapsed() < time_max {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    load.finish().await?;
    for server in servers {
        report.expect(!server.panicked(), || "a server panicked".to_owned());
    }
    report.broken.extend(crowd.tally.so_far().faults);
    report.take(judge(&crowd.case, database)?);
    Ok(report)
}
