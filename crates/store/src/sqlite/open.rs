//! Opens the database file: lock, checks, settings, migrations.
//!
//! Not here: what an error says to the operator (`OpenError`).

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use refinery_core::error::Kind;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, config::DbConfig};

use super::{
    beside,
    check::{QuickCheck, quick_check},
    database_file::DatabaseFile,
    health::is_damage,
    log::LOG_BYTES_MAX,
    upgrade,
};
use crate::{OpenError, migrations};

/// Marks the file as a Vaultsync database in its header: `VSNC`.
const APPLICATION_ID: i32 = 0x5653_4e43;

/// How long a statement waits while another process, such as an operator's command, has locked the file. A
/// request that waits for it must fail within a second.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// How often the lock is tried. Its holder may be about to end. A process that starts another one shares
/// its locks with it between `fork` and `exec`.
const LOCK_ATTEMPTS_MAX: u32 = 20;
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(25);

/// Opens and locks the database file at `path` for the process that serves from it. The lock is on a file
/// beside the database, and the system releases it when the process ends, even by a crash. Operators'
/// commands do not take it.
///
/// Creates the folder and the database file if they do not exist.
pub(super) fn lock(path: &Path) -> Result<DatabaseFile, OpenError> {
    let io_error = |path: &Path, error| OpenError::Io { path: path.to_owned(), error };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create_private_folder(folder).map_err(|error| io_error(folder, error))?;
    }
    // The lock is the same under every name of the file, except hard links, which are refused below.
    let canonical = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Created here and not by SQLite, so that only its owner can read it. SQLite gives its
            // other files the same mode. An existing file is not opened before it is locked: closing it
            // would release the locks that a store of this process may have on it (fcntl(2)).
            create_secret_file(path).and_then(|_| fs::canonicalize(path))
        }
        found => found,
    };
    let canonical = canonical.map_err(|error| io_error(path, error))?;
    let metadata = fs::metadata(&canonical).map_err(|error| io_error(path, error))?;
    if metadata.is_dir() {
        return Err(io_error(&canonical, io::ErrorKind::IsADirectory.into()));
    }
    if !metadata.is_file() {
        return Err(foreign(path, "it is a device, a pipe or a socket".to_owned()));
    }
    let lock_path = beside(&canonical, ".lock");
    let lock = create_secret_file(&lock_path).map_err(|error| io_error(&lock_path, error))?;
    try_lock(&lock, &lock_path, &canonical)?;
    // SQLite would open a file that it may not write to, and fail later.
    let file = OpenOptions::new().read(true).write(true).open(&canonical);
    let file = file.map_err(|error| io_error(&canonical, error))?;
    let file = DatabaseFile::new(path.to_owned(), canonical, file, lock);
    file.refuse_unsafe()?;
    file.begin_change().map_err(|error| io_error(&lock_path, error))?;
    Ok(file)
}

fn try_lock(lock: &File, lock_path: &Path, path: &Path) -> Result<(), OpenError> {
    for _ in 0..LOCK_ATTEMPTS_MAX {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_RETRY_DELAY),
            Err(TryLockError::Error(error)) => {
                return Err(OpenError::Io { path: lock_path.to_owned(), error });
            }
        }
    }
    Err(OpenError::InUse(path.to_owned()))
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

/// Opens the connection that writes, checks the file, and applies pending migrations.
pub(super) fn writing(path: &Path) -> Result<Connection, OpenError> {
    // SQLite treats a file of one byte as empty, and would overwrite it.
    if fs::metadata(path).is_ok_and(|file| file.len() == 1) {
        return Err(foreign(path, "it is not a SQLite file".to_owned()));
    }
    let to_open_error = |failed: Error| error(path, &failed);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(to_open_error)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(to_open_error)?;
    // A damaged file stays as it is. The writer thread changes this when it closes a database that is whole.
    write_back_on_close(&connection, false).map_err(to_open_error)?;
    claim(&connection).map_err(to_open_error)?.map_err(|reason| foreign(path, reason))?;
    refuse_damaged(&connection, path)?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(to_open_error)?;
    if mode != "wal" {
        let message = format!(
            "SQLite cannot use a write-ahead log here (journal mode {mode}): move the database to a \
             local disk"
        );
        return Err(database(path, message));
    }
    configure(&connection).map_err(to_open_error)?;
    migrations::sqlite()
        .set_grouped(true)
        .run(&mut connection)
        .map_err(|error| migration_error(path, &error))?;
    upgrade::move_records(&mut connection).map_err(|failed| upgrade_error(path, &failed))?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // FULL syncs the log at every commit, so that acknowledged writes survive a power failure.
    connection.pragma_update(None, "synchronous", "full")?;
    // `log.rs` makes the checkpoints.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // A log that a long reader made grow is cut when it begins again.
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX.cast_signed())?;
    keep_plans(connection)
}

/// Decides whether SQLite writes the log back into the file, and deletes it, when the last connection closes.
pub(super) fn write_back_on_close(connection: &Connection, is_on: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !is_on).map(drop)
}

/// A server that starts on a damaged file would let clients move their cursors past records that it cannot
/// find. No client is served yet, so a refusal interrupts none.
fn refuse_damaged(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    match quick_check(connection).map_err(|failed| error(path, &failed))? {
        QuickCheck::Whole => Ok(()),
        QuickCheck::Damaged(problem) => Err(OpenError::Damaged { path: path.to_owned(), problem }),
        QuickCheck::Unfinished => {
            tracing::warn!(
                "{} is too large to be checked completely at the start, and no damage was found in what \
                 was read: `vaultsync verify` checks all of it, also while the server runs",
                path.display()
            );
            Ok(())
        }
    }
}

/// Opens a connection that only reads.
pub(super) fn reading(path: &Path, busy_timeout: Duration) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(busy_timeout)?;
        keep_plans(&connection)?;
        // Opens the log now: a connection that did so later would find another one, if it was replaced.
        connection.query_row("select count(*) from sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    open().map_err(|failed| error(path, &failed))
}

/// Makes SQLite prepare and plan each statement once. Without its query planner stability guarantee it plans
/// again whenever another cursor is bound: a fifth of the cost of a pull that finds nothing.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(32);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Whether the database is marked as Vaultsync's.
pub(super) fn is_marked(connection: &Connection) -> rusqlite::Result<bool> {
    let mark: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    Ok(mark == APPLICATION_ID)
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

/// What an operator has to know about an error of SQLite while the database is opened.
pub(super) fn error(path: &Path, error: &Error) -> OpenError {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, NotADatabase, PermissionDenied,
        ReadOnly, SystemIoFailure,
    };
    match error.sqlite_error_code() {
        Some(NotADatabase) => {
            foreign(path, "it is not a SQLite file, or its first page is damaged".to_owned())
        }
        _ if is_damage(error) => {
            OpenError::Damaged { path: path.to_owned(), problem: error.to_string() }
        }
        Some(DatabaseBusy | DatabaseLocked) => {
            let message = format!("another program has locked it ({error}): end that program");
            database(path, message)
        }
        // SQLite does not say why. The system does.
        Some(CannotOpen | DiskFull | PermissionDenied | ReadOnly | SystemIoFailure) => {
            probe(path).err().unwrap_or_else(|| database(path, error.to_string()))
        }
        _ => database(path, error.to_string()),
    }
}

fn migration_error(path: &Path, failed: &refinery_core::Error) -> OpenError {
    match failed.kind() {
        Kind::MissingVersion(migration) => database(
            path,
            format!(
                "a newer version of Vaultsync has migrated it ({migration}): start that version, or put \
                 back a backup from before the upgrade"
            ),
        ),
        Kind::Connection(_, source) if source.is::<Error>() => {
            let source = source.downcast_ref::<Error>().expect("it is one");
            error(path, source)
        }
        _ => database(path, format!("its migrations cannot be applied: {failed}")),
    }
}

fn upgrade_error(path: &Path, failed: &Error) -> OpenError {
    match failed {
        Error::StatementChangedRows(_) => database(
            path,
            "it has records without a vault, which cannot be upgraded: `vaultsync verify` counts them, and \
             docs/BACKUP.md says how to remove them"
                .to_owned(),
        ),
        _ => error(path, failed),
    }
}

/// How much the probe writes, in bytes: as much as SQLite needs for its own files, and some more.
const PROBE_BYTES: usize = 256 * 1024;

/// Does what SQLite could not do: opens the file, and writes to its folder.
fn probe(path: &Path) -> Result<(), OpenError> {
    let opened = OpenOptions::new().read(true).write(true).open(path).map(drop);
    opened.map_err(|error| OpenError::Io { path: path.to_owned(), error })?;
    let probe = beside(path, ".probe");
    let written = create_secret_file(&probe).and_then(|mut file| {
        file.write_all(&vec![0; PROBE_BYTES])?;
        file.sync_all()
    });
    let _ = fs::remove_file(&probe);
    let folder = path.parent().unwrap_or(path);
    written.map_err(|error| OpenError::Io { path: folder.to_owned(), error })
}

fn foreign(path: &Path, reason: String) -> OpenError {
    OpenError::Foreign { path: PathBuf::from(path), reason }
}

fn database(path: &Path, message: String) -> OpenError {
    OpenError::Database { database: path.display().to_string(), message }
}
