//! The check of a run: the clients' history against the contents of the database.
//!
//! Not here: the promises, which the checker in `vaultsync-testkit` knows.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use rusqlite::{Connection, OpenFlags};
use vaultsync_testkit::{
    history::{Counts, Digest, Event, Outcome, RecordView, Request, VaultLabel},
    inconsistencies, stored_in_postgres,
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

    /// The replaced versions of all records, with the digests of their ciphertexts.
    fn replaced_versions(&self) -> anyhow::Result<Vec<(VersionName, String)>> {
        match self {
            Self::Sqlite(path) => Ok(replaced_in_sqlite(path)?),
            Self::Postgres(url) => replaced_in_postgres(url),
        }
    }

    fn records(&self, user: &str) -> anyhow::Result<Vec<RecordView>> {
        match self {
            Self::Sqlite(path) => stored_in_sqlite(path, user)
                .with_context(|| format!("{} cannot be read", path.display())),
            Self::Postgres(url) => Ok(stored_in_postgres(url, &user.into())),
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
        workload.recorder.state(&VaultLabel::from(&**user), database.records(user)?);
    }
    Ok(workload.recorder.verify())
}

/// A version of a record: its user, its id and its number.
type VersionName = (String, String, u64);

/// Checks that rows do not contradict each other, and compares each replaced version with what a client wrote.
///
/// Returns how many were compared, and what is wrong. A version that no client knows of, because its push got no
/// response, is not compared.
///
/// # Errors
///
/// If the database cannot be read.
pub fn verify_rows(workload: &Workload, database: &Database) -> anyhow::Result<(u64, Vec<String>)> {
    let mut broken = inconsistencies(&database.setting());
    let written = acknowledged(&workload.recorder.events());
    let mut compared = 0;
    for (version, digest) in database.replaced_versions()? {
        let Some(expected) = written.get(&version) else { continue };
        compared += 1;
        if *expected != digest {
            let (user, id, number) = version;
            broken.push(format!(
                "version {number} of {id} of {user} is kept as {digest}, and was {expected}"
            ));
        }
    }
    Ok((compared, broken))
}

/// The digest of each version that was acknowledged.
fn acknowledged(events: &[Event]) -> HashMap<VersionName, String> {
    let (mut pushes, mut digests) = (HashMap::new(), HashMap::new());
    for event in events {
        match event {
            Event::Begin {
                operation, vault, request: Request::Push { operations, .. }, ..
            } => {
                pushes.insert(operation, (&vault.user, operations));
            }
            Event::End { operation, outcome: Outcome::Acknowledged { results, .. } } => {
                let Some((user, writes)) = pushes.get(operation) else { continue };
                for (write, result) in writes.iter().zip(results) {
                    let name = (user.to_string(), result.record_id.to_string(), result.version);
                    digests.insert(name, write.digest.to_string());
                }
            }
            _ => {}
        }
    }
    digests
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
         from records join vaults using (vault_key) where subject = ?1 and name = ''",
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

fn replaced_in_sqlite(path: &Path) -> rusqlite::Result<Vec<(VersionName, String)>> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut statement = connection.prepare(
        "select subject, record_id, version, ciphertext from revisions join vaults using (vault_key)",
    )?;
    let rows = statement.query_map([], |row| {
        let ciphertext: Vec<u8> = row.get(3)?;
        let version = row.get::<_, i64>(2)?.cast_unsigned();
        Ok(((row.get(0)?, row.get(1)?, version), Digest::of(&ciphertext).to_string()))
    })?;
    rows.collect()
}

fn replaced_in_postgres(url: &str) -> anyhow::Result<Vec<(VersionName, String)>> {
    let rows = vaultsync_test_servers::query(
        url,
        "select subject, record_id, version, encode(substr(sha256(ciphertext), 1, 16), 'hex')
         from revisions join vaults using (vault_id)",
    );
    let row = |row: &str| {
        let columns: Vec<_> = row.split('|').map(str::to_owned).collect();
        let [subject, record_id, version, digest] =
            columns.try_into().map_err(|row| anyhow::anyhow!("four columns, not {row:?}"))?;
        Ok(((subject, record_id, version.parse()?), digest))
    };
    rows.lines().filter(|line| !line.is_empty()).map(row).collect()
}
