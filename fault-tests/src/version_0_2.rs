//! The server of version 0.2, built from the history of the repository.
//!
//! Not here: the scenarios of the upgrade from it (`scenarios/upgrade.rs`).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::shell::run;

/// The file that changed the tables of version 0.2. The commit before the one that added it is the last one whose
/// servers know the tables of version 0.2 alone.
const FIRST_MIGRATION: &str = "crates/store/migrations/postgres/V2__vault_names_and_counters.sql";

/// The built server, and the commit that it was built from.
#[derive(Clone, Debug)]
pub struct Version02 {
    /// The built `vaultsync`.
    pub program: PathBuf,
    /// The beginning of the commit's hash.
    pub commit: String,
}

/// Builds the server below `target`, unless it is built. It has the locked dependencies of this tree, so nothing
/// is downloaded.
///
/// # Errors
///
/// If there is no git history, such as in a source archive, or if the build fails.
pub fn build() -> anyhow::Result<Version02> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().context("the tests are in the repository")?;
    let commit = commit(root)?;
    let folder = root.join("target").join("version-0.2");
    let source = folder.join(&commit);
    if !source.is_dir() {
        extract(root, &commit, &source)?;
    }
    let target = folder.join("build");
    let (arguments, profile) =
        if cfg!(debug_assertions) { (&[][..], "debug") } else { (&["--release"][..], "release") };
    eprintln!("building version 0.2 from commit {commit} in {}", folder.display());
    let manifest = text(&source.join("Cargo.toml"));
    let target_dir = text(&target);
    let build = ["build", "--offline", "--locked", "--package", "vaultsync", "--bin", "vaultsync"];
    let paths = ["--manifest-path", &manifest, "--target-dir", &target_dir];
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    run(&cargo, &[&build[..], &paths, arguments].concat())?;
    Ok(Version02 { program: target.join(profile).join("vaultsync"), commit })
}

/// The last commit of version 0.2.
fn commit(root: &Path) -> anyhow::Result<String> {
    let root = text(root);
    let git = |arguments: &[&str]| run("git", &[&["-C", &root], arguments].concat());
    let added = ["log", "-1", "--diff-filter=A", "--format=%H", "--", FIRST_MIGRATION];
    let added = git(&added).unwrap_or_default();
    if !added.is_empty()
        && let Ok(commit) = git(&["rev-parse", "--verify", "--quiet", &format!("{added}^")])
    {
        return Ok(commit.chars().take(12).collect());
    }
    bail!(
        "this scenario builds version 0.2 from the git history, and {root} has none that goes back to it. Run it \
         in a clone of the repository instead of a source archive; `git fetch --unshallow` completes a shallow one"
    )
}

/// Writes the files of a commit to a new folder.
fn extract(root: &Path, commit: &str, folder: &Path) -> anyhow::Result<()> {
    let partial = folder.with_extension("partial");
    if partial.is_dir() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    let archive = text(&folder.with_extension("tar"));
    run("git", &["-C", &text(root), "archive", "--output", &archive, commit])?;
    run("tar", &["-x", "-f", &archive, "-C", &text(&partial)])?;
    fs::remove_file(archive)?;
    fs::rename(partial, folder)?;
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_the_history_is_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = commit(folder.path()).expect_err("there is no history");
        assert!(error.to_string().contains("has none that goes back to it"), "{error}");
        for arguments in [
            &["init", "--quiet"][..],
            &[
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@a",
                "commit",
                "--quiet",
                "--allow-empty",
                "-ma",
            ],
        ] {
            run("git", &[&["-C", &text(folder.path())], arguments].concat()).expect("git");
        }
        commit(folder.path()).expect_err("the history begins later");
    }
}
