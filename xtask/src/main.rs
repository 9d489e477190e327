//! The commands of developers and continuous integration: `cargo xtask`.
//!
//! Not here: the build of the product, which needs only cargo.

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

/// Development commands of Vaultsync
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all checks: formatting, lints, documentation, tests, instruction counts
    Test {
        /// Run only one step
        #[arg(long, value_enum)]
        only: Option<Step>,
        /// Arguments for `cargo test`
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Run three nodes on one PostgreSQL under load, kill one, and check that nothing is lost
    DemoCluster {
        /// How long clients write, in seconds
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Count the instructions of the hot paths, and save the counts for `test` to compare with
    SaveInstructions,
    /// Measure the server, and compare it with a baseline and with the limits of its databases
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments for the benchmark; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Run the server under load, inject faults, and check the outcome
    Faults {
        /// Names of scenarios; `--quick` for a few seconds of each, `--list` for a list of them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Run the server behind proxies and in other deployments, and check what clients see
    Deployments {
        /// Names of deployments; `--quick` for a few seconds of each, `--list` for a list of them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Send generated requests to a server, and compare the responses with its OpenAPI document
    Schemathesis {
        /// Number of generated requests per operation
        #[arg(long, default_value_t = 300)]
        examples: u32,
    },
    /// Fuzz everything that parses untrusted input, with cargo-fuzz
    Fuzz(fuzz::Options),
    /// Introduce mistakes into a copy of the project, with cargo-mutants, and check that a test fails
    Mutants(mutants::Options),
    /// Check the licences and sources of all crates, and banned crates, with cargo-deny
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
        Some(Command::Deployments { rest }) => steps::deployments(&rest),
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
