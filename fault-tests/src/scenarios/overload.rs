//! Five times as many pushes as the server can take, sent whether or not it keeps up, and then silence.
//!
//! Only this command checks it: on a busy machine, times prove nothing. The clients have their own core, so
//! that they take no time from the server; the server and its database have another core.

use std::{
    process::{Child, Command, id},
    thread::available_parallelism,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use vaultsync_protocol::Operation;
use vaultsync_test_servers::PostgresServer;
use vaultsync_testkit::{
    history::Outcome,
    process::ServerProcess,
    workload::{Client, HttpService},
};

use crate::{Scenario, ScenarioContext, ScenarioReport, verify::Database, workload::operation};

pub(super) const ON_POSTGRES: Scenario = Scenario {
    name: "overload",
    shows: "5 times the pushes that a server and PostgreSQL can take on a contended core",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(on_postgres(context)),
};

pub(super) const ON_SQLITE: Scenario = Scenario {
    name: "overload-sqlite",
    shows: "5 times the pushes that a server on SQLite can take on a contended core",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(on_sqlite(context)),
};

/// Size of a push: large enough that building and sending it costs the client far less than it costs the
/// server to apply it.
const RECORDS: usize = 100;
const RECORD_BYTES: usize = 100;

const USERS: usize = 16;
const FACTOR: u32 = 5;
const TICK: Duration = Duration::from_millis(20);
const ACCEPTED_MAX: Duration = Duration::from_secs(1);

/// How late a push may be sent. If the clients themselves do not keep up, the measurement includes their
/// own delay.
const SENT_LATE_MAX: Duration = Duration::from_millis(250);

const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// Number of pushes in a row that must be accepted before the server counts as recovered.
const IN_A_ROW: u32 = 20;

async fn on_postgres(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let cores = Cores::split()?;
    let postgres = PostgresServer::start();
    let database = Database::Postgres(postgres.url("postgres"));
    let server = ServerProcess::start(context.server(&database)).await?;
    let _busy = start_busy_processes(1)?;
    run(&context, &cores, &server, &database).await
}

async fn on_sqlite(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let cores = Cores::split()?;
    let database = context.sqlite();
    let server = ServerProcess::start(context.server(&database)).await?;
    let _busy = start_busy_processes(3)?;
    run(&context, &cores, &server, &database).await
}

/// Starts processes that contend for the server's core: alone on a core, the server takes more pushes than
/// clients on another core can send five times.
fn start_busy_processes(count: usize) -> std::io::Result<Vec<BusyProcess>> {
    (0..count).map(|_| BusyProcess::start()).collect()
}

/// One core for processes that are started first, another one for the clients, which run in this process.
struct Cores {
    /// Number of cores that this process could use before.
    count: usize,
}

impl Cores {
    /// Assigns the first core to everything that is started from now on.
    fn split() -> anyhow::Result<Self> {
        let count = available_parallelism()?.get();
        ensure!(count > 1, "two cores are needed, one of them for the clients");
        run_on("0").map(|()| Self { count })
    }

    /// Moves this process to the last core.
    fn move_clients(&self) -> anyhow::Result<()> {
        run_on(&(self.count - 1).to_string())
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        if let Err(error) = run_on(&format!("0-{}", self.count - 1)) {
            eprintln!("further scenarios run on one core: {error:#}");
        }
    }
}

/// Restricts this process, and processes that it starts from now on, to these cores.
fn run_on(cores: &str) -> anyhow::Result<()> {
    let arguments = ["--all-tasks", "--pid", "--cpu-list", cores, &id().to_string()];
    let output = Command::new("taskset").args(arguments).output();
    let output = output.context("taskset cannot be run; it is part of util-linux")?;
    ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A process that uses a whole core. It is killed when dropped.
struct BusyProcess(Child);

impl BusyProcess {
    fn start() -> std::io::Result<Self> {
        Command::new("sh").args(["-c", "while :; do :; done"]).spawn().map(Self)
    }
}

impl Drop for BusyProcess {
    fn drop(&mut self) {
        // It may have exited already, and its exit status does not matter.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

async fn run(
    context: &ScenarioContext,
    cores: &Cores,
    server: &ServerProcess,
    database: &Database,
) -> anyhow::Result<ScenarioReport> {
    cores.move_clients()?;
    let mut report = ScenarioReport::default();
    let workload = context.workload(USERS)?;
    let addresses = [server.url()].into();
    let client = |user| workload.client(user, &format!("client-{user}"), &addresses, 0);
    let clients: Vec<_> = (0..USERS).map(client).collect();

    let time = Duration::from_secs(context.pick(10, 3));
    let capacity = measure_capacity(&clients, time / 2).await?;
    report.count("pushes a second at capacity", capacity.into());
    let (times, late) = flood(&clients, capacity * FACTOR, time).await?;
    report.count("pushes sent", times.len() as u64);
    report.expect(late < SENT_LATE_MAX, || {
        format!("the clients need more than a core: they sent {late:?} late")
    });
    let mut accepted: Vec<_> = times.into_iter().flatten().collect();
    accepted.sort_unstable();
    let p99 = accepted.get(accepted.len().saturating_sub(1) * 99 / 100).copied();
    let p99 = p99.unwrap_or_default();
    report.count("accepted", accepted.len() as u64);
    report.count("ms at the 99th percentile of accepted pushes", millis(p99));
    report.expect(p99 < ACCEPTED_MAX, || format!("accepted pushes took {p99:?}"));
    report.expect(!accepted.is_empty(), || "no push was accepted".to_owned());
    check_recovery(clients[0].clone(), &mut report).await;

    let totals = workload.tally.totals();
    let refused = totals.with_status(503);
    report.count("responses 503", refused);
    report.expect(refused > 0, || "it was no overload: nothing was refused".to_owned());
    report.expect(totals.unanswered == 0, || format!("{} not answered", totals.unanswered));
    report.expect_no_panic(server);
    report.verify(&workload, database)?;
    Ok(report)
}

/// Expects that the server soon accepts pushes again after the flood.
async fn check_recovery(mut client: Client<HttpService>, report: &mut ScenarioReport) {
    let started = Instant::now();
    let (mut number, mut in_a_row) = (0, 0);
    while in_a_row < IN_A_ROW && started.elapsed() < RECOVERY_MAX {
        number += 1;
        in_a_row = if is_accepted(&client.push(&push("after", number)).await) {
            in_a_row + 1
        } else {
            tokio::time::sleep(TICK).await;
            0
        };
    }
    let took = millis(started.elapsed());
    report.count("ms until 20 pushes in a row were accepted afterwards", took);
    report.expect(in_a_row == IN_A_ROW, || {
        format!("the server still refuses pushes {RECOVERY_MAX:?} after the overload")
    });
}

/// Returns how many pushes a second are accepted if each client waits for its response.
async fn measure_capacity(clients: &[Client<HttpService>], time: Duration) -> anyhow::Result<u32> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients.iter().cloned() {
        tasks.spawn(async move {
            let mut accepted = 0_u32;
            for number in 0.. {
                if started.elapsed() > time {
                    break;
                }
                let outcome = client.push(&push("before", number)).await;
                accepted += u32::from(is_accepted(&outcome));
            }
            accepted
        });
    }
    let accepted: u32 = tasks.join_all().await.into_iter().sum();
    let millis = u32::try_from(time.as_millis())?.max(1);
    Ok((accepted * 1000 / millis).max(1))
}

/// Sends this many pushes a second, whether or not they are accepted. Returns how long each accepted push
/// took, and the longest delay with which one was sent.
async fn flood(
    clients: &[Client<HttpService>],
    per_second: u32,
    time: Duration,
) -> anyhow::Result<(Vec<Option<Duration>>, Duration)> {
    let mut pushes = JoinSet::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let per_tick = per_second * u32::try_from(TICK.as_millis())? / 1000 + 1;
    let (mut number, mut late) = (0, Duration::ZERO);
    for _ in 0..time.as_millis() / TICK.as_millis() {
        late = late.max(ticks.tick().await.elapsed());
        for _ in 0..per_tick {
            number += 1;
            let mut client = clients[number % clients.len()].clone();
            pushes.spawn(async move {
                let operations = push("during", number);
                let started = Instant::now();
                let outcome = client.push(&operations).await;
                is_accepted(&outcome).then(|| started.elapsed())
            });
        }
    }
    Ok((pushes.join_all().await, late))
}

fn is_accepted(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Acknowledged { .. })
}

/// A push of new records, so that no push conflicts with another.
fn push(phase: &str, number: usize) -> Vec<Operation> {
    let record = |record| {
        let mut ciphertext = format!("{phase} {number} {record}").into_bytes();
        ciphertext.resize(RECORD_BYTES, b'.');
        operation(&format!("{phase}-{number}-{record}"), None, ciphertext)
    };
    (0..RECORDS).map(record).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
