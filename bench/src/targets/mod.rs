//! The targets: servers, and the limits of their parts.

mod ceiling;
mod driver;
mod environment;
mod http;
mod node_baseline;
mod sqlite;
mod vaultsync;

use std::time::Duration;

use clap::ValueEnum;

pub(crate) use ceiling::serve as serve_ceiling;
pub(crate) use environment::{Child, Environment};
pub(crate) use http::HttpTarget;
pub(crate) use vaultsync::{Build, PG, PG_OTHER, SQLITE, SQLITE_OTHER, on_postgres, on_sqlite};

use crate::{cpu::Processes, tally::Tally, workloads::Workload};

/// The kinds of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// The baseline, on PostgreSQL
    NodeBaseline,
    /// This server on PostgreSQL
    VaultsyncPg,
    /// This server on SQLite
    VaultsyncSqlite,
    /// The SQL statements of a push and a pull through the Rust driver, without HTTP
    LimitDriver,
    /// A thread that writes to and reads from SQLite, without HTTP
    LimitSqlite,
    /// A server that only parses and decodes, or encodes from memory
    Ceiling,
}

/// Something that runs workloads.
pub(crate) trait Target {
    /// Its name in tables.
    fn name(&self) -> &'static str;

    /// Whether it can run a workload at all.
    fn supports(&self, workload: Workload) -> bool;

    /// Prepares a window of a workload with this many clients.
    fn prepare(&mut self, workload: Workload, clients: usize) -> anyhow::Result<()>;

    /// Runs a workload for some time.
    fn run(&mut self, workload: Workload, time: Duration) -> anyhow::Result<Tally>;

    /// The processes whose CPU time counts.
    fn processes(&self) -> Processes;

    /// The process whose memory counts, if the target has its own.
    fn server(&self) -> Option<u32> {
        None
    }
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::NodeBaseline,
        Self::VaultsyncPg,
        Self::VaultsyncSqlite,
        Self::LimitDriver,
        Self::LimitSqlite,
        Self::Ceiling,
    ];

    /// Starts the targets of this kind; none if this machine lacks a prerequisite.
    pub(crate) fn start(self, environment: &Environment) -> anyhow::Result<Vec<Box<dyn Target>>> {
        Ok(match self {
            Self::NodeBaseline => match node_baseline::start(environment)? {
                Some(target) => vec![Box::new(target)],
                None => Vec::new(),
            },
            Self::VaultsyncPg | Self::VaultsyncSqlite => {
                self.start_build(environment, &Build::this()?)?.into_iter().collect()
            }
            Self::LimitDriver => vec![Box::new(driver::Driver::start(environment)?)],
            Self::LimitSqlite => sqlite::start(environment)?,
            Self::Ceiling => vec![Box::new(ceiling::start(environment)?)],
        })
    }

    /// Starts a build of this server, if this kind is one.
    pub(crate) fn start_build(
        self,
        environment: &Environment,
        build: &Build,
    ) -> anyhow::Result<Option<Box<dyn Target>>> {
        Ok(match self {
            Self::VaultsyncPg => Some(Box::new(on_postgres(environment, build)?)),
            Self::VaultsyncSqlite => Some(Box::new(on_sqlite(environment, build)?)),
            _ => None,
        })
    }
}
