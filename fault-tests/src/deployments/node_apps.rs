//! Apps in Node that forward requests: Next.js with `rewrites()`, and Express with `compression`. Both compress.
//!
//! Next.js passes on the `X-Forwarded-For` of its client as it is, so nodes must not trust it unless a proxy in front
//! of it replaces that header. The app with Express replaces it.
//!
//! An app forwards to one node. Neither checks the health of a node, so nodes are not restarted here.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep};
use vaultsync_test_servers::{free_port, programs::in_path};
use vaultsync_testkit::node_project::{self, NodeProject};

use super::{nodes::Nodes, trial::Trial};
use crate::{Scale, Scenario, ScenarioContext, ScenarioReport, shell};

pub(super) const NEXT: Scenario = Scenario {
    name: "next",
    shows: "a node behind rewrites() of Next.js, which compresses responses",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(next(context)),
};

pub(super) const EXPRESS: Scenario = Scenario {
    name: "express",
    shows: "a node behind an app with Express and compression",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(express(context)),
};

const NEXT_PROGRAM: &str = "node_modules/next/dist/bin/next";
const EXPRESS_PROGRAM: &str = "compressing-proxy.mjs";

/// How long an app may take to start, on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

async fn next(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let project = project()?;
    let nodes = Nodes::start_with(&context, &[]).await?;
    let command = |arguments: &[&str]| {
        let mut command = project.node(NEXT_PROGRAM);
        command.args(arguments).env("VAULTSYNC_URL", nodes.servers[0].url());
        command.env("NEXT_TELEMETRY_DISABLED", "1");
        command
    };
    let mut build = without_network(command(&["build"]));
    tokio::task::spawn_blocking(move || node_project::run(&mut build)).await??;
    let port = free_port().to_string();
    let start = command(&["start", "--hostname", "127.0.0.1", "--port", &port]);
    let app = App::start(&start, Stdio::null())?;
    let url = format!("http://127.0.0.1:{port}");
    app.wait_until_it_answers(&url).await?;
    let trial = trial(&context, &nodes, url, &package(&project, "next")?)?;
    try_out(trial.without_addresses(), &nodes, context.scale).await
}

async fn express(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let project = project()?;
    let nodes = Nodes::start(&context).await?;
    let mut command = project.node(EXPRESS_PROGRAM);
    command.arg(nodes.servers[0].url());
    let mut app = App::start(&command, Stdio::piped())?;
    let mut port = String::new();
    let stdout = app.0.stdout.take().context("it is piped")?;
    BufReader::new(stdout).read_line(&mut port)?;
    let url = format!("http://127.0.0.1:{}", port.trim());
    app.wait_until_it_answers(&url).await?;
    let programs =
        format!("{}, {}", package(&project, "express")?, package(&project, "compression")?);
    try_out(trial(&context, &nodes, url, &programs)?, &nodes, context.scale).await
}

fn trial<'a>(
    context: &'a ScenarioContext,
    nodes: &Nodes,
    url: String,
    packages: &str,
) -> anyhow::Result<Trial<'a>> {
    let programs = format!("{packages}, Node {}", shell::run("node", &["--version"])?);
    Trial::new(context, url, &nodes.servers, programs)
}

async fn try_out(
    mut trial: Trial<'_>,
    nodes: &Nodes,
    scale: Scale,
) -> anyhow::Result<ScenarioReport> {
    trial.check().await?;
    if scale == Scale::Full {
        trial.outage(&nodes.postgres).await?;
    }
    trial.finish(&nodes.servers, &nodes.database)
}

/// Installs both apps below `target`.
fn project() -> anyhow::Result<NodeProject> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().context("this package is in no workspace")?;
    let files = ["package.json", "package-lock.json", "next.config.mjs", "pages/index.js"];
    let project =
        NodeProject::install(&tests.join("node"), &files, root.join("target/deployments/node"))?;
    let proxy = root.join("crates/server/tests/node").join(EXPRESS_PROGRAM);
    std::fs::copy(proxy, project.folder().join(EXPRESS_PROGRAM))?;
    Ok(project)
}

/// The name and the version of an installed package.
fn package(project: &NodeProject, name: &str) -> anyhow::Result<String> {
    let file = project.folder().join("node_modules").join(name).join("package.json");
    let package: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
    Ok(format!("{name} {}", package["version"].as_str().context("no version")?))
}

/// The command in a network namespace of its own, if this process may create one: a build that downloads
/// something would fail.
fn without_network(command: Command) -> Command {
    if shell::is_root() && in_path("unshare").is_some() {
        return wrapped("unshare", &["--net"], &command);
    }
    command
}

/// A program that runs a command, with the command's folder and variables.
fn wrapped(program: &str, arguments: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(program);
    wrapped.args(arguments).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        wrapped.env(name, value.unwrap_or_default());
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

/// A shell that runs a command until its standard input ends, which it does when the process at its other end exits,
/// even if that process is killed.
const GUARD: &str = r#""$@" & read -r _; kill -s KILL $!"#;

/// A running app. It is killed when it is dropped, and when this process ends.
struct App(Child);

impl App {
    fn start(command: &Command, stdout: Stdio) -> anyhow::Result<Self> {
        let mut guarded = wrapped("sh", &["-c", GUARD, "sh"], command);
        guarded.stdin(Stdio::piped()).stdout(stdout);
        Ok(Self(guarded.spawn().context("sh cannot be run")?))
    }

    async fn wait_until_it_answers(&self, url: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        while reqwest::get(format!("{url}/api/sync/info")).await.is_err() {
            ensure!(began.elapsed() < START_MAX, "the app does not answer");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

impl Drop for App {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // An error here does not change what was found.
        let _ = self.0.wait();
    }
}
