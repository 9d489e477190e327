//! The `n`th write, sync or truncation of SQLite's files fails, for every `n` up to some hundreds, once or
//! until the fault is cleared, while clients write.
//!
//! Each `n` starts with a new database, so that every step of SQLite's work is reached: creating the tables,
//! the first pages of the log, restarting the log. Clients may get 503 and no other error. When the disk
//! works again, the server must recover by itself, or after it was started again.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use vaultsync_testkit::{history::Outcome, process::ServerProcess, workload::WriterConfig};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    faults::disk::{Call, Fault, FaultyDisk},
    verify::{Database, check_integrity, verify},
    workload::{LoadPlan, WRITES, Workload, operation},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "sqlite-io-errors",
    shows: "the n-th write, sync or truncation of SQLite's files fails (EIO, ENOSPC, a short write)",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// Few clients: the question is whether the file keeps every acknowledged write.
const PLAN: LoadPlan = LoadPlan {
    users: 2,
    writers: 2,
    followers: 1,
    writes: WriterConfig { records: 20, batch_max: 5, ciphertext_bytes_max: 6000, ..WRITES },
};

/// How long the load may take to reach the `n`th call.
const FAILED_MAX: Duration = Duration::from_secs(60);

/// How long a fault that has to be cleared lasts.
const FAULT_TIME: Duration = Duration::from_millis(60);

/// How long a server may take to accept a push again before it is started again instead.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let disk = FaultyDisk::new(context.folder(), "vaultsync.sqlite3")?;
    let mut report = ScenarioReport::default();
    let workload = context.workload(PLAN.users)?;
    for n in 1..=context.pick(300, 40) {
        let workload = workload.with_empty_history();
        let folder = context.folder().join(format!("call-{n}"));
        let round = Round { n, context: &context, disk: &disk, workload, folder };
        round.run(&mut report).await.with_context(|| format!("at call {n}"))?;
    }
    Ok(report)
}

struct Round<'a> {
    n: u64,
    context: &'a ScenarioContext,
    disk: &'a FaultyDisk,
    workload: Workload,
    folder: PathBuf,
}

impl Round<'_> {
    async fn run(&self, report: &mut ScenarioReport) -> anyhow::Result<()> {
        let path = self.folder.join("vaultsync.sqlite3");
        let mut config = self.context.server(&Database::Sqlite(path.clone()));
        config.variables = self.disk.variables();
        let mut server = ServerProcess::prepare(config)?;
        let (calls, fault) = self.fault();
        if self.n.is_multiple_of(4) {
            self.disk.inject(self.n / 4, calls, fault)?;
            self.start_on_faulty_disk(&mut server, report).await?;
        } else {
            server.start_again().await?;
            self.disk.inject(self.n, calls, fault)?;
        }
        let clients = self.workload.start(&[server.url()].into(), &PLAN);
        self.wait_for_failed_call().await?;
        if fault != Fault::IoErrorOnce {
            tokio::time::sleep(FAULT_TIME).await;
        }
        self.disk.clear()?;
        if !self.accepts_a_push(&server).await {
            report.count("started again to recover", 1);
            server.kill()?;
            server.start_again().await?;
        }
        clients.finish().await?;
        report.count("faults", self.disk.failed_calls()?);
        report.count("rounds", 1);
        report.expect(!server.has_panicked(), || format!("{} panicked", self.name()));
        server.kill()?;
        self.verify(&path, report)?;
        std::fs::remove_dir_all(&self.folder)?;
        Ok(())
    }

    /// The calls that fail, and how. Every combination occurs with small and with large `n`.
    fn fault(&self) -> (&'static [Call], Fault) {
        const ALL: &[Call] = &[Call::Write, Call::Sync, Call::Truncate];
        let faults = [Fault::IoErrorOnce, Fault::IoError, Fault::DiskFull];
        match faults[usize::try_from(self.n).unwrap_or_default() % faults.len()] {
            // A sync succeeds on a full disk.
            Fault::DiskFull => (&[Call::Write, Call::Truncate], Fault::DiskFull),
            fault => (ALL, fault),
        }
    }

    fn name(&self) -> String {
        format!("call {} ({:?})", self.n, self.fault().1)
    }

    /// A server that cannot open its database exits with an error; once the fault is cleared, it starts.
    async fn start_on_faulty_disk(
        &self,
        server: &mut ServerProcess,
        report: &mut ScenarioReport,
    ) -> anyhow::Result<()> {
        if server.start_again().await.is_err() {
            report.count("starts refused", 1);
            self.disk.clear()?;
            server.kill()?;
            server.start_again().await?;
        }
        Ok(())
    }

    async fn wait_for_failed_call(&self) -> anyhow::Result<()> {
        let failed = async {
            while self.disk.failed_calls()? == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(FAILED_MAX, failed).await.context("no call failed")?
    }

    /// Whether the server recovers by itself and accepts a push.
    async fn accepts_a_push(&self, server: &ServerProcess) -> bool {
        let mut client = self.workload.client(0, "after the fault", &[server.url()].into(), 0);
        let operations = [operation("after", None, b"after the fault".to_vec())];
        let accepted = async {
            while !matches!(client.push(&operations).await, Outcome::Acknowledged { .. }) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(RECOVERY_MAX, accepted).await.is_ok()
    }

    fn verify(&self, path: &Path, report: &mut ScenarioReport) -> anyhow::Result<()> {
        let name = self.name();
        if let Err(error) = check_integrity(path) {
            report.broken.push(format!("{name}: {error:#}"));
        }
        report.count("integrity checks", 1);
        report.count("responses 503", self.workload.tally.totals().with_status(503));
        let result = verify(&self.workload, &Database::Sqlite(path.to_owned()))?;
        let with_name = |broken: Vec<String>| {
            broken.into_iter().map(|broken| format!("{name}: {broken}")).collect()
        };
        report.add(result.map_err(with_name));
        Ok(())
    }
}
