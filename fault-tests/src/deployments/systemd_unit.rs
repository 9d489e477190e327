//! The unit for systemd, as far as it can be checked without a system that systemd has booted.

use std::{collections::HashMap, process::Command};

use anyhow::{Context as _, ensure};

use super::substitute;
use crate::{Scenario, ScenarioContext, ScenarioReport, shell};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "systemd",
    shows: "systemd accepts deploy/vaultsync.service, and finds little that the server could harm",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(async move { run(&context) }),
};

const UNIT: &str = include_str!("../../../deploy/vaultsync.service");

/// The most that the exposure may be, in tenths: from 0 to 100, where systemd calls up to 20 "OK".
const EXPOSURE_MAX: &str = "20";

fn run(context: &ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let version = shell::run("systemd-analyze", &["--version"])?;
    report.programs.push(version.lines().next().unwrap_or_default().to_owned());
    let program = context.program.to_string_lossy();
    let unit = substitute(
        UNIT,
        &[("ExecStart=/usr/local/bin/vaultsync", &format!("ExecStart={program}"))],
    )?;
    let path = context.folder().join("vaultsync.service");
    std::fs::write(&path, unit)?;
    let path = path.to_string_lossy();

    // It only warns about a key that it does not know, and still succeeds.
    let mut verify = Command::new("systemd-analyze");
    let output = verify.args(["verify", "--man=no", &path]).output()?;
    let warnings = String::from_utf8_lossy(&output.stderr);
    let warnings: Vec<_> =
        warnings.lines().filter(|line| line.contains("vaultsync.service")).collect();
    report.count("checks", 1);
    report.expect(output.status.success() && warnings.is_empty(), || {
        format!("systemd-analyze verify: {}, {warnings:?}", output.status)
    });

    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let analysis =
        shell::run("systemd-analyze", &["security", "--offline=true", &threshold, &path]);
    report.count("checks", 1);
    match analysis {
        Ok(analysis) => {
            let last = analysis.lines().last().unwrap_or_default();
            let words = last.split(' ').skip_while(|word| *word != "Overall");
            let words: Vec<_> = words.filter(|word| word.is_ascii()).collect();
            report.programs.push(words.join(" "));
        }
        Err(error) => report.broken.push(format!("{error:#}")),
    }
    expect_time_to_drain(context, &mut report)?;
    Ok(report)
}

/// Expects that systemd waits until the server has drained, with the settings of the unit and the delay that the
/// files for load balancers name.
fn expect_time_to_drain(
    context: &ScenarioContext,
    report: &mut ScenarioReport,
) -> anyhow::Result<()> {
    let settings: HashMap<_, _> = UNIT.lines().filter_map(|line| line.split_once('=')).collect();
    let timeout: u64 = settings.get("TimeoutStopSec").context("no TimeoutStopSec")?.parse()?;
    let mut command = Command::new(&context.program);
    command.args(["config", "print"]).env("VAULTSYNC_DRAIN_DELAY_SECONDS", "5");
    for variable in UNIT.lines().filter_map(|line| line.strip_prefix("Environment=")) {
        let (name, value) = variable.split_once('=').context("a variable without a value")?;
        command.env(name, value);
    }
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout)?;
    let mut drain = 0;
    for name in ["drain_delay_seconds", "drain_seconds"] {
        let value =
            printed.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='));
        let value = value.with_context(|| format!("no {name}"))?;
        let digits: String = value.trim().chars().take_while(char::is_ascii_digit).collect();
        drain += digits.parse::<u64>()?;
    }
    report.count("checks", 1);
    report
        .expect(timeout > drain, || format!("systemd waits {timeout} s, a drain takes {drain} s"));
    Ok(())
}
