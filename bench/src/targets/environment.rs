//! The environment that targets share, and the processes that are measured.

use std::{
    fs,
    path::PathBuf,
    process::{self, Command, Stdio},
    sync::OnceLock,
};

use anyhow::Context as _;
use tempfile::TempDir;
use vaultsync_test_servers::PostgresServer;

use crate::record_ids::RecordIds;

/// What targets share: a folder, and a PostgreSQL server that is started at first use.
pub(crate) struct Environment {
    folder: TempDir,
    postgres: OnceLock<PostgresServer>,
    /// The folder of the Node server and its packages, if they are installed.
    pub(crate) node_baseline: Option<PathBuf>,
    /// Ids of the records that every target writes.
    pub(crate) ids: RecordIds,
}

impl Environment {
    pub(crate) fn new(node_baseline: Option<PathBuf>, ids: RecordIds) -> anyhow::Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, postgres: OnceLock::new(), node_baseline, ids })
    }

    /// The folder with this name, which is created if it does not exist.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// The PostgreSQL server, on which every target has its own database.
    pub(crate) fn postgres(&self) -> &PostgresServer {
        // PostgreSQL's defaults, which the test server overrides.
        let settings = [("shared_buffers", "128MB"), ("max_wal_size", "1GB")];
        self.postgres.get_or_init(|| PostgresServer::start_with(&settings))
    }

    /// The id of the PostgreSQL server's main process.
    pub(crate) fn postgres_process(&self) -> anyhow::Result<u32> {
        let file = self.postgres().folder().join("postmaster.pid");
        let text = fs::read_to_string(file)?;
        Ok(text.lines().next().context("postmaster.pid is empty")?.trim().parse()?)
    }

    /// The version of PostgreSQL, if it was started.
    pub(crate) fn postgres_version(&self) -> Option<String> {
        let server = self.postgres.get()?;
        Some(server.query("postgres", "show server_version").trim().to_owned())
    }
}

/// A process that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Child(process::Child);

impl Child {
    /// Starts a process without standard input, whose standard error is this process's.
    pub(crate) fn start(command: &mut Command, stdout: Stdio) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(stdout);
        let program = command.get_program().display().to_string();
        Ok(Self(command.spawn().with_context(|| format!("{program} cannot be started"))?))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Its standard output, if it is piped.
    pub(crate) fn stdout(&mut self) -> anyhow::Result<process::ChildStdout> {
        self.0.stdout.take().context("its standard output is not available")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
