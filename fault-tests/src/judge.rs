//! Whether the promises were kept: what clients were told, against what the database has.
//!
//! Not here: the rules, which are the checker's in `vaultsync-testkit`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use rusqlite::{Connection, OpenFlags};
pub use vaultsync_testkit::history::Counts;
use vaultsync_testkit::history::{Digest, History, Recorder, Seen, check};

/// A database, asked past all servers.
#[derive(Clone, Debug)]
pub enum Database {
    /// The file.
    Sqlite(PathBuf),
    /// The address.
    Postgres(String),
}

/// What no history can be judged without.
#[derive(Clone, Debug)]
pub struct Case {
    /// What clients did and were told.
    pub recorder: Recorder,
    /// Whose vaults.
    pub users: Vec<Arc<str>>,
}

/// Reads what each vault holds, closes the history with it, and judges the whole.
///
/// The inner error is every promise that was broken.
///
/// # Errors
///
/// Where the database cannot be read.
pub fn judge(case: &Case, database: &Database) -> anyhow::Result<Result<Counts, Vec<String>>> {
    for user in &case.users {
        case.recorder.state(user, stored(database, user)?);
    }
    let events = case.recorder.finish()?;
    let history = match History::new(&events) {
        Ok(history) => history,
        Err(malformed) => return Ok(Err(vec![malformed.to_string()])),
    };
    let told = |broken: Vec<_>| broken.iter().map(ToString::to_string).collect();
    Ok(check(&history).map_err(told))
}

/// What SQLite says of a file that nobody serves from: whether all of it is in order.
pub fn integrity(path: &Path) -> anyhow::Result<()> {
    let connection = Connection::open(path)?;
    let told: String = connection.query_row("pragma integrity_check", [], |row| row.get(0))?;
    ensure!(told == "ok", "integrity_check of {}: {told}", path.display());
    Ok(())
}

fn stored(database: &Database, user: &str) -> anyhow::Result<Vec<Seen>> {
    match database {
        Database::Sqlite(path) => {
            // Read and write: the last reader of a log that was left may have to recover it.
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
            stored_in_sqlite(&Connection::open_with_flags(path, flags)?, user)
                .with_context(|| format!("{} cannot be read", path.display()))
        }
        Database::Postgres(url) => stored_in_postgres(url, user),
    }
}

fn stored_in_sqlite(connection: &Connection, user: &str) -> anyhow::Result<Vec<Seen>> {
    let mut statement = connection.prepare(
        "select record_id, version, deleted, updated_at, ciphertext
         from records join vaults using (vault_id) where subject = ?1",
    )?;
    let rows = statement.query_map([user], |row| {
        let ciphertext: Vec<u8> = row.get(4)?;
        Ok(Seen {
            record_id: row.get::<_, String>(0)?.into(),
            version: row.get::<_, i64>(1)?.cast_unsigned(),
            deleted: row.get(2)?,
            updated_at: row.get(3)?,
            digest: Digest::of(&ciphertext),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn stored_in_postgres(url: &str, user: &str) -> anyhow::Result<Vec<Seen>> {
    let rows = vaultsync_test_servers::query(
        url,
        &format!(
            "select record_id, version, deleted, updated_at, encode(ciphertext, 'hex')
             from records join vaults using (vault_id) where subject = '{user}'"
        ),
    );
    rows.lines().filter(|row| !row.is_empty()).map(seen_in_row).collect()
}

fn seen_in_row(row: &str) -> anyhow::Result<Seen> {
    let columns: Vec<_> = row.split('|').collect();
    let [id, version, deleted, updated_at, ciphertext] = columns[..] else {
        anyhow::bail!("five columns, not {row}");
    };
    let bytes: Result<Vec<u8>, _> = (0..ciphertext.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&ciphertext[at..at + 2], 16))
        .collect();
    Ok(Seen {
        record_id: id.into(),
        version: version.parse()?,
        deleted: deleted == "t",
        updated_at: updated_at.parse()?,
        digest: Digest::of(&bytes?),
    })
}
