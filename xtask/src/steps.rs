//! The steps of `cargo xtask test`, and how one is run.
//!
//! Not here: the tools that steps need (`tools.rs`).

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::ValueEnum;
use vaultsync_test_servers::programs::in_path;

use crate::{
    instructions,
    tools::{self, Tool},
};

/// One step, in the order in which they are cheapest to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    Fmt,
    Clippy,
    Docs,
    Tests,
    Instructions,
}

impl Step {
    pub(crate) const ALL: [Self; 5] =
        [Self::Fmt, Self::Clippy, Self::Docs, Self::Tests, Self::Instructions];

    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Docs => "docs",
            Self::Tests => "tests",
            Self::Instructions => "instructions",
        }
    }

    /// What `cargo` is asked to do, without the arguments of the caller.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Fmt => &["fmt", "--all", "--check"],
            Self::Clippy => {
                &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]
            }
            Self::Docs => &["doc", "--workspace", "--no-deps", "--locked"],
            // Plain `cargo test`, because a fresh machine has no other runner and this one also
            // runs the examples in the documentation.
            Self::Tests => &["test", "--workspace", "--locked"],
            Self::Instructions => instructions::BUILD,
        }
    }
}

/// Runs the steps one after the other, up to the first that fails.
///
/// Every tool that any of them needs is found first: an hour of compiling should not end in a
/// missing program.
pub(crate) fn run(steps: &[Step], test_arguments: &[String]) -> anyhow::Result<()> {
    let variables = tools::provide(|tool: &Tool| steps.iter().any(|step| tool.is_for(*step)))?;
    let all = Watch::start();
    for step in steps {
        let mut command = cargo(step.arguments());
        command.envs(variables.iter().map(|(name, path)| (name, path)));
        match step {
            Step::Docs => {
                command.env("RUSTDOCFLAGS", "-D warnings");
            }
            Step::Tests => {
                command.args(test_arguments);
            }
            Step::Fmt | Step::Clippy | Step::Instructions => {}
        }
        run_one(step.name(), &mut command)?;
        if *step == Step::Instructions {
            instructions::compare()?;
        }
    }
    eprintln!("\n=== all passed in {} ===", all.shown());
    Ok(())
}

/// Runs cargo-deny, which is no part of `test`: building it takes minutes.
pub(crate) fn deny() -> anyhow::Result<()> {
    if in_path("cargo-deny").is_none() {
        bail!("cargo-deny is not installed; install it with: cargo install --locked cargo-deny");
    }
    // Advisories need a database from the network, so they are asked for by hand.
    let mut command = cargo(&["deny", "check", "bans", "licenses", "sources"]);
    run_one("deny", &mut command)
}

/// Counts the instructions of the hot paths, and keeps the counts as those to compare with.
pub(crate) fn save_instructions() -> anyhow::Result<()> {
    tools::provide(|tool: &Tool| tool.is_for(Step::Instructions))?;
    run_one("instructions", &mut cargo(instructions::BUILD))?;
    instructions::save()
}

/// Builds the program, and lets several processes of it serve from one database.
pub(crate) fn demo_cluster(seconds: u32) -> anyhow::Result<()> {
    let variables = tools::provide(|tool: &Tool| tool.is_for(Step::Tests))?;
    run_one("build", &mut cargo(&["build", "--release", "--locked", "--package", "vaultsync"]))?;
    let mut command = cargo(&[
        "run",
        "--release",
        "--locked",
        "--package",
        "vaultsync",
        "--example",
        "demo_cluster",
        "--",
    ]);
    command.arg(seconds.to_string()).envs(variables);
    run_one("demo-cluster", &mut command)
}

/// Builds the program, and lets it serve while scenarios break what it stands on.
pub(crate) fn faults(arguments: &[String]) -> anyhow::Result<()> {
    let variables = tools::provide(|tool: &Tool| tool.is_for(Step::Tests))?;
    run_one("build", &mut cargo(&["build", "--release", "--locked", "--package", "vaultsync"]))?;
    let mut command =
        cargo(&["run", "--release", "--locked", "--package", "vaultsync-fault-tests", "--"]);
    command.args(arguments).envs(variables);
    run_one("faults", &mut command)
}

/// Cargo, in the root of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    // Cargo tells whom it runs which cargo it is; another one could be another version.
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(root) = Path::new(env!("CARGO_MANIFEST_DIR")).parent() {
        command.current_dir(root);
    }
    command
}

pub(crate) fn run_one(name: &str, command: &mut Command) -> anyhow::Result<()> {
    let shown: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    eprintln!("\n=== {name}: cargo {} ===", shown.join(" "));
    let watch = Watch::start();
    let status = command
        .status()
        .with_context(|| format!("{} cannot be run", command.get_program().display()))?;
    if !status.success() {
        bail!("{name} FAILED after {} ({status})", watch.shown());
    }
    eprintln!("=== {name}: passed in {} ===", watch.shown());
    Ok(())
}

/// How long something takes.
struct Watch(Instant);

impl Watch {
    #[expect(
        clippy::disallowed_methods,
        reason = "only shown to whoever waits; nothing depends on it"
    )]
    fn start() -> Self {
        Self(Instant::now())
    }

    fn shown(&self) -> String {
        format!("{:.1} s", self.0.elapsed().as_secs_f64())
    }
}
