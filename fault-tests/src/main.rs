//! `cargo xtask faults [NAME…]`: runs scenarios, and prints what each of them counted.
//!
//! The exit status is 1 if a promise was broken or a scenario could not be run.

#![cfg(target_os = "linux")]

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use clap::Parser;
use tokio::time::Instant;
use vaultsync_fault_tests::{
    Scale, Scenario, ScenarioContext, ScenarioReport,
    report::{self, Row},
    scenarios, shell,
};

/// Run the built server under load, inject faults, and check the outcome
#[derive(Debug, Parser)]
#[command(name = "cargo xtask faults", bin_name = "cargo xtask faults")]
struct Cli {
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
    /// Folder for the results, as Markdown and as JSON
    #[arg(long, default_value = "target/fault-tests")]
    results: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    if cli.list {
        for Scenario { name, shows, .. } in scenarios::ALL {
            println!("{name:<20} {shows}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let scale = if cli.quick { Scale::Quick } else { Scale::Full };
    let program =
        cli.program.map_or_else(default_program, |path| Ok(std::path::absolute(path)?))?;
    ensure!(program.is_file(), "{} is not built", program.display());
    let mut rows = Vec::new();
    for scenario in scenarios::named(&cli.names)? {
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
        report::write(&cli.results, &rows)?;
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
