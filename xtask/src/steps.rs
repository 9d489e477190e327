//! The steps of `cargo xtask test`, and how cargo is run.
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

/// The cargo profile of everything that is measured or runs for long.
pub(crate) const PROFILE: &str = "dist";

/// A step. The variants are in the order in which they run: those that fail fastest come first.
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

    /// The arguments of cargo, without those of the caller.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Fmt => &["fmt", "--all", "--check"],
            Self::Clippy => {
                &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]
            }
            Self::Docs => &["doc", "--workspace", "--no-deps", "--locked"],
            // Plain `cargo test`, because a new machine has no other test runner, and because it also runs
            // the examples in the documentation.
            Self::Tests => &["test", "--workspace", "--locked"],
            Self::Instructions => instructions::BUILD,
        }
    }
}

/// Runs the steps one after the other, until one fails.
///
/// All tools that the steps need are found first: an hour of compiling should not end with a missing
/// program.
pub(crate) fn run(steps: &[Step], test_arguments: &[String]) -> anyhow::Result<()> {
    let variables = tools::provide(|tool: &Tool| steps.iter().any(|step| tool.is_for(*step)))?;
    let total = Stopwatch::start();
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
    eprintln!("\n=== all passed in {} ===", total.elapsed());
    Ok(())
}

/// Runs cargo-deny. It is not part of `test`, because building it takes minutes.
pub(crate) fn deny() -> anyhow::Result<()> {
    if in_path("cargo-deny").is_none() {
        bail!("cargo-deny is not installed; install it with: cargo install --locked cargo-deny");
    }
    // Advisories are not checked, because they need a database from the network.
    let mut command = cargo(&["deny", "check", "bans", "licenses", "sources"]);
    run_one("deny", &mut command)
}

/// Counts the instructions of the hot paths, and saves the counts for comparison.
pub(crate) fn save_instructions() -> anyhow::Result<()> {
    tools::provide(|tool: &Tool| tool.is_for(Step::Instructions))?;
    run_one("instructions", &mut cargo(instructions::BUILD))?;
    instructions::save()
}

/// Builds the server, and runs the example that starts several of its processes on one database.
pub(crate) fn demo_cluster(seconds: u32) -> anyhow::Result<()> {
    let variables = tools::provide(|tool: &Tool| tool.is_for(Step::Tests))?;
    run_one("build", &mut cargo_with_profile("build", &["--package", "vaultsync"]))?;
    let example = ["--package", "vaultsync", "--example", "demo_cluster", "--"];
    let mut command = cargo_with_profile("run", &example);
    command.arg(seconds.to_string()).envs(variables);
    run_one("demo-cluster", &mut command)
}

/// Builds the server, and runs the scenarios that inject faults.
pub(crate) fn faults(arguments: &[String]) -> anyhow::Result<()> {
    scenarios("faults", |tool| tool.is_for(Step::Tests), arguments)
}

/// Builds the server, and runs it in each deployment.
pub(crate) fn deployments(arguments: &[String]) -> anyhow::Result<()> {
    scenarios("deployments", Tool::is_for_deployments, arguments)
}

fn scenarios(
    list: &str,
    needs: impl Fn(&Tool) -> bool,
    arguments: &[String],
) -> anyhow::Result<()> {
    let runs = !arguments.iter().any(|one| ["--list", "--help", "-h"].contains(&&**one));
    let variables = tools::provide(|tool: &Tool| runs && needs(tool))?;
    if runs {
        run_one("build", &mut cargo_with_profile("build", &["--package", "vaultsync"]))?;
    }
    let mut command = cargo_with_profile("run", &["--package", "vaultsync-fault-tests", "--"]);
    command.arg(list).args(arguments).envs(variables);
    run_one(list, &mut command)
}

/// A cargo command that uses the `dist` profile.
fn cargo_with_profile(command: &str, arguments: &[&str]) -> Command {
    let mut cargo = cargo(&[command, "--profile", PROFILE, "--locked"]);
    cargo.args(arguments);
    cargo
}

/// A cargo command that runs in the root of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    // Cargo sets this variable to itself; the cargo in `PATH` could be another version.
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(root) = Path::new(env!("CARGO_MANIFEST_DIR")).parent() {
        command.current_dir(root);
    }
    command
}

pub(crate) fn run_one(name: &str, command: &mut Command) -> anyhow::Result<()> {
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    eprintln!("\n=== {name}: cargo {} ===", arguments.join(" "));
    let stopwatch = Stopwatch::start();
    let status = command
        .status()
        .with_context(|| format!("{} cannot be run", command.get_program().display()))?;
    if !status.success() {
        bail!("{name} FAILED after {} ({status})", stopwatch.elapsed());
    }
    eprintln!("=== {name}: passed in {} ===", stopwatch.elapsed());
    Ok(())
}

/// Measures how long something takes.
struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "the time is only printed")]
    fn start() -> Self {
        Self(Instant::now())
    }

    fn elapsed(&self) -> String {
        format!("{:.1} s", self.0.elapsed().as_secs_f64())
    }
}
