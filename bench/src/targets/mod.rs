//! What is measured: servers, and what their parts could do at most.

mod ceiling;
mod child;
mod driver;
mod http;
mod node_baseline;
mod sqlite;
mod vaultsync;

use std::time::Duration;

use clap::ValueEnum;

pub(crate) use ceiling::serve as serve_ceiling;
pub(crate) use child::{Bench, Child};
pub(crate) use http::HttpTarget;
pub(crate) use vaultsync::{on_postgres, on_sqlite};

use crate::{cpu::Processes, tally::Tally, workloads::Workload};

/// The kinds of targets that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// The plain design, on PostgreSQL
    NodeBaseline,
    /// This server on PostgreSQL
    VaultsyncPg,
    /// This server on SQLite
    VaultsyncSqlite,
    /// The statements of a push and a pull through the Rust driver, without HTTP
    LimitDriver,
    /// A thread that writes to and reads from SQLite, without HTTP
    LimitSqlite,
    /// A server that only parses and decodes, or encodes from memory
    Ceiling,
}

/// Something that takes workloads.
pub(crate) trait Target {
    /// What it is called in tables.
    fn name(&self) -> &'static str;

    /// Whether it can do this work at all.
    fn takes(&self, workload: Workload) -> bool;

    /// Makes all ready for a window of this work by so many clients.
    fn prepare(&mut self, workload: Workload, clients: usize) -> anyhow::Result<()>;

    /// Does the work for that long.
    fn run(&mut self, workload: Workload, time: Duration) -> anyhow::Result<Tally>;

    /// Whose time it costs.
    fn processes(&self) -> Processes;

    /// The process whose memory counts, where it is one of its own.
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

    /// Starts the targets of this kind; none where this machine lacks what it takes.
    pub(crate) fn start(self, bench: &Bench) -> anyhow::Result<Vec<Box<dyn Target>>> {
        Ok(match self {
            Self::NodeBaseline => match node_baseline::start(bench)? {
                Some(target) => vec![Box::new(target)],
                None => Vec::new(),
            },
            Self::VaultsyncPg => vec![Box::new(vaultsync::on_postgres(bench)?)],
            Self::VaultsyncSqlite => vec![Box::new(vaultsync::on_sqlite(bench)?)],
            Self::LimitDriver => vec![Box::new(driver::Driver::start(bench)?)],
            Self::LimitSqlite => sqlite::start(bench)?,
            Self::Ceiling => vec![Box::new(ceiling::start(bench)?)],
        })
    }
}
