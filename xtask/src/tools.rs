//! The programs that steps need beside cargo: found, installed, or asked for.
//!
//! Not here: what is done with them.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

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
    /// Its names in `PATH`, or whole paths; the first that is there is taken.
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
        steps: &[Step::Clippy, Step::Docs, Step::Tests],
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
];

impl Tool {
    pub(crate) fn is_for(&self, step: Step) -> bool {
        self.steps.contains(&step)
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

/// The program of that name in `PATH`, or at that path.
pub(crate) fn in_path(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = Path::new(program.as_ref());
    let path = env::var_os("PATH").unwrap_or_default();
    find_in(env::split_paths(&path), program)
}

fn find_in(folders: impl Iterator<Item = PathBuf>, program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return is_program(program).then(|| program.to_owned());
    }
    folders.map(|folder| folder.join(program)).find(|candidate| is_program(candidate))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_a_folder_or_at_its_path() {
        let own = env::current_exe().expect("this program's path");
        let folder = own.parent().expect("its folder").to_owned();
        let name = Path::new(own.file_name().expect("its name"));
        let folders = || [PathBuf::from("/nowhere"), folder.clone()].into_iter();
        assert_eq!(find_in(folders(), name), Some(own.clone()));
        assert_eq!(find_in([].into_iter(), &own), Some(own));
        assert_eq!(find_in(folders(), Path::new("no-such-program")), None);
        assert_eq!(find_in(folders(), Path::new("/no/such/program")), None);
    }

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
