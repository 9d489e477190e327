//! The programs that steps need beside cargo: found, installed, or asked for.
//!
//! Not here: what is done with them, and where the servers' programs are (`test-servers`).

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use vaultsync_test_servers::programs::{NATS_SERVER, PGBOUNCER, POSTGRES, in_path};

use crate::steps::Step;

/// A program that steps need.
#[derive(Debug)]
pub(crate) struct Tool {
    /// What people call it.
    name: &'static str,
    /// Why it is needed, as the end of a sentence.
    why: &'static str,
    steps: &'static [Step],
    /// The variable that names it, if it has one. The steps are given it too.
    variable: Option<&'static str>,
    /// Its names in `PATH`, or whole paths, as `in_path` takes them; the first that is there is
    /// taken.
    programs: &'static [&'static str],
    /// Its package in Debian and its kin.
    apt: &'static str,
    /// Commands that install it elsewhere.
    elsewhere: &'static [&'static str],
}

/// Every tool. Another one is another entry.
const TOOLS: &[Tool] = &[
    Tool {
        name: "a C compiler",
        why: "SQLite and the cryptography are compiled from C",
        steps: &[Step::Clippy, Step::Docs, Step::Tests, Step::Instructions],
        variable: None,
        programs: &["cc"],
        apt: "build-essential",
        elsewhere: &["dnf install gcc make", "xcode-select --install"],
    },
    Tool {
        name: "curl",
        why: "tests paste the commands that the server prints",
        steps: &[Step::Tests],
        variable: None,
        programs: &["curl"],
        apt: "curl",
        elsewhere: &["dnf install curl", "brew install curl"],
    },
    Tool {
        name: "Chromium",
        why: "a test opens the API's page in a real browser",
        steps: &[Step::Tests],
        variable: Some("VAULTSYNC_TEST_CHROMIUM"),
        programs: &[
            "chromium",
            "chromium-browser",
            "google-chrome",
            "/Applications/Chromium.app/Contents/MacOS/Chromium",
            "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        ],
        apt: "chromium",
        elsewhere: &["dnf install chromium", "brew install --cask chromium"],
    },
    Tool {
        name: "PostgreSQL's server",
        why: "tests start servers of their own",
        steps: &[Step::Tests],
        variable: Some(POSTGRES.variable),
        programs: POSTGRES.names,
        // On Debian it comes with a running server, which nothing here touches.
        apt: "postgresql",
        elsewhere: &["dnf install postgresql-server", "brew install postgresql@17"],
    },
    Tool {
        name: "PgBouncer",
        why: "tests put it before their PostgreSQL servers",
        steps: &[Step::Tests],
        variable: Some(PGBOUNCER.variable),
        programs: PGBOUNCER.names,
        apt: "pgbouncer",
        elsewhere: &["dnf install pgbouncer", "brew install pgbouncer"],
    },
    Tool {
        name: "nats-server",
        why: "tests start servers of their own",
        steps: &[Step::Tests],
        variable: Some(NATS_SERVER.variable),
        programs: NATS_SERVER.names,
        apt: "nats-server",
        elsewhere: &[
            "go install github.com/nats-io/nats-server/v2@latest",
            "brew install nats-server",
        ],
    },
    Tool {
        name: "Valgrind",
        why: "the instructions of the hot paths are counted in it",
        steps: &[Step::Instructions],
        variable: None,
        programs: &["valgrind"],
        apt: "valgrind",
        elsewhere: &["dnf install valgrind"],
    },
    Tool {
        name: "ps",
        why: "tests kill and pause whole servers, process by process",
        steps: &[Step::Tests],
        variable: None,
        programs: &["ps"],
        apt: "procps",
        elsewhere: &["dnf install procps-ng"],
    },
];

impl Tool {
    pub(crate) fn is_for(&self, step: Step) -> bool {
        self.steps.contains(&step)
    }

    /// Whether something is measured with it.
    pub(crate) fn is_for_bench(&self) -> bool {
        ["build-essential", "postgresql", "procps"].contains(&self.apt)
    }

    /// The program, where it is there.
    ///
    /// # Errors
    ///
    /// Where its variable names something that cannot be run: falling back to another program
    /// would hide the mistake.
    fn find(&self) -> anyhow::Result<Option<PathBuf>> {
        if let Some(variable) = self.variable
            && let Some(named) = env::var_os(variable).filter(|named| !named.is_empty())
        {
            let found = in_path(&named);
            ensure!(found.is_some(), "{variable} names {}, which is no program", named.display());
            return Ok(found);
        }
        Ok(self.programs.iter().find_map(in_path))
    }

    /// What to do by hand.
    fn advice(&self) -> String {
        let mut advice = format!(
            "{} is missing ({}). Install it:\n  apt-get install --no-install-recommends {}",
            self.name, self.why, self.apt
        );
        for line in self.elsewhere {
            advice.push_str("\n  ");
            advice.push_str(line);
        }
        if let Some(variable) = self.variable {
            advice.push_str("\nor set ");
            advice.push_str(variable);
            advice.push_str(" to its path.");
        }
        advice
    }
}

/// Finds the tools that are needed, or installs them, and gives the variables that name them.
///
/// # Errors
///
/// What to install, for all that are missing.
pub(crate) fn provide(
    needed: impl Fn(&Tool) -> bool,
) -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let needed: Vec<&Tool> = TOOLS.iter().filter(|tool| needed(tool)).collect();
    let mut missing = Vec::new();
    for tool in &needed {
        if tool.find()?.is_none() {
            missing.push(*tool);
        }
    }
    if !missing.is_empty() && can_install() {
        // What it could not do is told below with the advice for each tool.
        if let Err(error) = install(&missing) {
            eprintln!("xtask: {error:#}");
        }
    }

    let mut variables = Vec::new();
    let mut advice = Vec::new();
    for tool in needed {
        match (tool.find()?, tool.variable) {
            (Some(path), Some(variable)) => variables.push((variable, path)),
            (Some(_), None) => {}
            (None, _) => advice.push(tool.advice()),
        }
    }
    ensure!(advice.is_empty(), "{}", advice.join("\n\n"));
    Ok(variables)
}

/// Whether packages can be installed without asking anybody: as root, on a system with apt.
fn can_install() -> bool {
    let root = || {
        Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
    };
    in_path("apt-get").is_some() && root()
}

fn install(tools: &[&Tool]) -> anyhow::Result<()> {
    apt_get(&["update"])?;
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(tools.iter().map(|tool| tool.apt));
    apt_get(&arguments)
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let shown = arguments.join(" ");
    eprintln!("\n=== tools: apt-get {shown} ===");
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("apt-get cannot be run")?;
    if !status.success() {
        bail!("apt-get {shown} failed ({status})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_what_installs_it() {
        for tool in TOOLS {
            let advice = tool.advice();
            assert!(advice.contains("apt-get install"), "{advice}");
            for line in tool.elsewhere {
                assert!(advice.contains(line), "{advice}");
            }
        }
    }
}
