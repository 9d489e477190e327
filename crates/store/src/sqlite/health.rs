//! Whether pushes are taken: not after damage was found, or after the file was replaced. That is final until
//! the server is started again: a database does not heal by itself.
//!
//! Reads go on. A page that is whole is as good as before, and clients need it the more.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use rusqlite::{Error, ErrorCode, ffi};

use super::database_file::FileFault;
use crate::{StoreError, StoreHealth};

/// The health of an open database. A clone is the same.
#[derive(Clone, Debug)]
pub(super) struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: Arc<Path>,
    fault: OnceLock<Fault>,
}

#[derive(Debug)]
enum Fault {
    /// With SQLite's error.
    Damage(String),
    File(FileFault),
}

impl Health {
    pub(super) fn new(path: &Path) -> Self {
        metrics::gauge!("vaultsync_store_writes_stopped").set(0.0);
        Self(Arc::new(Inner { path: path.into(), fault: OnceLock::new() }))
    }

    pub(super) fn get(&self) -> StoreHealth {
        match self.0.fault.get() {
            None => StoreHealth::Working,
            Some(Fault::Damage(_)) => StoreHealth::Damaged,
            Some(Fault::File(_)) => StoreHealth::Replaced,
        }
    }

    /// An error if pushes are not taken.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.get().problem() {
            Some(problem) => Err(StoreError::Unavailable(problem.to_owned())),
            None => Ok(()),
        }
    }

    /// Stops writes because the file that is open is not the one at its path any more.
    pub(super) fn replaced(&self, fault: FileFault) {
        self.stop(Fault::File(fault));
    }

    /// Whether the log may be written back into the file when it is closed.
    pub(super) fn may_write_back(&self) -> bool {
        match self.0.fault.get() {
            None => true,
            Some(Fault::Damage(_)) => false,
            Some(Fault::File(fault)) => fault.file_is_whole,
        }
    }

    /// Turns an error of SQLite into one of the store. If it shows damage, writes are stopped.
    pub(super) fn failed(&self, error: &Error) -> StoreError {
        use ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, ReadOnly,
            SystemIoFailure,
        };
        if is_damage(error) {
            self.stop(Fault::Damage(error.to_string()));
            return StoreError::Unavailable(format!("the database file is damaged: {error}"));
        }
        match error.sqlite_error_code() {
            // An outage, after which the same request may succeed.
            Some(
                CannotOpen | DatabaseBusy | DatabaseLocked | DiskFull | OutOfMemory | ReadOnly
                | SystemIoFailure,
            ) => StoreError::Unavailable(error.to_string()),
            _ => StoreError::Internal(error.to_string()),
        }
    }

    /// Repeats the log line of a fault, so that it is not only in a log that was rotated away.
    pub(super) fn log_again(&self) {
        if let Some(fault) = self.0.fault.get() {
            self.log(fault);
        }
    }

    fn stop(&self, fault: Fault) {
        // The first fault counts: later ones often follow from it.
        if self.0.fault.set(fault).is_ok() {
            metrics::gauge!("vaultsync_store_writes_stopped").set(1.0);
            self.log_again();
        }
    }

    fn log(&self, fault: &Fault) {
        let path = self.0.path.display();
        match fault {
            Fault::Damage(what) => tracing::error!(
                "{path} is damaged ({what}): pushes are refused, and pulls go on where pages are whole. \
                 Run `vaultsync verify`, and restore a backup or recover the file as in docs/BACKUP.md"
            ),
            Fault::File(FileFault { what, file_is_whole: false }) => tracing::error!(
                "{what} while the server had it open: pushes are refused, because they would be lost. \
                 If that was a restore, start the server again. If not, save the open file before the \
                 server stops: docs/BACKUP.md says how"
            ),
            Fault::File(FileFault { what, file_is_whole: true }) => tracing::error!(
                "{what} while the server had it open: pushes are refused, because they would be lost. \
                 Stop the server with SIGTERM, which writes all acknowledged pushes to {path}, and start \
                 it again"
            ),
        }
    }
}

/// Whether an error shows that the file does not have what was written to it.
pub(super) fn is_damage(error: &Error) -> bool {
    let code = error.sqlite_error().map(|error| (error.code, error.extended_code));
    match code {
        Some((ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)) => true,
        // Found by the file system or by a checksum.
        Some((_, extended)) => {
            matches!(extended, ffi::SQLITE_IOERR_CORRUPTFS | ffi::SQLITE_IOERR_DATA)
        }
        None => false,
    }
}
