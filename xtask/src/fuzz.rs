//! `cargo xtask fuzz`: fuzzed input for everything that parses untrusted data.
//!
//! Not here: the targets and their assertions (`fuzz/fuzz_targets`).

use std::process::Command;

use anyhow::bail;
use clap::{Args, ValueEnum};
use vaultsync_test_servers::programs::in_path;

use crate::steps::{cargo, run_one};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The target to run [default: all targets, one after the other]
    #[arg(value_enum)]
    target: Option<Target>,
    /// Number of inputs per target
    #[arg(long, default_value_t = 1_000_000)]
    runs: u64,
    /// Time limit per target, in seconds
    #[arg(long, default_value_t = 3600)]
    seconds_max: u32,
}

/// A file in `fuzz/fuzz_targets`.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Target {
    PushJson,
    PullJson,
    RecordsJson,
    Cursor,
    Token,
    Jwks,
    ConfigFile,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::PushJson => "push_json",
            Self::PullJson => "pull_json",
            Self::RecordsJson => "records_json",
            Self::Cursor => "cursor",
            Self::Token => "token",
            Self::Jwks => "jwks",
            Self::ConfigFile => "config_file",
        }
    }
}

/// Runs the targets until one of them finds a failure.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if in_path("cargo-fuzz").is_none() {
        bail!("cargo-fuzz is not installed; install it with: cargo install --locked cargo-fuzz");
    }
    let all = Target::value_variants();
    for target in options.target.as_ref().map_or(all, std::slice::from_ref) {
        run_one(target.name(), &mut command(*target, options))?;
    }
    Ok(())
}

fn command(target: Target, options: &Options) -> Command {
    let name = target.name();
    // An address sanitizer needs a nightly compiler, and there is no unsafe code here for it to check.
    let mut command = cargo(&["fuzz", "run", "--sanitizer", "none", name, "--"]);
    command
        .arg(format!("-dict=fuzz/dictionaries/{name}"))
        .arg(format!("-runs={}", options.runs))
        .arg(format!("-max_total_time={}", options.seconds_max))
        .args(["-max_len=2048", "-timeout=10", "-print_final_stats=1"])
        // The fuzzer needs the compiler's coverage flags, which a stable compiler accepts only with this.
        .env("RUSTC_BOOTSTRAP", "1");
    command
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_target_has_a_file_a_dictionary_and_a_name() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let mut files: Vec<_> = fs::read_dir(fuzz.join("fuzz_targets"))
            .expect("the folder of targets")
            .map(|file| file.expect("a target").path().with_extension(""))
            .map(|path| path.file_name().expect("a name").display().to_string())
            .collect();
        files.sort();
        let mut names: Vec<_> = Target::value_variants().iter().map(|one| one.name()).collect();
        names.sort_unstable();
        assert_eq!(files, names);
        for name in names {
            assert!(fuzz.join("dictionaries").join(name).is_file(), "{name}");
            assert!(Target::from_str(name, false).is_ok(), "{name}");
        }
    }
}
