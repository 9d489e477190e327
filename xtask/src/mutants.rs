//! `cargo xtask mutants`: introduces mistakes one by one, and checks that a test fails.
//!
//! Not here: the mutations that are excluded, with the reason for each (`.cargo/mutants.toml`).

use std::{fs, path::Path, process::Command};

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use vaultsync_test_servers::programs::in_path;

use crate::steps::cargo;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The rules to break [default: all rules, one after the other]
    #[arg(value_enum)]
    rules: Option<Rules>,
    /// Number of mutations to test in parallel
    #[arg(long, default_value_t = 2)]
    jobs: u32,
}

/// Rules whose violation would silently break a promise.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rules {
    /// The format of requests: cursor, times, versions, records
    Requests,
    /// Whether a push is applied, and its receipt
    VersionChecks,
    /// What a vault may hold, which versions are kept, what is removed, and where pages end
    Contents,
    /// Who is authenticated
    SignIn,
}

impl Rules {
    const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::VersionChecks => "version-checks",
            Self::Contents => "contents",
            Self::SignIn => "sign-in",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Requests => "vaultsync-protocol",
            Self::VersionChecks | Self::Contents => "vaultsync-store",
            Self::SignIn => "vaultsync-server",
        }
    }

    const fn files(self) -> &'static [&'static str] {
        match self {
            Self::Requests => &[
                "crates/protocol/src/*.rs",
                "crates/protocol/src/history/*.rs",
                "crates/protocol/src/pull/*.rs",
                "crates/protocol/src/push/*.rs",
                "crates/protocol/src/records/*.rs",
            ],
            Self::VersionChecks => &[
                "crates/store/src/check_version.rs",
                "crates/store/src/push_plan.rs",
                "crates/store/src/receipts.rs",
            ],
            Self::Contents => &[
                "crates/store/src/counters.rs",
                "crates/store/src/history.rs",
                "crates/store/src/history_page.rs",
                "crates/store/src/maintenance.rs",
                "crates/store/src/manifest.rs",
                "crates/store/src/pull.rs",
                "crates/store/src/quotas.rs",
                "crates/store/src/records.rs",
                "crates/store/src/revisions.rs",
                "crates/store/src/rewind.rs",
                "crates/store/src/usage.rs",
            ],
            Self::SignIn => &[
                "crates/server/src/auth/bearer.rs",
                "crates/server/src/auth/claims*.rs",
                "crates/server/src/auth/jwks.rs",
                "crates/server/src/auth/keys.rs",
                "crates/server/src/auth/mod.rs",
                "crates/server/src/auth/token_cache.rs",
                "crates/server/src/auth/strict_json.rs",
                "crates/server/src/auth/token.rs",
            ],
        }
    }

    /// The tests that should fail, in passes: first those that catch most mutations and are built quickly,
    /// then those for the rest. Most tests on PostgreSQL check the same as on SQLite, but take longer.
    const fn tests(self) -> &'static [Tests] {
        match self {
            Self::Requests => &[Tests { files: &["--lib"], names: &[] }],
            Self::VersionChecks => &[
                Tests {
                    files: &["--lib", "--test=conformance"],
                    names: &["sqlite", "check_version", "push_plan", "receipts"],
                },
                Tests { files: &["--test=postgres"], names: &["push_batches"] },
            ],
            Self::Contents => &[Tests {
                files: &["--lib", "--test=conformance"],
                names: &["sqlite", "history::", "quotas::", "rewind::", "maintenance::"],
            }],
            Self::SignIn => &[
                Tests { files: &["--test=sign_in"], names: &[] },
                Tests { files: &["--lib"], names: &["auth"] },
            ],
        }
    }
}

/// Some of a package's tests.
struct Tests {
    /// Options of `cargo test` that select test binaries: linking them takes the most time.
    files: &'static [&'static str],
    /// Filters for the names of tests; empty for all tests.
    names: &'static [&'static str],
}

/// Runs the mutations. Fails if no test noticed some of them, and lists them.
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
            // 2: some were missed, and a file lists them. 3: a test timed out, so the mutation was noticed.
            if !matches!(status.code(), Some(0 | 2 | 3)) {
                bail!("cargo-mutants failed for {} ({status})", rules.name());
            }
        }
        missed.push_str(&fs::read_to_string(folder.join("mutants.out/missed.txt"))?);
    }
    ensure!(missed.is_empty(), "no test noticed these mutations:\n{missed}");
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
        // Linking takes most of the time.
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_exists() {
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
