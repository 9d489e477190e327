//! What a scenario is, what it is given, and what it tells.
//!
//! Not here: the scenarios, and how their report are shown (`report.rs`).

use std::{
    path::{Path, PathBuf},
    pin::Pin,
};

use tempfile::TempDir;

use crate::judge::Counts;

/// How much of it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// As the table of what was proved counts it.
    Full,
    /// Some seconds.
    Quick,
}

/// One kind of fault, and the load it happens under.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it shows, in one line.
    pub shows: &'static str,
    /// Whether it changes mounts or the network of a namespace, which only root may.
    pub needs_root: bool,
    /// Whether it runs with all others where none is named.
    pub by_default: bool,
    /// Runs it.
    pub run: fn(ScenarioContext) -> Running,
}

/// A scenario on its way.
pub type Running = Pin<Box<dyn Future<Output = anyhow::Result<ScenarioReport>> + Send>>;

/// What a scenario works with.
#[derive(Debug)]
pub struct ScenarioContext {
    /// The built `vaultsync`.
    pub program: PathBuf,
    /// How much to run.
    pub scale: Scale,
    folder: TempDir,
}

impl ScenarioContext {
    /// A context with a folder of its own, which goes with it.
    pub fn new(program: &Path, scale: Scale) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("vaultsync-fault-tests-").tempdir()?;
        Ok(Self { program: program.to_owned(), scale, folder })
    }

    /// Where the scenario may write.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The one or the other, by how much is to run.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        match self.scale {
            Scale::Full => full,
            Scale::Quick => quick,
        }
    }
}

/// What was counted, and every promise that was broken, in words.
#[derive(Debug, Default)]
pub struct ScenarioReport {
    /// Numbers and what they count, in the order in which they are told.
    pub counts: Vec<(String, u64)>,
    /// None where all promises were kept.
    pub broken: Vec<String>,
}

impl ScenarioReport {
    /// Adds to a number.
    pub fn count(&mut self, what: &str, number: u64) {
        match self.counts.iter_mut().find(|(known, _)| known == what) {
            Some((_, sum)) => *sum += number,
            None => self.counts.push((what.to_owned(), number)),
        }
    }

    /// Keeps the larger of a number and the one there is.
    pub fn at_most(&mut self, what: &str, number: u64) {
        match self.counts.iter_mut().find(|(known, _)| known == what) {
            Some((_, largest)) => *largest = number.max(*largest),
            None => self.counts.push((what.to_owned(), number)),
        }
    }

    /// The number that was counted under this name.
    pub fn counted(&self, what: &str) -> u64 {
        self.counts.iter().find(|(known, _)| known == what).map_or(0, |(_, number)| *number)
    }

    /// Notes a broken promise where it is not so.
    pub fn expect(&mut self, is_so: bool, otherwise: impl FnOnce() -> String) {
        if !is_so {
            self.broken.push(otherwise());
        }
    }

    /// Takes over what a judgement counted, or what it found broken.
    pub fn take(&mut self, judged: Result<Counts, Vec<String>>) {
        match judged {
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
}
