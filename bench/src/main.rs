//! How fast the server is, beside a plain design and beside what its databases and HTTP allow:
//! `cargo xtask bench`.
//!
//! Not here: promises. What must hold is tested; a speed is only told.

mod cpu;
mod growth;
mod load;
mod report;
mod rounds;
mod tally;
mod targets;
mod workloads;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use report::{Report, Setting};
use rounds::Plan;
use targets::{Bench, Kind};
use workloads::Workload;

// As the server has it, so that the ceiling and the limits are not those of another allocator.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures the server beside others.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See whether the figures stay as users, records, clients and event streams grow
    Growth {
        /// Seconds of each window
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
        /// Clients at the same time, where they do not grow
        #[arg(long, default_value_t = 8)]
        clients: usize,
        /// Write docs/PERFORMANCE.md too
        #[arg(long)]
        write_docs: bool,
    },
    #[command(hide = true)]
    Ceiling,
}

/// What is measured, and for how long.
#[derive(Debug, Args)]
struct Options {
    /// Workloads, with commas between them
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Workload::ALL)]
    only: Vec<Workload>,
    /// Targets, with commas between them
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::ALL)]
    targets: Vec<Kind>,
    /// How often each target does each workload; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each time
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Clients at the same time
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// A look: one round of 2 seconds
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Write docs/PERFORMANCE.md and docs/performance.svg too
    #[arg(long)]
    write_docs: bool,
    /// What was measured, as the tables are to say: a commit
    #[arg(long)]
    commit: Option<String>,
    /// When it was measured, as the tables are to say
    #[arg(long)]
    date: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let Cli { command, options } = Cli::parse();
    match command {
        Some(Command::Ceiling) => targets::serve_ceiling(),
        Some(Command::Growth { seconds, clients, write_docs }) => {
            growth::run(seconds, clients, write_docs)
        }
        None => measure(&options),
    }
}

fn measure(options: &Options) -> anyhow::Result<()> {
    let bench = Bench::new(std::env::var_os("VAULTSYNC_BENCH_NODE_BASELINE").map(PathBuf::from))?;
    let (rounds, seconds) = if options.quick { (1, 2) } else { (options.rounds, options.seconds) };
    let plan = Plan { workloads: options.only.clone(), rounds, seconds, clients: options.clients };
    let mut kinds = options.targets.clone();
    kinds.sort_unstable();
    kinds.dedup();
    let mut notes = Vec::new();
    let mut targets = BTreeMap::new();
    for kind in kinds {
        let started = kind.start(&bench).with_context(|| format!("{kind:?} does not start"))?;
        if started.is_empty() {
            notes.push("node-baseline is left out: its packages are not installed.".to_owned());
        }
        targets.insert(kind, started);
    }
    let samples = rounds::run(&plan, targets.into_values().flatten().collect())?;
    let setting = Setting {
        postgres: bench.postgres_version(),
        commit: options.commit.clone(),
        date: options.date.clone(),
        plan,
        notes,
    };
    let report = Report { setting, samples };
    report.write(options.write_docs)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
