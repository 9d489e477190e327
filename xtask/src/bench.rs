//! `cargo xtask bench`: builds the server and the benchmark, and runs the benchmark.
//!
//! Not here: the benchmark (`bench`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use vaultsync_test_servers::programs::in_path;

use crate::steps::{PROFILE, cargo, run_one};
use crate::tools::{self, Tool};

/// The files of the Node server.
const NODE_BASELINE: [&str; 3] = ["package.json", "package-lock.json", "server.mjs"];

/// Builds both with the `dist` profile, installs the packages of the Node server, and measures.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let variables = tools::provide(Tool::is_for_bench)?;
    let packages = ["--package", "vaultsync", "--package", "vaultsync-bench"];
    let mut build = cargo(&["build", "--profile", PROFILE, "--locked"]);
    run_one("build", build.args(packages))?;
    // Not `cargo run`, which would build the benchmark again with only the features that it needs itself.
    let mut command = Command::new(built()?.join("vaultsync-bench"));
    command.args(arguments).envs(variables);
    match install_node_baseline() {
        Ok(folder) => {
            command.env("VAULTSYNC_BENCH_NODE_BASELINE", folder);
        }
        // The tables have a note about it.
        Err(error) => eprintln!("xtask: node-baseline is not measured: {error:#}"),
    }
    let status = command.status().context("vaultsync-bench cannot be run")?;
    ensure!(status.success(), "bench FAILED ({status})");
    Ok(())
}

/// The folder of programs built with the `dist` profile: next to the folder of this program.
fn built() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let target = this.parent().and_then(Path::parent).context("this program has no folder")?;
    Ok(target.join(PROFILE))
}

/// Copies the Node server to `target`, and installs its packages there.
fn install_node_baseline() -> anyhow::Result<PathBuf> {
    ensure!(in_path("node").is_some() && in_path("npm").is_some(), "node or npm is not installed");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("this package is in no workspace")?;
    let (from, to) = (root.join("bench/node-baseline"), root.join("target/bench/node-baseline"));
    fs::create_dir_all(&to)?;
    for file in NODE_BASELINE {
        fs::copy(from.join(file), to.join(file))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(&to);
    let status = npm.status().context("npm cannot be run")?;
    ensure!(status.success(), "npm ci failed ({status})");
    Ok(to)
}
