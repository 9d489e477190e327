//! The programs that steps need in addition to cargo: they are found, installed, or requested.
//!
//! Not here: their use, and where the servers' programs are (`test-servers`).

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use vaultsync_test_servers::programs::{
    CADDY, HAPROXY, NATS_SERVER, NGINX, PGBOUNCER, POSTGRES, in_path,
};

use crate::steps::Step;

/// A program that steps need.
#[derive(Debug)]
pub(crate) struct Tool {
    /// Its name in messages.
    name: &'static str,
    /// Why it is needed.
    why: &'static str,
    steps: &'static [Step],
    /// The environment variable with its path, if it has one. It is set for the steps.
    variable: Option<&'static str>,
    /// Names in `PATH` or full paths, as `in_path` takes them; the first that exists is used.
    programs: &'static [&'static str],
    /// Its package in Debian and derived distributions.
    apt: &'static str,
    /// Commands that install it on other systems.
    elsewhere: &'static [&'static str],
}

/// All tools.
const TOOLS: &[Tool] = &[
    Tool {
        name: "a C compiler",
        why: "SQLite and the cryptography library are compiled from C",
        steps: &[Step::Clippy, Step::Docs, Step::Tests, Step::Instructions],
        variable: None,
        programs: &["cc"],
        apt: "build-essential",
        elsewhere: &["dnf install gcc make", "xcode-select --install"],
    },
    Tool {
        name: "curl",
        why: "tests run the curl commands that the server prints",
        steps: &[Step::Tests],
        variable: None,
        programs: &["curl"],
        apt: "curl",
        elsewhere: &["dnf install curl", "brew install curl"],
    },
    Tool {
        name: "Chromium",
        why: "a test opens the API documentation in a browser",
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
        name: "Node with npm",
        why: "tests lint the OpenAPI document, and run clients and a proxy that are written in Node",
        steps: &[Step::Tests],
        variable: None,
        programs: &["npm"],
        // On Debian it installs Node too.
        apt: "npm",
        elsewhere: &["dnf install nodejs-npm", "brew install node"],
    },
    Tool {
        name: "PostgreSQL",
        why: "tests start their own servers",
        steps: &[Step::Tests],
        variable: Some(POSTGRES.variable),
        programs: POSTGRES.names,
        // On Debian the package also starts a server, which the tests do not touch.
        apt: "postgresql",
        elsewhere: &["dnf install postgresql-server", "brew install postgresql@17"],
    },
    Tool {
        name: "PgBouncer",
        why: "tests run it in front of their PostgreSQL servers",
        steps: &[Step::Tests],
        variable: Some(PGBOUNCER.variable),
        programs: PGBOUNCER.names,
        apt: "pgbouncer",
        elsewhere: &["dnf install pgbouncer", "brew install pgbouncer"],
    },
    Tool {
        name: "nats-server",
        why: "tests start their own servers",
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
        name: "nginx",
        why: "a test restarts servers behind it",
        steps: &[Step::Tests],
        variable: Some(NGINX.variable),
        programs: NGINX.names,
        // On Debian the package also starts a server, which the tests do not touch.
        apt: "nginx",
        elsewhere: &["dnf install nginx", "brew install nginx"],
    },
    Tool {
        name: "Valgrind",
        why: "it counts the instructions of the hot paths",
        steps: &[Step::Instructions],
        variable: None,
        programs: &["valgrind"],
        apt: "valgrind",
        elsewhere: &["dnf install valgrind"],
    },
    Tool {
        name: "ps",
        why: "tests kill and suspend every process of a server",
        steps: &[Step::Tests],
        variable: None,
        programs: &["ps"],
        apt: "procps",
        elsewhere: &["dnf install procps-ng"],
    },
    // Only the deployments need the following.
    Tool {
        name: "Caddy",
        why: "servers are tried behind it",
        steps: &[],
        variable: Some(CADDY.variable),
        programs: CADDY.names,
        // On Debian the package also starts a server, which the deployments do not touch.
        apt: "caddy",
        elsewhere: &["dnf install caddy"],
    },
    Tool {
        name: "HAProxy",
        why: "servers are tried behind it",
        steps: &[],
        variable: Some(HAPROXY.variable),
        programs: HAPROXY.names,
        apt: "haproxy",
        elsewhere: &["dnf install haproxy"],
    },
    Tool {
        name: "systemd-analyze",
        why: "it checks the unit for systemd",
        steps: &[],
        variable: None,
        programs: &["systemd-analyze"],
        apt: "systemd",
        elsewhere: &["dnf install systemd"],
    },
];

impl Tool {
    pub(crate) fn is_for(&self, step: Step) -> bool {
        self.steps.contains(&step)
    }

    /// Whether the benchmark needs it.
    pub(crate) fn is_for_bench(&self) -> bool {
        ["build-essential", "postgresql", "procps"].contains(&self.apt)
    }

    /// Whether the deployments need it.
    pub(crate) fn is_for_deployments(&self) -> bool {
        let of_tests = ["build-essential", "npm", "postgresql", "pgbouncer", "nginx", "procps"];
        self.steps.is_empty() || of_tests.contains(&self.apt)
    }

    /// The path of the program, if it is installed.
    ///
    /// # Errors
    ///
    /// If its variable is set to something that is no program: using another program would hide the mistake.
    fn find(&self) -> anyhow::Result<Option<PathBuf>> {
        if let Some(variable) = self.variable
            && let Some(path) = env::var_os(variable).filter(|path| !path.is_empty())
        {
            let found = in_path(&path);
            ensure!(found.is_some(), "{variable} is {}, which is no program", path.display());
            return Ok(found);
        }
        Ok(self.programs.iter().find_map(in_path))
    }

    /// How to install it by hand.
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

/// Finds the needed tools or installs them, and returns the environment variables with their paths.
///
/// # Errors
///
/// How to install those that are missing.
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
        // If this fails, the advice for each missing tool follows below.
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

/// Whether packages can be installed: as root, on a system with apt.
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
    fn the_advice_for_a_missing_tool_says_how_to_install_it() {
        for tool in TOOLS {
            let advice = tool.advice();
            assert!(advice.contains("apt-get install"), "{advice}");
            for line in tool.elsewhere {
                assert!(advice.contains(line), "{advice}");
            }
        }
    }
}
