//! `cargo xtask faults [NAME…]` and `cargo xtask deployments [NAME…]`: runs scenarios, and prints what each of
//! them counted.
//!
//! The exit status is 1 if a promise was broken or a scenario could not be run.

#![cfg(target_os = "linux")]

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::time::Instant;
use vaultsync_fault_tests::{
    Scale, Scenario, ScenarioContext, ScenarioReport, deployments,
    report::{self, Row},
    scenario::named,
    scenarios, shell,
};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum List {
    /// Run the built server under load, inject faults, and check the outcome
    Faults(Options),
    /// Run the built server behind proxies and in other deployments, and check what clients see
    Deployments(Options),
}

#[derive(Debug, Args)]
struct Options {
    /// Scenarios to run [default: all except the soak]
    names: Vec<String>,
    /// Run each scenario for a few seconds only
    #[arg(long)]
    quick: bool,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// The built server [default: the one built beside this program]
    #[arg(long)]
    program: Option<PathBuf>,
    /// Folder for the results, as Markdown and as JSON [default: one below `target`]
    #[arg(long)]
    results: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().list {
        List::Faults(options) => run_all(scenarios::ALL, options, "target/fault-tests").await,
        List::Deployments(options) => {
            run_all(deployments::ALL, options, "target/deployments").await
        }
    }
}

async fn run_all(all: &[Scenario], options: Options, results: &str) -> anyhow::Result<ExitCode> {
    if options.list {
        for Scenario { name, shows, .. } in all {
            println!("{name:<20} {shows}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let scale = if options.quick { Scale::Quick } else { Scale::Full };
    let program =
        options.program.map_or_else(default_program, |path| Ok(std::path::absolute(path)?))?;
    ensure!(program.is_file(), "{} is not built", program.display());
    let results = options.results.unwrap_or_else(|| results.into());
    let mut rows = Vec::new();
    for scenario in named(all, &options.names)? {
        eprintln!("=== {}: {} ===", scenario.name, scenario.shows);
        let started = Instant::now();
        let result = run(scenario, ScenarioContext::new(&program, scale)?).await;
        let row = Row::new(scenario.name, scenario.shows, result, started.elapsed().as_secs());
        for broken in row.broken() {
            eprintln!("BROKEN: {broken}");
        }
        eprintln!("{}", report::markdown(std::slice::from_ref(&row)));
        rows.push(row);
        // After each scenario, so that its result is kept even if the next one crashes this program.
        report::write(&results, &rows)?;
    }
    println!("{}", report::markdown(&rows));
    let all_kept = rows.iter().all(Row::is_kept);
    Ok(if all_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The server that cargo has built with the same profile as this program.
fn default_program() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    Ok(this.parent().context("this program has no folder")?.join("vaultsync"))
}

/// Runs a scenario. A panic fails this scenario only.
async fn run(scenario: &Scenario, context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    ensure!(!scenario.needs_root || shell::is_root(), "only root may run it");
    tokio::spawn((scenario.run)(context)).await?
}
