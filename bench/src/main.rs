//! How fast the server is, compared with a baseline and with the limits of its databases and of HTTP:
//! `cargo xtask bench`.
//!
//! Not here: promises. Tests check what must hold; a speed is only reported.

mod cpu;
mod first_sync;
mod growth;
mod load;
mod record_ids;
mod report;
mod rounds;
mod tally;
mod targets;
mod workloads;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use record_ids::RecordIds;
use report::{Report, Setting};
use rounds::Plan;
use targets::{Build, Environment, Kind};
use workloads::Workload;

// The server's allocator, so that the ceiling and the limits do not have those of another one.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measure the server, and compare it with a baseline and with its limits
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
    /// Measure how the figures change as users, records, clients and event streams grow
    Growth {
        /// Seconds per window
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
        /// Number of concurrent clients, unless the number of clients grows
        #[arg(long, default_value_t = 8)]
        clients: usize,
        /// Ids of the records
        #[arg(long, value_enum, default_value_t)]
        ids: RecordIds,
        /// Also update docs/PERFORMANCE.md
        #[arg(long)]
        write_docs: bool,
    },
    /// Measure the first sync of a device, streamed and page by page
    FirstSync {
        /// Ids of the records
        #[arg(long, value_enum, default_value_t)]
        ids: RecordIds,
        /// Also update docs/PERFORMANCE.md
        #[arg(long)]
        write_docs: bool,
    },
    #[command(hide = true)]
    Ceiling {
        #[arg(value_enum)]
        ids: RecordIds,
    },
}

/// What is measured, and for how long.
#[derive(Debug, Args)]
struct Options {
    /// Workloads, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Workload::ALL)]
    only: Vec<Workload>,
    /// Targets, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::ALL)]
    targets: Vec<Kind>,
    /// Another build of `vaultsync` to measure in the same rounds, for a comparison of both
    #[arg(long, value_name = "PROGRAM")]
    beside: Option<PathBuf>,
    /// Flag of `serve` for the build that is measured beside; it can be this one with other settings
    #[arg(long, value_name = "FLAG", requires = "beside", allow_hyphen_values = true)]
    beside_flag: Vec<String>,
    /// Number of rounds; the tables show the medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds per window
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Number of concurrent clients
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Ids of the records. The goals hold for random ones
    #[arg(long, value_enum, default_value_t)]
    ids: RecordIds,
    /// A quick estimate: one round with windows of 2 seconds
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Also update docs/PERFORMANCE.md and docs/performance.svg
    #[arg(long)]
    write_docs: bool,
    /// The measured commit, as the tables should state it
    #[arg(long)]
    commit: Option<String>,
    /// The date of the measurement, as the tables should state it
    #[arg(long)]
    date: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let Cli { command, options } = Cli::parse();
    match command {
        Some(Command::Ceiling { ids }) => targets::serve_ceiling(ids),
        Some(Command::FirstSync { ids, write_docs }) => first_sync::run(ids, write_docs),
        Some(Command::Growth { seconds, clients, ids, write_docs }) => {
            growth::run(seconds, clients, ids, write_docs)
        }
        None => measure(&options),
    }
}

fn measure(options: &Options) -> anyhow::Result<()> {
    let node_baseline = std::env::var_os("VAULTSYNC_BENCH_NODE_BASELINE").map(PathBuf::from);
    let environment = Environment::new(node_baseline, options.ids)?;
    let other = |program: &PathBuf| Build::other(program, &options.beside_flag);
    let other_build = options.beside.as_ref().map(other).transpose()?;
    let (rounds, seconds) = if options.quick { (1, 2) } else { (options.rounds, options.seconds) };
    let Options { clients, ids, .. } = *options;
    let plan = Plan { workloads: options.only.clone(), rounds, seconds, clients, ids };
    let mut kinds = options.targets.clone();
    kinds.sort_unstable();
    kinds.dedup();
    let (mut targets, mut notes) = (Vec::new(), Vec::new());
    for kind in kinds {
        let started =
            kind.start(&environment).with_context(|| format!("{kind:?} does not start"))?;
        if started.is_empty() {
            notes.push("node-baseline is missing: its packages are not installed.".to_owned());
        }
        targets.extend(started);
        if let Some(build) = &other_build {
            targets.extend(kind.start_build(&environment, build)?);
        }
    }
    let samples = rounds::run(&plan, targets)?;
    let setting = Setting {
        postgres: environment.postgres_version(),
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
