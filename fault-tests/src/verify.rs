//! The check of a run: the clients' history against the contents of the database.
//!
//! Not here: the promises, which the checker in `vaultsync-testkit` knows.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rusqlite::{Connection, OpenFlags};
use vaultsync_testkit::{
    history::{Counts, Digest, RecordView},
    stored_in_postgres,
};

use crate::workload::Workload;

/// The database of a scenario's servers, which is also read directly.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A URL.
    Postgres(String),
}

impl Database {
    /// The value of `--database`.
    pub fn setting(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(url) => url.clone(),
        }
    }

    fn records(&self, user: &str) -> anyhow::Result<Vec<RecordView>> {
        match self {
            Self::Sqlite(path) => stored_in_sqlite(path, user)
                .with_context(|| format!("{} cannot be read", path.display())),
            Self::Postgres(url) => Ok(stored_in_postgres(url, user)),
        }
    }
}

/// Reads the contents of each vault, closes the history with them, and checks it.
///
/// The inner error lists every promise that was broken.
///
/// # Errors
///
/// If the database cannot be read.
pub fn verify(
    workload: &Workload,
    database: &Database,
) -> anyhow::Result<Result<Counts, Vec<String>>> {
    for user in &workload.users {
        workload.recorder.state(user, database.records(user)?);
    }
    Ok(workload.recorder.verify())
}

/// Runs SQLite's integrity check on a file that no server has open.
///
/// # Errors
///
/// If the file is damaged.
pub fn check_integrity(path: &Path) -> anyhow::Result<()> {
    let connection = Connection::open(path)?;
    let result: String = connection.query_row("pragma integrity_check", [], |row| row.get(0))?;
    ensure!(result == "ok", "integrity_check of {}: {result}", path.display());
    Ok(())
}

fn stored_in_sqlite(path: &Path, user: &str) -> rusqlite::Result<Vec<RecordView>> {
    // Read and write: the last reader of a leftover log may have to recover it.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut statement = connection.prepare(
        "select record_id, version, deleted, updated_at, ciphertext
         from records join vaults using (vault_key) where subject = ?1",
    )?;
    let rows = statement.query_map([user], |row| {
        let ciphertext: Vec<u8> = row.get(4)?;
        Ok(RecordView {
            record_id: row.get::<_, String>(0)?.into(),
            version: row.get::<_, i64>(1)?.cast_unsigned(),
            deleted: row.get(2)?,
            updated_at: row.get(3)?,
            digest: Digest::of(&ciphertext),
        })
    })?;
    rows.collect()
}
