//! The store on one SQLite file: one thread that writes, a pool of connections that read.
//!
//! SQLite lets one writer in at a time, so a thread of its own with a queue costs nothing and gains
//! two things: nobody ever finds the database busy, and many pushes share one commit.

mod head_cache;
mod open;
mod pull;
mod push;
mod writer;

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use deadpool::unmanaged::Pool;
use rusqlite::Connection;
use tokio::{sync::oneshot, time::Instant};
use vaultsync_protocol::{Pull, Push, Timestamp};

use self::{
    head_cache::HeadCache,
    writer::{Job, Writer},
};
use crate::{
    ChangeNotifier, OpenError, PullOutcome, PushOutcome, ReadBudget, StoreError, StoreOptions,
    Vault, VaultId, pull::without_records,
};

/// An open SQLite database.
pub struct Sqlite {
    path: PathBuf,
    writer: Writer,
    /// For reads that take a fraction of a millisecond, on the caller's own thread.
    inline_readers: Pool<Connection>,
    readers: Pool<Connection>,
    notifier: ChangeNotifier,
    head_cache: HeadCache,
    options: StoreOptions,
    /// Held for as long as this process serves from the file; see [`open::lock`].
    _lock: File,
}

impl Sqlite {
    /// See [`Store::open_sqlite`](crate::Store::open_sqlite).
    pub(crate) fn open(path: PathBuf, options: StoreOptions) -> Result<Self, OpenError> {
        // A name that begins with `file:` is a URI to SQLite, and then another file than the one
        // that is locked. A whole path never begins so.
        let path = std::path::absolute(&path).map_err(|error| OpenError::Io { path, error })?;
        let lock = open::lock(&path)?;
        let writing = open::writing(&path)?;
        let connections = |busy_timeout| {
            let open = |_| open::reading(&path, busy_timeout);
            (0..reader_count()).map(open).collect::<Result<Vec<_>, _>>().map(Pool::from)
        };
        // Nobody may wait on a thread that others run on: a busy file is left to those that may.
        let inline_readers = connections(Duration::ZERO)?;
        let readers = connections(open::BUSY_TIMEOUT)?;
        let notifier = ChangeNotifier::default();
        let head_cache = HeadCache::new();
        let writer = Writer::start(writing, &path, options, notifier.clone(), head_cache.clone())
            .map_err(|error| OpenError::Io { path: path.clone(), error })?;
        Ok(Self {
            path,
            writer,
            inline_readers,
            readers,
            notifier,
            head_cache,
            options,
            _lock: lock,
        })
    }

    pub(crate) async fn push(
        &self,
        vault: &Vault,
        push: Push,
        now: Timestamp,
        held: Box<dyn Send>,
    ) -> Result<PushOutcome, StoreError> {
        let (reply, outcome) = oneshot::channel();
        let queued_at = Instant::now();
        self.writer.send(Job { vault: vault.clone(), push, now, queued_at, reply, held })?;
        outcome.await.unwrap_or_else(|_| {
            Err(StoreError::OutcomeUnknown("the writing thread gave a push up".to_owned()))
        })
    }

    pub(crate) async fn pull<R: ReadBudget>(
        &self,
        vault: &Vault,
        pull: &Pull,
        mut room: R,
    ) -> Result<(PullOutcome, R), StoreError> {
        let (id, pull, bytes_max) = (vault.id(), pull.clone(), self.options.page_bytes_max);
        if let Some(outcome) = self.try_pull_inline(id, &pull, &mut room) {
            return Ok((outcome, room));
        }
        room.clear();
        self.read(move |connection| {
            pull::page(connection, id, &pull, bytes_max, &mut room, None)
                .map(|outcome| (outcome, room))
        })
        .await
    }

    /// The outcome of a pull, on the caller's own thread, if it is soon to be had there. To go by way of
    /// another thread takes 79 us more of a processor for a pull that finds nothing, and a quarter of the
    /// rate of pages of 100 records.
    fn try_pull_inline(
        &self,
        vault: VaultId,
        pull: &Pull,
        room: &mut impl ReadBudget,
    ) -> Option<PullOutcome> {
        // Most pulls with a cursor find nothing, and those without one something.
        if pull.cursor.is_some()
            && !self.inline_readers.is_closed()
            && let Some(head) = self.head_cache.get(vault)
            && let Some(outcome) = without_records(pull, Some(head))
        {
            return Some(outcome);
        }
        // What goes wrong here goes wrong again where it can be told.
        let connection = self.inline_readers.try_get().ok()?;
        if pull.cursor.is_some()
            && let Some(outcome) = pull::look(&connection, vault, pull).ok()?
        {
            return Some(outcome);
        }
        let (bytes_max, until) = (self.options.page_bytes_max, Instant::now() + INLINE_READ_BUDGET);
        pull::page(&connection, vault, pull, bytes_max, room, Some(until)).ok()
    }

    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        self.writer.check()?;
        self.read(|connection| {
            connection.query_row("select count(*) from vaults where vault_id = x''", [], |_| Ok(()))
        })
        .await
    }

    pub(crate) const fn notifier(&self) -> &ChangeNotifier {
        &self.notifier
    }

    /// Finishes what is queued; a push that comes later is refused.
    pub(crate) async fn close(&self) {
        // Readers first: the last connection to close writes the log back into the file, and one that
        // only reads cannot.
        self.inline_readers.close();
        self.readers.close();
        self.writer.close().await;
    }

    /// Runs a query on a connection of the pool, on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = tokio::time::timeout(READER_PATIENCE, self.readers.get())
            .await
            .map_err(|_| StoreError::Unavailable("every connection that reads is busy".to_owned()))?
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        tokio::task::spawn_blocking(move || query(&connection))
            .await
            .map_err(|error| StoreError::Internal(error.to_string()))?
            .map_err(|error| failed(&error))
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.path).finish_non_exhaustive()
    }
}

/// How long a read waits for a connection: a server that has too much to do says so within a second.
const READER_PATIENCE: Duration = Duration::from_millis(500);

/// For how long a page is read on a thread that others wait for. One of 100 records of 1 KiB takes a fifth
/// of that, and one from a disk, or of megabytes, more.
const INLINE_READ_BUDGET: Duration = Duration::from_micros(300);

/// A reader answers tens of thousands of pages a second, so a few are enough.
fn reader_count() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8)
}

/// Tells an link, after which the same request may succeed, from a fault.
fn failed(error: &rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, ReadOnly, SystemIoFailure,
    };
    match error.sqlite_error_code() {
        Some(
            CannotOpen | DatabaseBusy | DatabaseLocked | DiskFull | OutOfMemory | ReadOnly
            | SystemIoFailure,
        ) => StoreError::Unavailable(error.to_string()),
        _ => StoreError::Internal(error.to_string()),
    }
}

/// Where a file beside the database lies: its whole name, and `suffix`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
