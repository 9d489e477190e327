//! Checks of the whole file: the quick one at the start, and the full one of `vaultsync verify`.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

use super::{
    beside,
    health::is_damage,
    open::{self, BUSY_TIMEOUT},
};
use crate::OpenError;

/// How long the check at the start may take. It reads some hundred MiB a second.
const QUICK_CHECK_MAX: Duration = Duration::from_secs(3);

/// How many problems the full check lists.
const PROBLEMS_MAX: usize = 100;

/// The tables that records may be in, and the column that names their vault. The last two are of a file that
/// version 0.2 has written, and of one whose upgrade is not finished.
const RECORD_TABLES: [(&str, &str); 4] = [
    ("records", "vault_key"),
    ("revisions", "vault_key"),
    ("records", "vault_id"),
    ("records_before_digests", "vault_id"),
];

/// Outcome of the check at the start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum QuickCheck {
    Whole,
    /// With the first problem.
    Damaged(String),
    /// The time was up. What was read is whole.
    Unfinished,
}

/// Reads the file's pages, without comparing indexes with tables, for as long as the start may wait.
pub(super) fn quick_check(connection: &Connection) -> rusqlite::Result<QuickCheck> {
    quick_check_within(connection, QUICK_CHECK_MAX)
}

fn quick_check_within(connection: &Connection, time_max: Duration) -> rusqlite::Result<QuickCheck> {
    let interrupt = connection.get_interrupt_handle();
    let (done, is_done) = mpsc::channel::<()>();
    let checked = thread::scope(|scope| {
        scope.spawn(move || {
            if is_done.recv_timeout(time_max) == Err(RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let checked = problems(connection, "pragma quick_check(1)");
        drop(done);
        checked
    });
    match checked {
        Ok(problems) => {
            Ok(problems.into_iter().next().map_or(QuickCheck::Whole, QuickCheck::Damaged))
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            Ok(QuickCheck::Unfinished)
        }
        Err(error) => Err(error),
    }
}

/// Checks every page, row and index entry of the SQLite database at `path`, while a server may serve from
/// it, and that each record has its vault. Returns the problems that it found, mostly in the words of SQLite;
/// none if the file is whole.
///
/// # Errors
///
/// If the file cannot be read, or is not a Vaultsync database.
pub fn verify_sqlite(path: PathBuf) -> Result<Vec<String>, OpenError> {
    let path = std::path::absolute(&path).map_err(|error| OpenError::Io { path, error })?;
    // SQLite says no more than that it cannot open the file.
    if let Err(error) = std::fs::metadata(&path) {
        return Err(OpenError::Io { path, error });
    }
    match verify(&path) {
        Err(error) if is_damage(&error) && !is_foreign(&error) => Ok(vec![error.to_string()]),
        Err(error) => Err(open::error(&path, &error)),
        Ok(Err(reason)) => Err(OpenError::Foreign { path, reason }),
        Ok(Ok(problems)) => Ok(problems),
    }
}

fn verify(path: &Path) -> rusqlite::Result<Result<Vec<String>, String>> {
    let connection = open_beside(path)?;
    if !open::is_marked(&connection)? {
        return Ok(Err("it is not marked as one".to_owned()));
    }
    let problems = problems(&connection, &format!("pragma integrity_check({PROBLEMS_MAX})"))?;
    if !problems.is_empty() {
        return Ok(Ok(problems));
    }
    records_without_vault(&connection).map(Ok)
}

/// Opens a connection to a file that a server may serve from.
///
/// For writing, although a command hardly writes: only such a connection removes the files that SQLite makes for
/// it. But the log of a server that was killed is left for its next start.
pub(super) fn open_beside(path: &Path) -> rusqlite::Result<Connection> {
    let has_log = std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    open::write_back_on_close(&connection, !has_log)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Records whose vault has no row. No version writes such records: the row was lost, most likely in a file
/// that was recovered from damage. One line for each table that has any.
fn records_without_vault(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    for (table, column) in RECORD_TABLES {
        let has_column = "select count(*) > 0 from pragma_table_info(?1) where name = ?2";
        if !connection.query_row(has_column, [table, column], |row| row.get(0))? {
            continue;
        }
        let count = format!(
            "select count(*), count(distinct {column}) from {table}
             where {column} not in (select {column} from vaults)"
        );
        let (records, vaults): (i64, i64) =
            connection.query_row(&count, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if records > 0 {
            found.push(format!(
                "{records} rows of {table} belong to no vault in the file (vaults lost: {vaults})"
            ));
        }
    }
    Ok(found)
}

fn is_foreign(error: &Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::NotADatabase)
}

/// The problems that a check reports, one for each line; none if it reports `ok`. Damage can end the check
/// itself.
fn problems(connection: &Connection, check: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(check)?;
    let mut rows = statement.query([])?;
    let mut problems = Vec::new();
    loop {
        match rows.next() {
            Ok(Some(row)) => problems.extend(row.get_ref(0)?.as_str()?.lines().map(str::to_owned)),
            Ok(None) => break,
            Err(error) if is_damage(&error) => {
                problems.push(error.to_string());
                break;
            }
            Err(error) => return Err(error),
        }
    }
    problems.retain(|line| line != "ok" && !line.starts_with("*** in database"));
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_takes_too_long_is_interrupted() {
        let connection = Connection::open_in_memory().unwrap();
        let fill = "create table a (b);
            with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000)
            insert into a select i from n;";
        connection.execute_batch(fill).unwrap();
        assert_eq!(
            quick_check_within(&connection, Duration::ZERO).unwrap(),
            QuickCheck::Unfinished
        );
        assert_eq!(quick_check(&connection).unwrap(), QuickCheck::Whole);
    }
}
