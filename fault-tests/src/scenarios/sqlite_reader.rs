//! Another process reads the SQLite file for long, as a backup does, while clients write. The write-ahead log
//! grows, because SQLite keeps what that process may still read. Pushes must go on, the server must warn, and
//! the log must become short again when the reader has gone.

use std::{fs, path::Path, time::Duration};

use anyhow::Context as _;
use rusqlite::{Connection, OpenFlags};
use tokio::time::Instant;
use vaultsync_testkit::{process::ServerProcess, workload::WriterConfig};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    verify::check_integrity,
    workload::{LoadPlan, WRITES},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "sqlite-outside-reader",
    shows: "another process reads the database for long while clients write",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// The length to which the server lets the log grow by itself.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long anything that is waited for may take, on a slow disk.
const WAIT_MAX: Duration = Duration::from_secs(300);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let (database, path) = (context.sqlite(), context.folder().join("vaultsync.sqlite3"));
    let log = context.folder().join("vaultsync.sqlite3-wal");
    let mut server = ServerProcess::start(context.server(&database)).await?;
    let writes =
        WriterConfig { records: 300, ciphertext_bytes_max: 60_000, batch_max: 10, ..WRITES };
    let plan = LoadPlan { writes, ..LoadPlan::default() };
    let workload = context.workload(plan.users)?;
    let clients = workload.start(&[server.url()].into(), &plan);
    for _ in 0..context.pick(3, 1) {
        let reader = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reader.execute_batch("begin; select count(*) from vaults")?;
        let acknowledged = || workload.tally.totals().acknowledged;
        let mut longest = Duration::ZERO;
        let (mut last, mut last_at) = (acknowledged(), Instant::now());
        let warned = || bytes(&log) > LOG_BYTES_MAX && server.has_logged("cannot be reset");
        let growing = async {
            while !warned() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if acknowledged() > last {
                    longest = longest.max(last_at.elapsed());
                    (last, last_at) = (acknowledged(), Instant::now());
                }
            }
        };
        tokio::time::timeout(WAIT_MAX, growing).await.context("there is no warning")?;
        report.maximum("MiB of log at most", bytes(&log) / 1024 / 1024);
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        report.maximum("ms between acknowledged writes at most", longest);
        drop(reader);
        let shrinking = async {
            while bytes(&log) > LOG_BYTES_MAX {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let shrunk = tokio::time::timeout(WAIT_MAX, shrinking).await;
        report.expect(shrunk.is_ok(), || "the log stays long".to_owned());
        report.count("readers", 1);
    }
    clients.finish().await?;
    report.count("responses 503", workload.tally.totals().with_status(503));
    report.expect_no_panic(&server);
    server.kill()?;
    if let Err(error) = check_integrity(&path) {
        report.broken.push(format!("{error:#}"));
    }
    report.verify(&workload, &database)?;
    Ok(report)
}

fn bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}
