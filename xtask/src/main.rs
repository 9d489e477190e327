//! What developers and continuous integration run: `cargo xtask`.
//!
//! Not here: anything the product needs to be built. It builds with plain cargo.

mod bench;
mod fuzz;
mod instructions;
mod mutants;
mod schemathesis;
mod steps;
mod tools;

use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};

use steps::Step;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything that must pass: formatting, lints, documentation, tests
    Test {
        /// Run one step only
        #[arg(long, value_enum)]
        only: Option<Step>,
        /// Arguments for `cargo test`
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Run three nodes on one PostgreSQL under load, kill one, and compare what everybody holds
    DemoCluster {
        /// How long clients write
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Count the instructions of the hot paths anew, for `test` to compare with
    SaveInstructions,
    /// Measure the server beside a plain design and beside what its databases allow
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments for the program that measures; `--help` shows which it takes
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Break things under a server that is built and loaded, and judge what came of it
    Faults {
        /// Names of scenarios, `--quick` for some seconds of each, `--list` for what there is
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Ask a server what its OpenAPI document allows, and compare the answers with it
    Schemathesis {
        /// How many requests are made up for each operation
        #[arg(long, default_value_t = 300)]
        examples: u32,
    },
    /// Try made-up input on everything that reads what comes from outside, with cargo-fuzz
    Fuzz(fuzz::Options),
    /// Break the rules one by one in a copy of the project, with cargo-mutants, and see whether a test fails
    Mutants(mutants::Options),
    /// Check licences, banned crates and sources with cargo-deny
    Deny,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        None => Cli::command().print_help().context("the help cannot be printed"),
        Some(Command::Test { only, rest }) => {
            let steps = only.map_or_else(|| Step::ALL.to_vec(), |step| vec![step]);
            steps::run(&steps, &rest)
        }
        Some(Command::DemoCluster { seconds }) => steps::demo_cluster(seconds),
        Some(Command::SaveInstructions) => steps::save_instructions(),
        Some(Command::Bench { rest }) => bench::run(&rest),
        Some(Command::Faults { rest }) => steps::faults(&rest),
        Some(Command::Schemathesis { examples }) => schemathesis::run(examples),
        Some(Command::Fuzz(options)) => fuzz::run(&options),
        Some(Command::Mutants(options)) => mutants::run(&options),
        Some(Command::Deny) => steps::deny(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
