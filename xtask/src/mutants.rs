//! `cargo xtask mutants`: breaks the rules one by one, and sees whether a test fails.
//!
//! Not here: what is left out, with the reason for each (`.cargo/mutants.toml`).

use std::{fs, path::Path, process::Command};

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use vaultsync_test_servers::programs::in_path;

use crate::steps::cargo;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which rules to break; all of them, one after the other, where it is not said
    #[arg(value_enum)]
    rules: Option<Rules>,
    /// How many to try at the same time
    #[arg(long, default_value_t = 2)]
    jobs: u32,
}

/// Rules that a mistake in would break a promise without any noise.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rules {
    /// What a request may say: cursor, times, versions, records
    Requests,
    /// Whether a push is applied, and what is remembered of it
    Judging,
    /// Who is signed in
    SignIn,
}

impl Rules {
    const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Judging => "judging",
            Self::SignIn => "sign-in",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Requests => "vaultsync-protocol",
            Self::Judging => "vaultsync-store",
            Self::SignIn => "vaultsync-server",
        }
    }

    const fn files(self) -> &'static [&'static str] {
        match self {
            Self::Requests => &["crates/protocol/src/*.rs"],
            Self::Judging => &["crates/store/src/judge.rs", "crates/store/src/receipts.rs"],
            Self::SignIn => &[
                "crates/server/src/auth/bearer.rs",
                "crates/server/src/auth/claims*.rs",
                "crates/server/src/auth/jwks.rs",
                "crates/server/src/auth/keys.rs",
                "crates/server/src/auth/mod.rs",
                "crates/server/src/auth/remembered.rs",
                "crates/server/src/auth/strict_json.rs",
                "crates/server/src/auth/token.rs",
            ],
        }
    }

    /// The tests that are to notice: those that notice most and are quickly built, and those for
    /// what is left. Most of those on PostgreSQL hold it to the same as SQLite, and take longer.
    const fn tests(self) -> &'static [Tests] {
        match self {
            Self::Requests => &[Tests { files: &["--lib"], names: &[] }],
            Self::Judging => &[
                Tests {
                    files: &["--lib", "--test=conformance"],
                    names: &["sqlite", "judge", "receipts"],
                },
                Tests { files: &["--test=postgres"], names: &["groups"] },
            ],
            Self::SignIn => &[
                Tests { files: &["--test=sign_in"], names: &[] },
                Tests { files: &["--lib"], names: &["auth"] },
            ],
        }
    }
}

/// Some of a package's tests.
struct Tests {
    /// Options of `cargo test`: no other file is built, and to link one takes the most time.
    files: &'static [&'static str],
    /// What a test's name must have one of; all of them, where there is none.
    names: &'static [&'static str],
}

/// Fails where one was not noticed, and says which.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if in_path("cargo-mutants").is_none() {
        bail!(
            "cargo-mutants is not installed; install it with: cargo install --locked cargo-mutants"
        );
    }
    let all = Rules::value_variants();
    let mut missed = String::new();
    for rules in options.rules.as_ref().map_or(all, std::slice::from_ref) {
        let folder = root().join("target/mutants").join(rules.name());
        fs::create_dir_all(&folder)?;
        for (pass, tests) in rules.tests().iter().enumerate() {
            let mut command = command(*rules, options.jobs, &folder);
            if pass > 0 {
                command.arg("--iterate");
            }
            command.args(tests.files.iter().map(|file| format!("--cargo-arg={file}")));
            let status = command.args(["--", "--"]).args(tests.names).status()?;
            // 2: some were missed, which a file tells by name. 3: one hung, and so was noticed.
            if !matches!(status.code(), Some(0 | 2 | 3)) {
                bail!("cargo-mutants failed for {} ({status})", rules.name());
            }
        }
        missed.push_str(&fs::read_to_string(folder.join("mutants.out/missed.txt"))?);
    }
    ensure!(missed.is_empty(), "no test noticed these:\n{missed}");
    Ok(())
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn command(rules: Rules, jobs: u32, folder: &Path) -> Command {
    let package = rules.package();
    let mut command = cargo(&["mutants", "--package", package, "--test-package", package]);
    for file in rules.files() {
        command.args(["--file", file]);
    }
    command
        .args(["--jobs", &jobs.to_string(), "--output"])
        .arg(folder)
        // Most of the time is the linker's.
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_where_it_is_looked_for() {
        for rules in Rules::value_variants() {
            for file in rules.files() {
                let (folder, name) = file.rsplit_once('/').expect("a folder");
                let (start, _) = name.split_once(['*', '.']).expect("an extension");
                let mut files = fs::read_dir(root().join(folder))
                    .expect("the folder")
                    .map(|file| file.expect("a file").file_name());
                assert!(files.any(|name| name.to_string_lossy().starts_with(start)), "{file}");
            }
        }
    }
}
