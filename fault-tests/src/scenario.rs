//! A scenario, its context, and its report.
//!
//! Not here: the scenarios, and how reports are printed (`report.rs`).

use std::{
    path::{Path, PathBuf},
    pin::Pin,
};

use anyhow::Context as _;
use tempfile::TempDir;
use vaultsync_testkit::{history::Counts, process::ServerConfig, process::ServerProcess};

use crate::{
    verify::{Database, verify, verify_rows},
    workload::Workload,
};

/// How much of a scenario is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// The length that the published results have.
    Full,
    /// A few seconds.
    Quick,
}

/// One kind of fault, and the load under which it happens.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in one line.
    pub shows: &'static str,
    /// Whether it changes mounts or network namespaces, which only root may do.
    pub needs_root: bool,
    /// Whether it runs if no scenario is named.
    pub by_default: bool,
    /// Runs it.
    pub run: fn(ScenarioContext) -> RunFuture,
}

/// The scenarios of a list with these names, or all that run by default if there are no names.
pub fn named<'a>(all: &'a [Scenario], names: &[String]) -> anyhow::Result<Vec<&'a Scenario>> {
    if names.is_empty() {
        return Ok(all.iter().filter(|scenario| scenario.by_default).collect());
    }
    let find = |name: &String| {
        let found = all.iter().find(|scenario| scenario.name == name);
        found.with_context(|| format!("there is no scenario {name}; --list lists them"))
    };
    names.iter().map(find).collect()
}

/// The future of a running scenario.
pub type RunFuture = Pin<Box<dyn Future<Output = anyhow::Result<ScenarioReport>> + Send>>;

/// What a scenario gets to run with.
#[derive(Debug)]
pub struct ScenarioContext {
    /// The built `vaultsync`.
    pub program: PathBuf,
    /// How much to run.
    pub scale: Scale,
    folder: TempDir,
}

impl ScenarioContext {
    /// A context with a temporary folder, which is removed with it.
    pub fn new(program: &Path, scale: Scale) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("vaultsync-fault-tests-").tempdir()?;
        Ok(Self { program: program.to_owned(), scale, folder })
    }

    /// The folder that the scenario may write to.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data directory that the scenario's servers share.
    pub fn data_dir(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// An SQLite file in the scenario's folder.
    pub fn sqlite(&self) -> Database {
        Database::Sqlite(self.folder().join("vaultsync.sqlite3"))
    }

    /// A server with default settings, apart from rate limits, on a database.
    pub fn server(&self, database: &Database) -> ServerConfig {
        ServerConfig::new(&self.program, self.folder(), database.setting())
    }

    /// A workload of this many users of the scenario's servers.
    pub fn workload(&self, users: usize) -> anyhow::Result<Workload> {
        Workload::new(&self.program, &self.data_dir(), users)
    }

    /// `full` or `quick`, depending on the scale.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        match self.scale {
            Scale::Full => full,
            Scale::Quick => quick,
        }
    }
}

/// What a scenario counted, and every promise that was broken.
#[derive(Debug, Default)]
pub struct ScenarioReport {
    /// Names and versions of programs that were not built here.
    pub programs: Vec<String>,
    /// Numbers by what they count, in the order in which they are printed.
    pub counts: Vec<(String, u64)>,
    /// Descriptions of broken promises; empty if all promises were kept.
    pub broken: Vec<String>,
}

impl ScenarioReport {
    /// Adds to a number.
    pub fn count(&mut self, what: &str, number: u64) {
        *self.entry(what) += number;
    }

    /// Raises a number to at least this one.
    pub fn maximum(&mut self, what: &str, number: u64) {
        let entry = self.entry(what);
        *entry = number.max(*entry);
    }

    /// The number under this name.
    pub fn counted(&self, what: &str) -> u64 {
        self.counts.iter().find(|(name, _)| name == what).map_or(0, |(_, number)| *number)
    }

    /// Notes a broken promise if a condition does not hold.
    pub fn expect(&mut self, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(message());
        }
    }

    /// Expects that a server has not panicked.
    pub fn expect_no_panic(&mut self, server: &ServerProcess) {
        self.expect(!server.has_panicked(), || "a server panicked".to_owned());
    }

    /// Checks the history of a workload against the database, and adds the result.
    pub fn verify(&mut self, workload: &Workload, database: &Database) -> anyhow::Result<()> {
        self.add(verify(workload, database)?);
        Ok(())
    }

    /// Checks that the rows of the database do not contradict each other, and that each kept version is what a client
    /// has written. To be called before [`Self::verify`], which takes the history.
    pub fn verify_rows(&mut self, workload: &Workload, database: &Database) -> anyhow::Result<()> {
        let (compared, broken) = verify_rows(workload, database)?;
        self.count("replaced versions compared", compared);
        self.broken.extend(broken);
        Ok(())
    }

    /// Adds the result of a check: its counts, or the promises that were broken.
    pub fn add(&mut self, result: Result<Counts, Vec<String>>) {
        match result {
            Ok(counts) => {
                self.count("writes acknowledged", counts.acknowledged as u64);
                self.count("conflicts", counts.conflicts as u64);
                self.count("refused", counts.refused as u64);
                self.count("unknown", counts.unknown as u64);
                self.count("pages", counts.pages as u64);
                self.count("followers", counts.followers as u64);
                self.count("replays", counts.replays as u64);
                self.count("records", counts.records as u64);
            }
            Err(broken) => self.broken.extend(broken),
        }
    }

    fn entry(&mut self, what: &str) -> &mut u64 {
        let found = self.counts.iter().position(|(name, _)| name == what);
        let index = found.unwrap_or_else(|| {
            self.counts.push((what.to_owned(), 0));
            self.counts.len() - 1
        });
        &mut self.counts[index].1
    }
}
