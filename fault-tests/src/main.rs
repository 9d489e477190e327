//! `cargo xtask faults [NAME…]`: runs scenarios, and tells what each of them counted.
//!
//! Ends with 1 where a promise was broken or a scenario could not be run.

#![cfg(target_os = "linux")]

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use tokio::time::Instant;
use vaultsync_fault_tests::{
    Scale, Scenario, ScenarioContext,
    report::{self, Row},
    scenarios, shell,
};

/// Run the built server under load, break something on the way, and judge what came of it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask faults", bin_name = "cargo xtask faults")]
struct Cli {
    /// Which scenarios; all but the soak where none is named
    names: Vec<String>,
    /// Some seconds of each
    #[arg(long)]
    quick: bool,
    /// Tell what there is
    #[arg(long)]
    list: bool,
    /// The built server
    #[arg(long, default_value = "target/release/vaultsync")]
    program: PathBuf,
    /// Where the table is written, as Markdown and as JSON
    #[arg(long, default_value = "target/prove")]
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
    let program = std::path::absolute(&cli.program)?;
    let mut rows = Vec::new();
    for scenario in scenarios::named(&cli.names)? {
        eprintln!("=== {}: {} ===", scenario.name, scenario.shows);
        let begun = Instant::now();
        let ended = run(scenario, ScenarioContext::new(&program, scale)?).await;
        let row = Row::new(scenario.name, scenario.shows, ended, begun.elapsed().as_secs());
        for broken in row.broken() {
            eprintln!("BROKEN: {broken}");
        }
        eprintln!("{}", report::markdown(std::slice::from_ref(&row)));
        rows.push(row);
        // After each, so that what was found is there whatever becomes of the next.
        report::write(&cli.results, &rows)?;
    }
    println!("{}", report::markdown(&rows));
    let all_kept = rows.iter().all(Row::is_kept);
    Ok(if all_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one; a panic in it is its failure and not that of the others.
async fn run(
    scenario: &Scenario,
    context: ScenarioContext,
) -> anyhow::Result<vaultsync_fault_tests::ScenarioReport> {
    anyhow::ensure!(!scenario.needs_root || shell::is_root(), "only root may run it");
    tokio::spawn((scenario.run)(context)).await?
}
