//! A table that another session has locked takes all connections of a server's pool. Statements that the
//! server gave up must not pile up in the database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::{task::JoinSet, time::Instant};
use vaultsync_test_servers::{PostgresServer, query};
use vaultsync_testkit::{
    process::ServerProcess,
    workload::{Client, HttpService, WriterConfig},
};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    verify::Database,
    workload::{LoadPlan, WRITES, Workload},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "table-locked",
    shows: "a table of PostgreSQL is locked under 20 pulling clients, and unlocked",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

const READERS: usize = 20;

/// Size of the server's pool.
const CONNECTIONS_MAX: u64 = 8;

/// As many sessions again may wait outside of the pool for the end of a statement that was given up.
const SESSIONS_MAX: u64 = 2 * CONNECTIONS_MAX + OTHER_SESSIONS_MAX;

/// Sessions beside them: one for notifications, one for readiness checks, one that fills what older records lack,
/// and one that is being replaced.
const OTHER_SESSIONS_MAX: u64 = 4;

/// How long a response may take: five times the default of `database_timeout_ms`.
const RESPONSE_MAX: Duration = Duration::from_secs(10);

/// How long the server may take to recover once the lock is gone.
const RECOVERY_MAX: Duration = Duration::from_secs(30);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let postgres = PostgresServer::start();
    let database = Database::Postgres(postgres.url("postgres"));
    let mut config = context.server(&database);
    config.flags.extend(["--database-connections-max".to_owned(), CONNECTIONS_MAX.to_string()]);
    let server = ServerProcess::start(config).await?;
    let writes = WriterConfig { pause: Duration::from_millis(5), ..WRITES };
    let plan = LoadPlan { writes, ..LoadPlan::default() };
    let workload = context.workload(plan.users)?;
    let clients = workload.start(&[server.url()].into(), &plan);
    let (stop, mut readers) = (Arc::<AtomicBool>::default(), JoinSet::new());
    for number in 0..READERS {
        let name = format!("reader-{number}");
        let reader = workload.client(number % plan.users, &name, &[server.url()].into(), 0);
        readers.spawn(read(reader, Arc::clone(&stop)));
    }
    for seconds in context.pick(&[40, 3, 10, 3][..], &[5]) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        report.count("locks", 1);
        lock_tables(&postgres, *seconds, &mut report).await?;
        wait_for_write(&workload, &mut report).await?;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(slowest) = readers.join_next().await {
        let slowest = slowest?;
        report.maximum("ms until the slowest response", millis(slowest));
        report.expect(slowest < RESPONSE_MAX, || format!("a response took {slowest:?}"));
    }
    clients.finish().await?;
    report.expect_no_panic(&server);
    report.count("responses 503", workload.tally.totals().with_status(503));
    report.verify(&workload, &database)?;
    Ok(report)
}

/// Pulls until it is stopped. Returns the longest that it waited for a response.
async fn read(mut reader: Client<HttpService>, stop: Arc<AtomicBool>) -> Duration {
    let mut slowest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        reader.pull(None, 10, false).await;
        slowest = slowest.max(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    slowest
}

/// Locks the tables, and counts the server's sessions until they are unlocked.
async fn lock_tables(
    postgres: &PostgresServer,
    seconds: u64,
    report: &mut ScenarioReport,
) -> anyhow::Result<()> {
    let url = postgres.url("postgres");
    let lock = format!("begin; lock table records; select pg_sleep({seconds}); commit");
    let locking = tokio::task::spawn_blocking(move || query(&url, &lock));
    while !locking.is_finished() {
        let url = postgres.url("postgres");
        let sessions = tokio::task::spawn_blocking(move || {
            let sql = "select count(*) from pg_stat_activity where application_name = 'vaultsync'";
            query(&url, sql)
        });
        report.maximum("sessions at most", sessions.await?.trim().parse()?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    locking.await?;
    let most = report.counted("sessions at most");
    report
        .expect(most <= SESSIONS_MAX, || format!("{most} sessions of a pool of {CONNECTIONS_MAX}"));
    Ok(())
}

async fn wait_for_write(workload: &Workload, report: &mut ScenarioReport) -> anyhow::Result<()> {
    let acknowledged = || workload.tally.totals().acknowledged;
    let (before, unlocked_at) = (acknowledged(), Instant::now());
    let written = async {
        while acknowledged() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(RECOVERY_MAX, written).await.context("the server does not recover")?;
    ensure!(before > 0, "nothing was written before the lock");
    report.maximum("ms to recover at most", millis(unlocked_at.elapsed()));
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
