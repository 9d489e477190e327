//! An upgrade from version 0.2 under load: on PostgreSQL beside servers of version 0.2, and of a SQLite file.
//!
//! Not here: how the server of version 0.2 is built (`version_0_2.rs`); single steps of the upgrade, which the
//! tests of the store have (`crates/store/tests/postgres/upgrades.rs`).

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Response;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use vaultsync_test_servers::{PostgresServer, query};
use vaultsync_testkit::{
    history::Outcome,
    operation,
    process::{ServerConfig, ServerProcess},
    push_of,
    workload::{Clients, Follower, WriterConfig},
};

use crate::{
    Scenario, ScenarioContext, ScenarioReport, shell,
    verify::{Database, check_integrity},
    version_0_2,
    workload::{self, LoadPlan, WRITES, Workload},
};

pub(super) const ON_POSTGRES: Scenario = Scenario {
    name: "upgrade",
    shows: "a server of version 0.2 and one of this version serve from one PostgreSQL while it is migrated and filled",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(on_postgres(context)),
};

pub(super) const ON_SQLITE: Scenario = Scenario {
    name: "upgrade-sqlite",
    shows: "a server of version 0.2 fills a SQLite file, and one of this version is killed while it moves the records",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(on_sqlite(context)),
};

/// The load writes to records that exist before. So few that writers soon know their versions.
const PLAN: LoadPlan = LoadPlan {
    users: 3,
    writers: 3,
    followers: 1,
    writes: WriterConfig { records: 300, batch_max: 20, pause: Duration::from_millis(2), ..WRITES },
};

/// Records of a vault before the load.
const RECORDS: (usize, usize) = (12_000, 1500);

/// How long a database may take to be filled on a busy machine.
const FILLED_MAX: Duration = Duration::from_secs(600);

/// Rows of version 0.2 have no digest until they are filled.
const UNFILLED: &str = "select count(*) from records where digest is null";

const IS_FILLED: &str = "select coalesce(bool_and(convalidated), false) from pg_constraint where conname = 'records_digest'";

/// A server of version 0.2 on the scenario's database.
fn version_0_2(
    context: &ScenarioContext,
    database: &Database,
    report: &mut ScenarioReport,
) -> anyhow::Result<ServerConfig> {
    let built = tokio::task::block_in_place(version_0_2::build)?;
    let version = shell::run(&built.program.to_string_lossy(), &["--version"])?;
    ensure!(version.contains(" 0.2."), "{version} is not version 0.2");
    report.programs.push(format!("{version} ({})", built.commit));
    Ok(ServerConfig { program: built.program, ..context.server(database) })
}

/// Creates records, some of which the load writes later.
async fn fill(workload: &Workload, server: &ServerProcess, records: usize) -> anyhow::Result<()> {
    for user in 0..workload.users.len() {
        let mut client = workload.client(user, "filler", &[server.url()].into(), 0);
        let name = client.name();
        for first in (0..records).step_by(100) {
            // The text has the form that writers give it.
            let operations: Vec<_> = (first..records.min(first + 100))
                .map(|number| {
                    let id = format!("record-{number}");
                    let mut text = format!("0 of {name} for {id}").into_bytes();
                    text.resize(text.len().max(number % 1500), b'.');
                    workload::operation(&id, None, text)
                })
                .collect();
            while !matches!(client.push(&operations).await, Outcome::Acknowledged { .. }) {
                ensure!(!client.has_fault(), "{:?}", workload.recorder.faults());
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(())
}

async fn on_postgres(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let postgres = PostgresServer::start();
    let url = postgres.url("postgres");
    let database = Database::Postgres(url.clone());
    let mut old = ServerProcess::start(version_0_2(&context, &database, &mut report)?).await?;
    let mut new = ServerProcess::prepare(context.server(&database))?;
    let workload = context.workload(PLAN.users)?;
    fill(&workload, &old, context.pick(RECORDS.0, RECORDS.1)).await?;
    let clients = workload.start(&[old.url(), new.url()].into(), &PLAN);
    let on_old = workload.with_own_tally();
    let followers = followers_of(&on_old, &old);
    sleep(context.pick(Duration::from_secs(5), Duration::from_secs(1))).await;

    migrate(&context, &url).await?;
    let unfilled = number(&url, UNFILLED);
    report.expect(unfilled > 0, || "the migration left nothing to be filled".to_owned());
    let refused = on_old.tally.totals();
    check_old_server(&workload, &old, &url, &mut report).await?;
    new.start_again().await?;
    let started = Instant::now();
    while query(&url, IS_FILLED).trim() != "t" {
        ensure!(started.elapsed() < FILLED_MAX, "the rows are not filled: {}", new.log_tail());
        sleep(Duration::from_millis(50)).await;
    }
    report.count("records filled beside pushes", unfilled);
    check_old_server(&workload, &old, &url, &mut report).await?;
    followers.finish().await?;
    let totals = on_old.tally.totals();
    report.count("pulls of the old server", totals.with_status(200));
    report.count("of them refused during the migration", refused.with_status(503));
    report.expect(totals.with_status(503) == refused.with_status(503), || {
        format!("pulls of the old server were refused after the migration: {totals:?}")
    });
    let status = old.stop().await?;
    report.expect(status.success(), || format!("the old server stopped with {status}"));

    sleep(context.pick(Duration::from_secs(10), Duration::from_secs(1))).await;
    clients.finish().await?;
    report.expect_no_panic(&old);
    report.expect_no_panic(&new);
    report.count("responses 503", workload.tally.totals().with_status(503));
    report.verify_rows(&workload, &database)?;
    report.verify(&workload, &database)?;
    Ok(report)
}

/// A follower of each user that reads from the old server alone.
fn followers_of(workload: &Workload, server: &ServerProcess) -> Clients {
    let mut followers = Clients::default();
    for user in 0..workload.users.len() {
        let client = workload.client(user, "reader-of-0.2", &[server.url()].into(), 0);
        followers.start_follower(Follower::new(client));
    }
    followers
}

/// Runs `vaultsync migrate` of this version.
async fn migrate(context: &ScenarioContext, url: &str) -> anyhow::Result<()> {
    let (program, url) = (context.program.to_string_lossy().into_owned(), url.to_owned());
    let migrating =
        tokio::task::spawn_blocking(move || shell::run(&program, &["migrate", "--database", &url]));
    let applied = migrating.await??;
    ensure!(applied.contains("V3__record_digests_and_times"), "{applied}");
    Ok(())
}

/// Checks that after the migration the server of version 0.2 writes nothing, says so, and serves pulls.
async fn check_old_server(
    workload: &Workload,
    old: &ServerProcess,
    url: &str,
    report: &mut ScenarioReport,
) -> anyhow::Result<()> {
    let client = reqwest::Client::new();
    // One creates a record, and one changes a record that is older than the migration, at any version.
    for (id, bases) in [("of-the-old-server", 0..=0), ("record-0", 1..=3)] {
        for base in bases {
            let base = (base > 0).then_some(base);
            let request = client.post(format!("{}/api/sync/push", old.url()));
            let body = push_of([operation(id, base, b"of the old server")]);
            let answer = request.bearer_auth(workload.token(0)).json(&body).send().await?;
            check_refused(answer, base, report).await?;
        }
    }
    let written = "select count(*) from records where ciphertext = 'of the old server'";
    report.expect(number(url, written) == 0, || "the old server wrote".to_owned());
    let request = client.get(format!("{}/api/sync/pull", old.url()));
    let answer = request.bearer_auth(workload.token(0)).send().await?;
    let status = answer.status();
    let page: Value = answer.json().await?;
    report.expect(status == 200 && page["records"].as_array().map(Vec::len) == Some(100), || {
        format!("a pull of the old server was answered {status}: {page}")
    });
    Ok(())
}

/// A push to the old server may be a conflict, because it reads which version there is; it is never applied.
async fn check_refused(
    answer: Response,
    base: Option<u64>,
    report: &mut ScenarioReport,
) -> anyhow::Result<()> {
    let (status, retry) = (answer.status(), answer.headers().contains_key("retry-after"));
    let body: Value = answer.json().await?;
    let is_refused = status == 503 && retry && body["code"] != "outcome_unknown";
    report.count("pushes of the old server answered 503", u64::from(is_refused));
    report.expect(is_refused || (status == 409 && base.is_some()), || {
        format!("a push to the old server was answered {status}: {body}")
    });
    Ok(())
}

fn number(url: &str, statement: &str) -> u64 {
    query(url, statement).trim().parse().expect("a number")
}

async fn on_sqlite(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let database = context.sqlite();
    let mut old = ServerProcess::start(version_0_2(&context, &database, &mut report)?).await?;
    let mut new = ServerProcess::prepare(context.server(&database))?;
    let workload = context.workload(PLAN.users)?;
    fill(&workload, &old, context.pick(RECORDS.0, RECORDS.1)).await?;
    let clients = workload.start(&[old.url(), new.url()].into(), &PLAN);
    sleep(context.pick(Duration::from_secs(10), Duration::from_secs(1))).await;
    let status = old.stop().await?;
    report.expect(status.success(), || format!("the old server stopped with {status}"));
    let mut random = StdRng::seed_from_u64(12);
    for _ in 0..context.pick(10, 3) {
        new.spawn()?;
        sleep(Duration::from_millis(random.random_range(20..300))).await;
        new.kill()?;
        report.count("kills of the starting server", 1);
    }
    new.start_again().await?;
    sleep(context.pick(Duration::from_secs(10), Duration::from_secs(1))).await;
    clients.finish().await?;
    report.expect_no_panic(&old);
    report.expect_no_panic(&new);
    new.stop().await.context("the new server stops")?;
    let Database::Sqlite(path) = &database else { unreachable!("it is a file") };
    check_integrity(path)?;
    report.verify_rows(&workload, &database)?;
    report.verify(&workload, &database)?;
    Ok(report)
}
