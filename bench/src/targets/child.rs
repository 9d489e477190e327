//! Processes that are measured, and where they find what they need.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::OnceLock,
};

use anyhow::Context as _;
use tempfile::TempDir;
use vaultsync_test_servers::PostgresServer;

/// What targets have in common: a folder, and a PostgreSQL server that is started at first use.
pub(crate) struct Bench {
    folder: TempDir,
    postgres: OnceLock<PostgresServer>,
    /// The folder of the Node server with its packages, where they are installed.
    pub(crate) node_baseline: Option<PathBuf>,
}

impl Bench {
    pub(crate) fn new(node_baseline: Option<PathBuf>) -> anyhow::Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, postgres: OnceLock::new(), node_baseline })
    }

    /// A folder of that name, made if it is not there.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// The one server that every target on PostgreSQL has a database of its own on.
    pub(crate) fn postgres(&self) -> &PostgresServer {
        // The memory and the log that PostgreSQL has where nothing is set.
        let settings = [("shared_buffers", "128MB"), ("max_wal_size", "1GB")];
        self.postgres.get_or_init(|| PostgresServer::start_with(&settings))
    }

    /// The first process of the PostgreSQL server.
    pub(crate) fn postgres_process(&self) -> anyhow::Result<u32> {
        let file = self.postgres().folder().join("postmaster.pid");
        let text = fs::read_to_string(file)?;
        Ok(text.lines().next().context("an empty postmaster.pid")?.trim().parse()?)
    }

    /// The version of PostgreSQL, where it was needed.
    pub(crate) fn postgres_version(&self) -> Option<String> {
        let server = self.postgres.get()?;
        Some(server.query("postgres", "show server_version").trim().to_owned())
    }
}

/// A process that ends with this value.
#[derive(Debug)]
pub(crate) struct Child(process::Child);

impl Child {
    /// Starts it, with nothing to read and its words on this process's standard error.
    pub(crate) fn start(command: &mut Command, stdout: Stdio) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(stdout);
        let shown = command.get_program().display().to_string();
        Ok(Self(command.spawn().with_context(|| format!("{shown} cannot be started"))?))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// What it writes, where that was to be kept.
    pub(crate) fn output(&mut self) -> anyhow::Result<process::ChildStdout> {
        self.0.stdout.take().context("its output is read already")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program `vaultsync`, which is built beside this one.
pub(crate) fn vaultsync() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let program = this.parent().unwrap_or(Path::new(".")).join("vaultsync");
    anyhow::ensure!(program.is_file(), "{} is not built", program.display());
    Ok(program)
}
