//! Programs of the system, run until they exit, and a small file system.
//!
//! Not here: the server's own processes (`vaultsync_testkit::process`).

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, bail};

/// Runs a command, and returns its standard output.
///
/// # Errors
///
/// Its standard error, if it fails.
pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {} failed ({}): {stderr}", arguments.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Whether this process may change mounts and network namespaces.
pub fn is_root() -> bool {
    run("id", &["-u"]).is_ok_and(|id| id == "0")
}

/// A small file system in memory that can run full. It is unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts a file system of this many KiB on a folder.
    pub fn mount(folder: PathBuf, kib: u32) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let size = format!("size={kib}k");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &folder.to_string_lossy()])?;
        Ok(Self(folder))
    }

    /// Enlarges it, as an operator would after an alert.
    pub fn grow(&self, kib: u32) -> anyhow::Result<()> {
        let size = format!("remount,size={kib}k");
        run("mount", &["-o", &size, &self.0.to_string_lossy()]).map(drop)
    }

    /// Its folder.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is stopping may still have files open.
        if let Err(error) = run("umount", &["-l", &self.0.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}
