//! Programs of the system, run to their end.
//!
//! Not here: the server's own processes (`process.rs`).

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, bail};

/// Runs a command, and gives what it printed.
///
/// # Errors
///
/// What it said, where it failed.
pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {} failed ({}): {told}", arguments.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Whether this process may change mounts and network namespaces.
pub fn is_root() -> bool {
    run("id", &["-u"]).is_ok_and(|id| id == "0")
}

/// A folder on a file system of its own in memory, so that it can be full. It goes when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of that many KiB.
    pub fn mount(folder: PathBuf, kib: u32) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let size = format!("size={kib}k");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &folder.to_string_lossy()])?;
        Ok(Self(folder))
    }

    /// Makes it larger, as an operator would who is paged.
    pub fn grow(&self, kib: u32) -> anyhow::Result<()> {
        let size = format!("remount,size={kib}k");
        run("mount", &["-o", &size, &self.0.to_string_lossy()]).map(drop)
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is just ending may hold files there.
        if let Err(error) = run("umount", &["-l", &self.0.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}
