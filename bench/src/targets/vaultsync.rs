//! A build of this server with default settings, apart from rate limits.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use vaultsync_server::auth::LocalKey;

use super::{Child, Environment, HttpTarget, http::TokenSource};
use crate::record_ids::RecordIds;

/// A built `vaultsync`.
#[derive(Debug)]
pub(crate) struct Build {
    program: PathBuf,
    /// Further flags of `serve`.
    flags: Vec<String>,
    is_other: bool,
}

impl Build {
    /// The program that was built beside this one.
    pub(crate) fn this() -> anyhow::Result<Self> {
        let this = std::env::current_exe()?;
        let program = this.parent().context("this program has no folder")?.join("vaultsync");
        ensure!(program.is_file(), "{} is not built", program.display());
        Ok(Self { program, flags: Vec::new(), is_other: false })
    }

    /// Another build, or the same one with other settings, to compare with.
    pub(crate) fn other(program: &Path, flags: &[String]) -> anyhow::Result<Self> {
        ensure!(program.is_file(), "{} is not a file", program.display());
        let program = std::path::absolute(program)?;
        Ok(Self { program, flags: flags.to_vec(), is_other: true })
    }

    fn pick(&self, this: &'static str, other: &'static str) -> &'static str {
        if self.is_other { other } else { this }
    }
}

/// The server on its own database of the shared PostgreSQL server.
pub(crate) fn on_postgres(environment: &Environment, build: &Build) -> anyhow::Result<HttpTarget> {
    let postgres = environment.postgres();
    let database = build.pick("vaultsync", "vaultsync_other");
    postgres.create_database(database, None);
    let process = environment.postgres_process()?;
    let name = build.pick(PG, PG_OTHER);
    let folder = environment.folder(database)?;
    let database = Some(Database { url: postgres.url(database), process });
    start(name, build, &folder, database, environment.ids)
}

/// The server on an SQLite file.
pub(crate) fn on_sqlite(environment: &Environment, build: &Build) -> anyhow::Result<HttpTarget> {
    let name = build.pick(SQLITE, SQLITE_OTHER);
    let folder = environment.folder(build.pick("sqlite", "sqlite_other"))?;
    start(name, build, &folder, None, environment.ids)
}

/// The names of the targets in tables.
pub(crate) const PG: &str = "vaultsync-pg";
pub(crate) const SQLITE: &str = "vaultsync-sqlite";
pub(crate) const PG_OTHER: &str = "vaultsync-pg (other build)";
pub(crate) const SQLITE_OTHER: &str = "vaultsync-sqlite (other build)";

/// A database on the shared PostgreSQL server.
struct Database {
    url: String,
    /// The server's process.
    process: u32,
}

fn start(
    name: &'static str,
    build: &Build,
    folder: &Path,
    database: Option<Database>,
    ids: RecordIds,
) -> anyhow::Result<HttpTarget> {
    let key = LocalKey::load_or_create(folder)?;
    let host = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut command = Command::new(&build.program);
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if ["VAULTSYNC_", "CLERK_", "DATABASE_URL"].iter().any(|prefix| shown.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
        .args(["serve", "--admin-listen", "off", "--rate-limit", "0", "--log", "warn"])
        .args(["--listen", &host, "--data-dir"])
        .arg(folder)
        .args(&build.flags);
    if let Some(database) = &database {
        command.args(["--database", &database.url]);
    }
    let child = Child::start(&mut command, Stdio::null())?;
    wait_until_it_listens(&host)?;
    let process = database.map(|database| database.process);
    HttpTarget::new(name, &host, child, process, TokenSource::LocalKey(Box::new(key)), ids)
}

/// Waits until the server listens, which it does once its database is open.
fn wait_until_it_listens(host: &str) -> anyhow::Result<()> {
    const TRIES: u32 = 600;
    for _ in 0..TRIES {
        if std::net::TcpStream::connect(host).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("{host} does not become ready")
}
