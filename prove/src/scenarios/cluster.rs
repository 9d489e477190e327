//! Many clients for long, with nothing broken: what races alone could break.

use std::time::Duration;

use tokio::time::Instant;
use vaultsync_private_servers::PostgresServer;

use crate::{
    Bench, Findings, Scenario,
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
    run: |bench| Box::pin(on_postgres(bench)),
};

/// One server on SQLite.
pub(super) const ON_SQLITE: Scenario = Scenario {
    name: "crowd-sqlite",
    shows: "8 users with 8 writers and 4 followers each, on one server and SQLite",
    needs_root: false,
    by_default: true,
    run: |bench| Box::pin(on_sqlite(bench)),
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

async fn on_postgres(bench: Bench) -> anyhow::Result<Findings> {
    let postgres = PostgresServer::start();
    let url = postgres.url("postgres");
    let mut servers = Vec::new();
    for _ in 0..3 {
        let spec = Spec::new(&bench.program, bench.folder(), url.clone());
        servers.push(Server::start(spec).await?);
    }
    run(&bench, &servers, &Database::Postgres(url)).await
}

async fn on_sqlite(bench: Bench) -> anyhow::Result<Findings> {
    let path = bench.folder().join("vaultsync.sqlite3");
    let spec = Spec::new(&bench.program, bench.folder(), format!("sqlite:{}", path.display()));
    let server = Server::start(spec).await?;
    run(&bench, &[server], &Database::Sqlite(path)).await
}

async fn run(bench: &Bench, servers: &[Server], database: &Database) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let crowd = Crowd::new(&bench.program, &bench.folder().join("data"), PLAN.users)?;
    let load = Load::start(&crowd, &addresses(servers), PLAN);
    let (wanted, time_max) = bench.pick((100_000, TIME_MAX), (u64::MAX, Duration::from_secs(10)));
    let begun = Instant::now();
    while crowd.tally.so_far().acknowledged < wanted && begun.elapsed() < time_max {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    load.finish().await?;
    for server in servers {
        findings.expect(!server.panicked(), || "a server panicked".to_owned());
    }
    findings.broken.extend(crowd.tally.so_far().faults);
    findings.take(judge(&crowd.case, database)?);
    Ok(findings)
}
