//! `cargo xtask bench`: builds what is measured and what measures, and runs it.
//!
//! Not here: what is measured (`bench`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use vaultsync_test_servers::programs::in_path;

use crate::steps::{cargo, run_one};
use crate::tools::{self, Tool};

/// What the Node server consists of.
const NODE_BASELINE: [&str; 3] = ["package.json", "package-lock.json", "server.mjs"];

/// Builds both for release, installs the packages of the Node server, and measures.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let variables = tools::provide(Tool::is_for_bench)?;
    let packages = ["--package", "vaultsync", "--package", "vaultsync-bench"];
    let mut build = cargo(&["build", "--release", "--locked"]);
    run_one("build", build.args(packages))?;
    // Not by `cargo run`, which would build it once more, with the features that it needs alone.
    let mut command = Command::new(built()?.join("vaultsync-bench"));
    command.args(arguments).envs(variables);
    match install_node_baseline() {
        Ok(folder) => {
            command.env("VAULTSYNC_BENCH_NODE_BASELINE", folder);
        }
        // The tables say so too.
        Err(error) => eprintln!("xtask: node-baseline is left out: {error:#}"),
    }
    let status = command.status().context("vaultsync-bench cannot be run")?;
    ensure!(status.success(), "bench FAILED ({status})");
    Ok(())
}

/// Where cargo puts what it builds for release: beside the folder of this program.
fn built() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let target = this.parent().and_then(Path::parent).context("this program is nowhere")?;
    Ok(target.join("release"))
}

/// Copies the Node server to `target`, where its packages may lie, and installs them.
fn install_node_baseline() -> anyhow::Result<PathBuf> {
    ensure!(in_path("node").is_some() && in_path("npm").is_some(), "node or npm is missing");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
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
