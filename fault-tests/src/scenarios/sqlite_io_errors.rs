//! The `n`th write, sync or truncation of SQLite's files fails, for every `n` up to some hundreds, once
//! or until it is lifted, while clients write.
//!
//! Each `n` begins with a new database, so that every step of SQLite's work is reached: the tables'
//! making, the log's first pages, its start anew. Clients may be told 503 and nothing else. When the
//! disk works again, the server must go on by itself, or after it was started again.

use std::{path::Path, time::Duration};

use anyhow::Context as _;

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    faults::disk::{Disk, Fault, Kind},
    judge::{Database, integrity, judge},
    load::{Batch, Change, Crowd, Load, Plan, Told},
    process::{Server, Spec},
};

/// See the module.
pub(super) const SCENARIO: Scenario = Scenario {
    name: "sqlite-io-errors",
    shows: "the n-th write, sync or truncation of SQLite's files fails (EIO, ENOSPC, a short write)",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// Writers only: what is asked is whether the file keeps what they were told.
const PLAN: Plan = Plan {
    users: 2,
    writers: 2,
    followers: 1,
    records: 20,
    batch_max: 5,
    bytes_max: 6000,
    rest: Duration::ZERO,
};

/// How long the load may take to come to the `n`th call.
const STRUCK_MAX: Duration = Duration::from_secs(60);

/// How long the disk stays broken where it does.
const BROKEN_FOR: Duration = Duration::from_millis(60);

/// How long a server may take to take a push again, until it is started again instead.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let disk = Disk::new(context.folder(), "vaultsync.sqlite3")?;
    let mut report = ScenarioReport::default();
    let crowd = Crowd::new(&context.program, &context.folder().join("data"), PLAN.users)?;
    for n in 1..=context.pick(300, 40) {
        let round = Round { n, context: &context, disk: &disk, crowd: crowd.anew() };
        round.run(&mut report).await.with_context(|| format!("at call {n}"))?;
    }
    Ok(report)
}

struct Round<'a> {
    n: u64,
    context: &'a ScenarioContext,
    disk: &'a Disk,
    crowd: Crowd,
}

impl Round<'_> {
    async fn run(&self, report: &mut ScenarioReport) -> anyhow::Result<()> {
        let folder = self.context.folder().join(format!("call-{}", self.n));
        let path = folder.join("vaultsync.sqlite3");
        let mut spec = Spec::new(
            &self.context.program,
            self.context.folder(),
            format!("sqlite:{}", path.display()),
        );
        spec.variables = self.disk.variables();
        let (kinds, fault) = self.fault();
        let at_start = self.n.is_multiple_of(4);
        let mut server = Server::prepare(spec)?;
        if at_start {
            self.disk.strike(self.n / 4, kinds, fault)?;
            self.start_on_bad_disk(&mut server, report).await?;
        } else {
            server.start_again().await?;
            self.disk.strike(self.n, kinds, fault)?;
        }
        let load = Load::start(&self.crowd, &[server.url()].into(), PLAN);
        self.until_struck().await?;
        if fault != Fault::InputOutput {
            tokio::time::sleep(BROKEN_FOR).await;
        }
        self.disk.heal()?;
        if !self.takes_a_push(&server).await {
            report.count("started again to recover", 1);
            server.kill()?;
            server.start_again().await?;
        }
        load.finish().await?;
        report.count("faults", self.disk.struck()?);
        report.count("rounds", 1);
        report.expect(!server.panicked(), || format!("{} panicked", self.told()));
        server.kill()?;
        self.judge(&path, report)?;
        std::fs::remove_dir_all(folder)?;
        Ok(())
    }

    /// Every kind of call and every fault comes with small and with large `n`.
    fn fault(&self) -> (&'static [Kind], Fault) {
        const ALL: &[Kind] = &[Kind::Write, Kind::Sync, Kind::Truncate];
        let faults = [Fault::InputOutput, Fault::Broken, Fault::Full];
        // A disk that is full refuses no sync.
        match faults[usize::try_from(self.n).unwrap_or_default() % faults.len()] {
            Fault::Full => (&[Kind::Write, Kind::Truncate], Fault::Full),
            fault => (ALL, fault),
        }
    }

    fn told(&self) -> String {
        format!("call {} ({:?})", self.n, self.fault().1)
    }

    /// A server that cannot open its database says so and ends; the disk heals, and it starts.
    async fn start_on_bad_disk(
        &self,
        server: &mut Server,
        report: &mut ScenarioReport,
    ) -> anyhow::Result<()> {
        if server.start_again().await.is_err() {
            report.count("starts refused", 1);
            self.disk.heal()?;
            server.kill()?;
            server.start_again().await?;
        }
        Ok(())
    }

    async fn until_struck(&self) -> anyhow::Result<()> {
        let struck = async {
            while self.disk.struck()? == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(STRUCK_MAX, struck).await.context("no call failed")?
    }

    /// Whether it comes to take a push by itself.
    async fn takes_a_push(&self, server: &Server) -> bool {
        let session = self.crowd.session(0, "after the fault");
        let change = Change {
            record_id: "after".to_owned(),
            base_version: None,
            ciphertext: b"after the fault".to_vec(),
            deleted: false,
        };
        let (batch, address) = (Batch::new(&[change]), server.url());
        let taken = async {
            while !matches!(session.push(&address, &batch).await, Told::Applied(_)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(RECOVERY_MAX, taken).await.is_ok()
    }

    fn judge(&self, path: &Path, report: &mut ScenarioReport) -> anyhow::Result<()> {
        let told = self.told();
        if let Err(error) = integrity(path) {
            report.broken.push(format!("{told}: {error:#}"));
        }
        report.count("integrity checks", 1);
        let counted = self.crowd.tally.so_far();
        report.count("answers 503", counted.of_status(503));
        report.broken.extend(counted.faults.iter().map(|fault| format!("{told}: {fault}")));
        let judged = judge(&self.crowd.case, &Database::Sqlite(path.to_owned()))?;
        let with_call = |broken: Vec<String>| {
            broken.into_iter().map(|broken| format!("{told}: {broken}")).collect()
        };
        report.take(judged.map_err(with_call));
        Ok(())
    }
}
