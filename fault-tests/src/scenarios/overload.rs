//! Five times as many pushes as the server can take, whether or not it keeps up, and then silence.
//!
//! Judged by this command only: on a machine that does much else, time proves nothing. The clients
//! have a core of their own, or what they need would be missed by the server; it and its database
//! have another one.

use std::{
    process::{Child, Command, id},
    sync::Arc,
    thread::available_parallelism,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use vaultsync_test_servers::PostgresServer;

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    judge::{Database, judge},
    load::{Batch, Change, Crowd, Session, Told},
    process::{Server, Spec},
};

/// One server on PostgreSQL.
pub(super) const ON_POSTGRES: Scenario = Scenario {
    name: "overload",
    shows: "5 times the pushes that a server and PostgreSQL can take on a core that others want too",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(on_postgres(context)),
};

/// One server on SQLite.
pub(super) const ON_SQLITE: Scenario = Scenario {
    name: "overload-sqlite",
    shows: "5 times the pushes that a server on SQLite can take on a core that others want too",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(on_sqlite(context)),
};

/// Enough that to make and send a push costs its client far less than the server to take it.
const RECORDS: usize = 100;
const RECORD_BYTES: usize = 100;

const USERS: usize = 16;
const FACTOR: u32 = 5;
const TICK: Duration = Duration::from_millis(20);
const ACCEPTED_MAX: Duration = Duration::from_secs(1);

/// How late a push may be sent. Where the clients themselves do not keep up, their time is in what is
/// measured.
const SENT_LATE_MAX: Duration = Duration::from_millis(250);

const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// How many pushes must be accepted one after the other for the server to count as recovered.
const IN_A_ROW: u32 = 20;

async fn on_postgres(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let cores = Cores::divide()?;
    let postgres = PostgresServer::start();
    let url = postgres.url("postgres");
    let server = Server::start(Spec::new(&context.program, context.folder(), url.clone())).await?;
    let _others = others(1)?;
    run(&context, &cores, &server, &Database::Postgres(url)).await
}

async fn on_sqlite(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let cores = Cores::divide()?;
    let path = context.folder().join("vaultsync.sqlite3");
    let spec = Spec::new(&context.program, context.folder(), format!("sqlite:{}", path.display()));
    let server = Server::start(spec).await?;
    let _others = others(3)?;
    run(&context, &cores, &server, &Database::Sqlite(path)).await
}

/// Alone on a core a server takes more pushes than clients on another one can send five times.
fn others(count: usize) -> std::io::Result<Vec<Other>> {
    (0..count).map(|_| Other::start()).collect()
}

/// One core for what is started first, another one for the clients, which run in this process.
struct Cores {
    /// How many there were for this process.
    count: usize,
}

impl Cores {
    /// What is started from now on has the first core.
    fn divide() -> anyhow::Result<Self> {
        let count = available_parallelism()?.get();
        ensure!(count > 1, "two cores are needed, one of them for the clients");
        run_on("0").map(|()| Self { count })
    }

    /// This process has the second one from now on.
    fn change_over(&self) -> anyhow::Result<()> {
        run_on(&(self.count - 1).to_string())
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        if let Err(error) = run_on(&format!("0-{}", self.count - 1)) {
            eprintln!("what comes next runs on one core: {error:#}");
        }
    }
}

/// Lets this process, and what it starts from now on, run on those cores alone.
fn run_on(cores: &str) -> anyhow::Result<()> {
    let arguments = ["--all-tasks", "--pid", "--cpu-list", cores, &id().to_string()];
    let set = Command::new("taskset").args(arguments).output();
    let set = set.context("taskset cannot be run; it is part of util-linux")?;
    ensure!(set.status.success(), "taskset: {}", String::from_utf8_lossy(&set.stderr));
    Ok(())
}

/// A process that wants a whole core. It is killed when dropped.
struct Other(Child);

impl Other {
    fn start() -> std::io::Result<Self> {
        Command::new("sh").args(["-c", "while :; do :; done"]).spawn().map(Self)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may be gone already, and nobody asks how it ended.
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

async fn run(
    context: &ScenarioContext,
    cores: &Cores,
    server: &Server,
    database: &Database,
) -> anyhow::Result<ScenarioReport> {
    cores.change_over()?;
    let mut report = ScenarioReport::default();
    let crowd = Crowd::new(&context.program, &context.folder().join("data"), USERS)?;
    let flood = Arc::new(Flood {
        url: server.url(),
        sessions: (0..USERS).map(|user| crowd.session(user, &format!("client-{user}"))).collect(),
    });

    let time = Duration::from_secs(context.pick(10, 3));
    let capacity = flood.capacity(time / 2).await?;
    report.count("pushes a second at capacity", capacity.into());
    let (took, late) = flood.pour(capacity * FACTOR, time).await?;
    report.count("pushes sent", took.len() as u64);
    report.expect(late < SENT_LATE_MAX, || {
        format!("the clients need more than a core: they sent {late:?} late")
    });
    let mut accepted: Vec<_> = took.into_iter().flatten().collect();
    accepted.sort_unstable();
    let p99 = accepted.get(accepted.len().saturating_sub(1) * 99 / 100).copied();
    let p99 = p99.unwrap_or_default();
    report.count("accepted", accepted.len() as u64);
    report.count("ms for the 99th of 100 accepted", millis(p99));
    report.expect(p99 < ACCEPTED_MAX, || format!("accepted pushes took {p99:?}"));

    report.expect(!accepted.is_empty(), || "no push was accepted".to_owned());

    let begun = Instant::now();
    let (mut number, mut in_a_row) = (0, 0);
    while in_a_row < IN_A_ROW && begun.elapsed() < RECOVERY_MAX {
        number += 1;
        let told = flood.sessions[0].push(&flood.url, &batch("after", number)).await;
        in_a_row = if matches!(told, Told::Applied(_)) { in_a_row + 1 } else { 0 };
        if in_a_row == 0 {
            tokio::time::sleep(TICK).await;
        }
    }
    report.count("ms until 20 pushes in a row were accepted after it", millis(begun.elapsed()));
    report.expect(in_a_row == IN_A_ROW, || {
        format!("the server still refuses pushes {RECOVERY_MAX:?} after")
    });

    let counted = crowd.tally.so_far();
    let refused = counted.of_status(503);
    report.count("answers 503", refused);
    report.expect(refused > 0, || "it was not too much: nothing was refused".to_owned());
    report.expect(counted.unanswered == 0, || format!("{} not answered", counted.unanswered));
    report.expect(!server.panicked(), || "the server panicked".to_owned());
    report.broken.extend(counted.faults);
    report.take(judge(&crowd.case, database)?);
    Ok(report)
}

struct Flood {
    url: String,
    sessions: Vec<Session>,
}

impl Flood {
    /// Pushes a second that are accepted where each client waits for its answer.
    async fn capacity(self: &Arc<Self>, time: Duration) -> anyhow::Result<u32> {
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for user in 0..self.sessions.len() {
            let flood = Arc::clone(self);
            clients.spawn(async move {
                let mut accepted = 0_u32;
                for number in 0.. {
                    if begun.elapsed() > time {
                        break;
                    }
                    let push = batch("before", number);
                    let told = flood.sessions[user].push(&flood.url, &push).await;
                    accepted += u32::from(matches!(told, Told::Applied(_)));
                }
                accepted
            });
        }
        let accepted: u32 = clients.join_all().await.into_iter().sum();
        let seconds = u32::try_from(time.as_millis())?.max(1);
        Ok((accepted * 1000 / seconds).max(1))
    }

    /// Sends so many a second, whatever becomes of them; how long each took that was accepted, and how
    /// late one was sent at most.
    async fn pour(
        self: &Arc<Self>,
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
                let flood = Arc::clone(self);
                pushes.spawn(async move {
                    let push = batch("during", number);
                    let begun = Instant::now();
                    let session = &flood.sessions[number % flood.sessions.len()];
                    let told = session.push(&flood.url, &push).await;
                    matches!(told, Told::Applied(_)).then(|| begun.elapsed())
                });
            }
        }
        Ok((pushes.join_all().await, late))
    }
}

/// Records of its own, so that none is in the way of another.
fn batch(when: &str, number: usize) -> Batch {
    let change = |record| Change {
        record_id: format!("{when}-{number}-{record}"),
        base_version: None,
        ciphertext: {
            let mut ciphertext = format!("{when} {number} {record}").into_bytes();
            ciphertext.resize(RECORD_BYTES, b'.');
            ciphertext
        },
        deleted: false,
    };
    Batch::new(&(0..RECORDS).map(change).collect::<Vec<_>>())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
