//! Opens the database file: lock, settings, migrations.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::beside;
use crate::{OpenError, migrations};

/// Marks the file as a Vaultsync database in its header: `VSNC`.
const APPLICATION_ID: i32 = 0x5653_4e43;

/// How long a statement waits while another process, such as an operator's command, has locked the file. A
/// request that waits for it must fail within a second.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// The number of 4 KiB pages in the write-ahead log at which it is written back into the file. A page that
/// is in the log several times is written back once. With SQLite's default of 1,000, pushes of 100 records
/// were a tenth slower, and pushes of one record by 1,000 users a sixth. With 8,000, pushes that wait for the
/// write-back wait 50 ms instead of 30 ms.
const LOG_PAGES: i32 = 4_000;

/// How often the lock is tried. Its holder may be about to end. A process that starts another one shares
/// its locks with it between `fork` and `exec`.
const LOCK_ATTEMPTS_MAX: u32 = 20;
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(25);

/// Locks the database at `path` for the process that serves from it. The lock is on a file beside the
/// database, and the system releases it when the process ends, even by a crash. Operators' commands do not
/// take it.
///
/// Creates the folder and the database file if they do not exist.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let io_error = |path: &Path, error| OpenError::Io { path: path.to_owned(), error };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create_private_folder(folder).map_err(|error| io_error(folder, error))?;
    }
    // The lock is the same under every name of the file.
    let canonical = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Created here and not by SQLite, so that only its owner can read it. SQLite gives its
            // other files the same mode. An existing file is not opened: closing it would release the
            // locks that a store of this process may have on it (fcntl(2)).
            create_secret_file(path).and_then(|_| fs::canonicalize(path))
        }
        found => found,
    };
    let path = canonical.map_err(|error| io_error(path, error))?;
    if path.is_dir() {
        return Err(io_error(&path, io::ErrorKind::IsADirectory.into()));
    }
    let lock_path = beside(&path, ".lock");
    let file = create_secret_file(&lock_path).map_err(|error| io_error(&lock_path, error))?;
    for _ in 0..LOCK_ATTEMPTS_MAX {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_RETRY_DELAY),
            Err(TryLockError::Error(error)) => return Err(io_error(&lock_path, error)),
        }
    }
    Err(OpenError::InUse(path))
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn create_secret_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Opens the connection that writes, and applies pending migrations.
pub(super) fn writing(path: &Path) -> Result<Connection, OpenError> {
    let to_open_error = |error: &rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => foreign(path, "it is not a SQLite file".to_owned()),
        _ => database(path, error.to_string()),
    };
    // SQLite treats a file of one byte as empty, and would overwrite it.
    if fs::metadata(path).is_ok_and(|file| file.len() == 1) {
        return Err(foreign(path, "it is not a SQLite file".to_owned()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(|error| to_open_error(&error))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| to_open_error(&error))?;
    claim(&connection)
        .map_err(|error| to_open_error(&error))?
        .map_err(|reason| foreign(path, reason))?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(|error| to_open_error(&error))?;
    if mode != "wal" {
        let message = format!(
            "SQLite cannot use a write-ahead log here (journal mode {mode}): move the database to a \
             local disk"
        );
        return Err(database(path, message));
    }
    // FULL syncs the log at every commit, so that acknowledged writes survive a power failure.
    connection.pragma_update(None, "synchronous", "full").map_err(|error| to_open_error(&error))?;
    connection
        .pragma_update(None, "wal_autocheckpoint", LOG_PAGES)
        .map_err(|error| to_open_error(&error))?;
    keep_plans(&connection).map_err(|error| to_open_error(&error))?;
    migrations::sqlite()
        .set_grouped(true)
        .run(&mut connection)
        .map_err(|error| database(path, format!("its migrations cannot be applied: {error}")))?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn reading(path: &Path, busy_timeout: Duration) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(busy_timeout)?;
        keep_plans(&connection)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| database(path, error.to_string()))
}

/// Makes SQLite prepare and plan each statement once. Without its query planner stability guarantee it plans
/// again whenever another cursor is bound: a fifth of the cost of a pull that finds nothing.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(32);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Marks an empty database as Vaultsync's. The inner `Err` is the reason why it is another program's.
fn claim(connection: &Connection) -> rusqlite::Result<Result<(), String>> {
    let marked: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if marked == APPLICATION_ID {
        return Ok(Ok(()));
    }
    let objects: i64 =
        connection.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
    if marked != 0 || objects != 0 {
        return Ok(Err("it is a SQLite database of another program".to_owned()));
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    Ok(Ok(()))
}

fn foreign(path: &Path, reason: String) -> OpenError {
    OpenError::Foreign { path: PathBuf::from(path), reason }
}

fn database(path: &Path, message: String) -> OpenError {
    OpenError::Database { database: path.display().to_string(), message }
}
