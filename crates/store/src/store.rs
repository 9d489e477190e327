//! The use cases, each whole: one call, one transaction, one outcome.

use std::{io, path::PathBuf};

use vaultsync_protocol::{Conflict, Epoch, Page, Pull, Push, Timestamp, Written};

use crate::{
    ChangeNotifier, PostgresOptions, ReadBudget, Vault, postgres::Postgres, sqlite::Sqlite,
};

/// What a store is opened with.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Ciphertext of one page or one list of conflicts, in bytes: it ends before it passes this, but
    /// never before its first entry.
    pub page_bytes_max: usize,
    /// Draws the name of a new history, at random.
    pub new_epoch: fn() -> Epoch,
}

/// The database, whichever it is. The contract of every backend stands here; the conformance suite
/// in `tests/` holds each of them to it.
#[derive(Debug)]
pub enum Store {
    /// One SQLite file, for one process that serves.
    Sqlite(Sqlite),
    /// A PostgreSQL database, for any number of processes.
    Postgres(Postgres),
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    /// Every write is applied, now or when the same push came before: the versions, in order.
    Applied(Vec<Written>),
    /// Nothing is written.
    Refused(Refused),
    /// Nothing is written: the vault's history is not the one that the client names.
    EpochChanged,
}

/// Why nothing of a push was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The records that stood in the way, in the push's order: all of them, or as many as fit in
    /// `page_bytes_max`.
    pub conflicts: Vec<Conflict>,
    /// Whether there are more conflicts than these.
    pub has_more: bool,
}

/// What became of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullOutcome {
    /// The page.
    Page(Page),
    /// The vault's history is not the one that the client names.
    EpochChanged,
    /// It is, but the cursor is later than the vault's clock.
    CursorAhead,
}

/// Why a use case has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written, and it may go better later: too much is waiting, or the disk is full.
    #[error("the database cannot be had: {0}")]
    Unavailable(String),
    /// The commit failed in a way that leaves open whether it happened. The same push, sent again,
    /// finds out.
    #[error("whether the push was committed is not known: {0}")]
    OutcomeUnknown(String),
    /// The database holds or says what it never should.
    #[error("the database failed: {0}")]
    Internal(String),
}

/// Why a store cannot be opened, for its operator to read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process serves from it.
    #[error("{} is in use by another `vaultsync serve`", .0.display())]
    InUse(PathBuf),
    /// The file is not ours to write to.
    #[error("{} is not a Vaultsync database: {reason}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// The file or its folder cannot be read or written.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The database refused, or is not one to serve from.
    #[error("{database}: {message}")]
    Database {
        /// Which: the path of its file, or its address.
        database: String,
        /// What it said, or what it lacks.
        message: String,
    },
}

impl Store {
    /// Opens the SQLite database at `path` to serve from it, creates it where there is none, and
    /// brings its tables up to date.
    ///
    /// # Errors
    ///
    /// [`OpenError::InUse`] where another process serves from the same file.
    pub fn open_sqlite(path: PathBuf, options: StoreOptions) -> Result<Self, OpenError> {
        Sqlite::open(path, options).map(Self::Sqlite)
    }

    /// Opens a PostgreSQL database to serve from it, beside any others that do, and brings its tables
    /// up to date.
    ///
    /// # Errors
    ///
    /// [`OpenError::Database`] where none of its addresses answers, or where it is not one to keep
    /// what is acknowledged in.
    pub async fn open_postgres(
        postgres: PostgresOptions,
        options: StoreOptions,
    ) -> Result<Self, OpenError> {
        Postgres::open(postgres, options).await.map(Self::Postgres)
    }

    /// Applies a batch of writes to a vault, all or none, as [`judge`](crate::judge) has it.
    ///
    /// Each record written gets a millisecond of its own, later than any the vault has handed out
    /// and, up to the year 9000, not before `now`. An outcome is durable when it is returned. A push
    /// that was applied and is sent again unchanged gets the same outcome and writes nothing, while
    /// fewer than [`RECEIPTS_MAX`](crate::RECEIPTS_MAX) other pushes of the vault lie between.
    ///
    /// `held` is let go when the push is done with, also where nobody waits for its outcome any more.
    pub async fn push(
        &self,
        vault: &Vault,
        push: Push,
        now: Timestamp,
        held: impl Send + 'static,
    ) -> Result<PushOutcome, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.push(vault, push, now, Box::new(held)).await,
            Self::Postgres(postgres) => postgres.push(vault, push, now, Box::new(held)).await,
        }
    }

    /// Reads one page of what changed after a cursor, from one snapshot, into `room`, which is given
    /// back. `pull.wait` is not waited for here.
    pub async fn pull<R: ReadBudget>(
        &self,
        vault: &Vault,
        pull: &Pull,
        room: R,
    ) -> Result<(PullOutcome, R), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.pull(vault, pull, room).await,
            Self::Postgres(postgres) => postgres.pull(vault, pull, room).await,
        }
    }

    /// Whether the database answers and its tables are up to date.
    pub async fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.check().await,
            Self::Postgres(postgres) => postgres.check().await,
        }
    }

    /// Where changes of vaults are told.
    pub fn notifier(&self) -> &ChangeNotifier {
        match self {
            Self::Sqlite(sqlite) => sqlite.notifier(),
            Self::Postgres(postgres) => postgres.notifier(),
        }
    }

    /// Finishes what is queued and closes the database.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(postgres) => postgres.close().await,
        }
    }
}
