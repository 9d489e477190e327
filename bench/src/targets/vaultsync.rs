//! This server, as it is built for release, with nothing set but the rates.

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::bail;
use vaultsync_server::auth::LocalKey;

use super::{Bench, Child, HttpTarget, child::vaultsync, http::SignedBy};

/// On a database of its own on the shared server.
pub(crate) fn on_postgres(bench: &Bench) -> anyhow::Result<HttpTarget> {
    let postgres = bench.postgres();
    postgres.create_database("vaultsync", None);
    let database = Some(bench.postgres_process()?);
    start("vaultsync-pg", &bench.folder("pg")?, Some(&postgres.url("vaultsync")), database)
}

/// On a file.
pub(crate) fn on_sqlite(bench: &Bench) -> anyhow::Result<HttpTarget> {
    start("vaultsync-sqlite", &bench.folder("sqlite")?, None, None)
}

fn start(
    name: &'static str,
    folder: &Path,
    database: Option<&str>,
    process: Option<u32>,
) -> anyhow::Result<HttpTarget> {
    let key = LocalKey::load_or_create(folder)?;
    let host = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut command = Command::new(vaultsync()?);
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if ["VAULTSYNC_", "CLERK_", "DATABASE_URL"].iter().any(|ours| shown.starts_with(ours)) {
            command.env_remove(&name);
        }
    }
    command
        .args(["serve", "--admin-listen", "off", "--rate-limit", "0", "--log", "warn"])
        .args(["--listen", &host, "--data-dir"])
        .arg(folder);
    if let Some(url) = database {
        command.args(["--database", url]);
    }
    let child = Child::start(&mut command, Stdio::null())?;
    wait_until_it_listens(&host)?;
    HttpTarget::new(name, &host, child, process, SignedBy::Local(Box::new(key)))
}

/// It listens once its database is open.
pub(crate) fn wait_until_it_listens(host: &str) -> anyhow::Result<()> {
    const TRIES: u32 = 600;
    for _ in 0..TRIES {
        if std::net::TcpStream::connect(host).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("{host} does not come up")
}
