//! Opening the file: who may, how it is set up, and that its tables are up to date.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::beside;
use crate::OpenError;

mod embedded {
    refinery::embed_migrations!("migrations/sqlite");
}

/// Says in the file's header whose it is: `VSNC`.
const APPLICATION_ID: i32 = 0x5653_4e43;

/// How long a statement waits while an operator's command holds the file. Whoever waits for it must be
/// told within a second.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// After how many pages of 4 KiB the log is written back into the file. A page that is in the log several
/// times is written back once: with SQLite's own 1,000, pushes of 100 were a tenth slower, and pushes of
/// one by 1,000 users a sixth. With 8,000 the pushes that wait for it wait for 50 ms instead of 30.
const LOG_PAGES: i32 = 4_000;

/// How often the lock is tried. Whoever had it may be ending just now; and a process that starts
/// another one shares what it holds with it, until that one has become the program it is to be.
const LOCK_TRIES: u32 = 20;
const BETWEEN_LOCK_TRIES: Duration = Duration::from_millis(25);

/// Takes the right to serve from the database at `path`, by a lock on a file beside it that the
/// system lifts when the process ends, however it ends. Operators' commands do not take it.
///
/// Creates the database's folder where there is none.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let io_error = |path: &Path, error| OpenError::Io { path: path.to_owned(), error };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create_private_folder(folder).map_err(|error| io_error(folder, error))?;
    }
    // The same file under another name is the same database.
    let canonical = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Created before SQLite would, so that only its owner may read it. SQLite gives its
            // other files the same mode. A file that is there is not opened here: to close it again
            // would lift the locks that a store of this process may hold on it (fcntl(2)).
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
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => thread::sleep(BETWEEN_LOCK_TRIES),
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

/// Opens the connection that writes, and brings the tables up to date.
pub(super) fn writing(path: &Path) -> Result<Connection, OpenError> {
    let wrong = |error: &rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => foreign(path, "it is no SQLite file".to_owned()),
        _ => database(path, error.to_string()),
    };
    // SQLite takes a file of one byte for an empty one, and would write over it.
    if fs::metadata(path).is_ok_and(|file| file.len() == 1) {
        return Err(foreign(path, "it is no SQLite file".to_owned()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| wrong(&error))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| wrong(&error))?;
    claim(&connection).map_err(|error| wrong(&error))?.map_err(|reason| foreign(path, reason))?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(|error| wrong(&error))?;
    if mode != "wal" {
        return Err(database(path, format!("SQLite cannot keep a write-ahead log here ({mode})")));
    }
    // FULL syncs the log at every commit: what was acknowledged survives a power cut.
    connection.pragma_update(None, "synchronous", "full").map_err(|error| wrong(&error))?;
    connection
        .pragma_update(None, "wal_autocheckpoint", LOG_PAGES)
        .map_err(|error| wrong(&error))?;
    keep_plans(&connection).map_err(|error| wrong(&error))?;
    embedded::migrations::runner().set_grouped(true).run(&mut connection).map_err(|error| {
        database(path, format!("its tables cannot be brought up to date: {error}"))
    })?;
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

/// Prepares each statement once. Without the guarantee of stable plans SQLite plans anew whenever another
/// cursor is bound, which was a fifth of the cost of a pull that finds nothing.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(32);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Marks an empty database as ours; `Err` with the reason where it is someone else's.
fn claim(connection: &Connection) -> rusqlite::Result<Result<(), String>> {
    let marked: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if marked == APPLICATION_ID {
        return Ok(Ok(()));
    }
    let objects: i64 =
        connection.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
    if marked != 0 || objects != 0 {
        return Ok(Err("it is some other program's SQLite database".to_owned()));
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
