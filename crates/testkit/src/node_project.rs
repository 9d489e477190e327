//! Projects in Node, installed from their lock files into folders below `target`.
//!
//! Not here: the installation of Node.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, ensure};

/// An installed project.
#[derive(Clone, Debug)]
pub struct NodeProject {
    folder: PathBuf,
}

impl NodeProject {
    /// Copies files, `package.json` and `package-lock.json` among them, from one folder to another, and
    /// installs the packages there unless they are. That needs the network, unless npm has them in its cache.
    /// No script of a package is run.
    ///
    /// # Errors
    ///
    /// The output of npm, if it fails.
    pub fn install(from: &Path, files: &[&str], folder: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&folder)?;
        // Some test runners start a process for each test.
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        for file in files {
            let to = folder.join(file);
            fs::create_dir_all(to.parent().unwrap_or(&folder))?;
            fs::copy(from.join(file), to).with_context(|| format!("{file} cannot be copied"))?;
        }
        let project = Self { folder };
        let wanted = fs::read(project.folder.join("package-lock.json"))?;
        let installed = project.folder.join("node_modules/installed-lock.json");
        if fs::read(&installed).ok().as_ref() != Some(&wanted) {
            let mut npm = Command::new("npm");
            npm.args(["ci", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"]);
            run(npm.current_dir(&project.folder))?;
            fs::write(installed, wanted)?;
        }
        Ok(project)
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Node with a script of the project.
    pub fn node(&self, script: &str) -> Command {
        let mut command = Command::new("node");
        command.arg(script).current_dir(&self.folder);
        command
    }

    /// A command of an installed package.
    pub fn package_program(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join("node_modules/.bin").join(name));
        command.current_dir(&self.folder);
        command
    }
}

/// Runs a command, and returns its output.
///
/// # Errors
///
/// The output, if the command fails.
pub fn run(command: &mut Command) -> anyhow::Result<Output> {
    let name = command.get_program().to_owned();
    let output = command.output().with_context(|| {
        format!("{} cannot be run: `cargo xtask test` installs Node", name.display())
    })?;
    ensure!(
        output.status.success(),
        "{} failed ({}):\n{}\n{}",
        name.display(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    Ok(output)
}
