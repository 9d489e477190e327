//! Failures of the store, and its health.

use std::{io, path::PathBuf};

/// Failure of a use case.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written, and a later attempt may succeed: too many requests are before this one.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// Nothing was written, and a later attempt may succeed: the database does not respond, or the disk
    /// is full.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The commit failed, and may have been carried out. The same push, sent again, finds its receipt.
    #[error("the outcome of the push is unknown: {0}")]
    OutcomeUnknown(String),
    /// The database contains or returned something that it never should.
    #[error("the database failed: {0}")]
    Internal(String),
}

/// Whether a store takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    /// It does.
    Working,
    /// Its file is damaged. Reads of undamaged parts go on.
    Damaged,
    /// Its file was deleted or replaced while it was open, and pushes to it would be lost.
    Replaced,
}

impl StoreHealth {
    /// Why writes are rejected, without names of files; `None` if they are not. Only an operator can
    /// change it.
    pub const fn problem(self) -> Option<&'static str> {
        match self {
            Self::Working => None,
            Self::Damaged => Some("the database file is damaged: pushes are refused"),
            Self::Replaced => Some("the database file was deleted or replaced: pushes are refused"),
        }
    }
}

/// Failure to open a store, for its operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process serves from the file.
    #[error("{} is in use by another `vaultsync serve`", .0.display())]
    InUse(PathBuf),
    /// The file has several names, and a server could open it under each.
    #[error(
        "{} has {names} names (hard links): another server could write to the file under another name. \
         Find them with `find FOLDER -samefile {}`, delete all but one, and start again",
        .path.display(), .path.display()
    )]
    HardLinks {
        /// The file.
        path: PathBuf,
        /// The number of its names.
        names: u64,
    },
    /// The write-ahead log beside the file is that of another file.
    #[error(
        "{} was changed while no server had it open, and {}-wal still has pushes to the file that was \
         there before: SQLite would mix them. If the file is the same one, in a folder that was copied, \
         delete {}.lock and start again. Only if you put a backup in place, delete {}-wal and {}-shm instead, \
         with the pushes in them",
        .path.display(), .path.display(), .path.display(), .path.display(), .path.display()
    )]
    StaleLog {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error(
        "{} is damaged ({problem}). The server does not start on it. `vaultsync verify` lists the damage. \
         Restore a backup, or recover what can be read: docs/BACKUP.md says how",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first problem, in the words of SQLite.
        problem: String,
    },
    /// The file is not a Vaultsync database.
    #[error("{} is not a Vaultsync database: {reason}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What shows it.
        reason: String,
    },
    /// The file or its folder cannot be read or written.
    #[error("{}: {error}{}", .path.display(), advice(error))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The database returned an error, or does not meet a requirement.
    #[error("{database}: {message}")]
    Database {
        /// The path of its file, or its address.
        database: String,
        /// The error, or the requirement.
        message: String,
    },
}

/// What an operator can do about an error of the system, as further text.
fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind::{
        AlreadyExists, IsADirectory, NotADirectory, NotFound, PermissionDenied, QuotaExceeded,
        ReadOnlyFilesystem, StorageFull,
    };
    match error.kind() {
        PermissionDenied => {
            ". The user that runs the server needs to read and write this file and its folder"
        }
        ReadOnlyFilesystem => ". The database needs a folder that can be written to",
        StorageFull | QuotaExceeded => ". Free some space and start again",
        IsADirectory => ". Name a file in that folder",
        AlreadyExists | NotADirectory => ". A part of this path is a file and not a folder",
        NotFound => ". Correct the path, or create what is missing",
        _ => "",
    }
}
