//! The store on one SQLite file: one thread writes, a pool of connections reads.
//!
//! SQLite admits one writer at a time, so a thread with a queue costs nothing. It gains two things: no
//! push ever finds the database busy, and many pushes share one commit (decision 0002).

mod check;
mod database_file;
mod head_cache;
mod health;
mod history;
mod log;
mod maintenance;
mod manifest;
mod open;
mod pull;
mod push;
mod reader;
mod records;
mod revisions;
mod rows;
mod upgrade;
mod usage;
mod users;
mod vaults;
mod watch;
mod write_task;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use deadpool::unmanaged::{Object, Pool};
use rusqlite::Connection;
use tokio::{sync::oneshot, time::Instant};
use vaultsync_protocol::{
    ManifestRequest, Pull, Push, RecordsRequest, Timestamp, Usage, VaultSummary,
};
use vaultsync_tasks::Tasks;

pub use self::{check::verify_sqlite, reader::SqliteReader};
use self::{
    database_file::DatabaseFile,
    head_cache::HeadCache,
    health::Health,
    log::{Log, Reads},
    watch::Watch,
    writer::{Job, Writer},
};
use crate::{
    ChangeNotifier, ManifestOutcome, OpenError, PullOutcome, PushOutcome, ReadBudget,
    RecordsOutcome, StoreError, StoreHealth, StoreOptions, Vault, VaultId, disk_room,
    pull::{VaultHead, without_records},
    request_results::RequestResults,
};

/// The key of a vault's row in this file, and of its records. Shorter than the vault's id, because it is in
/// both indexes of the records.
#[derive(Clone, Copy, Debug)]
struct VaultKey(i64);

/// An open SQLite database.
pub struct Sqlite {
    path: PathBuf,
    /// Before the writer, because it must have ended when SQLite closes its files.
    watch: Watch,
    writer: Writer,
    tasks: Tasks,
    /// For reads of a fraction of a millisecond, on the caller's thread.
    inline_readers: Pool<Connection>,
    /// For all other reads, on a thread that may block.
    readers: Pool<Connection>,
    notifier: ChangeNotifier,
    head_cache: HeadCache,
    results: RequestResults,
    health: Health,
    reads: Reads,
    options: StoreOptions,
    /// Locked while this process serves from the file. The last field, because closing the file would
    /// release the locks of connections that are still open.
    _file: Arc<DatabaseFile>,
}

impl Sqlite {
    /// See [`Store::open_sqlite`](crate::Store::open_sqlite).
    pub(crate) fn open(path: PathBuf, options: StoreOptions) -> Result<Self, OpenError> {
        // A name that begins with `file:` is a URI to SQLite, which then opens another file than the one
        // that is locked. An absolute path never begins so.
        let path = std::path::absolute(&path).map_err(|error| OpenError::Io { path, error })?;
        let file = Arc::new(open::lock(&path)?);
        Self::open_locked(path, options, Arc::clone(&file)).inspect_err(|_| {
            // Everything is closed again. Without the stamp, the next start would accept a backup beside the
            // log of this file.
            if let Err(error) = file.end_change() {
                tracing::debug!(%error, "the lock file cannot be written");
            }
        })
    }

    fn open_locked(
        path: PathBuf,
        options: StoreOptions,
        file: Arc<DatabaseFile>,
    ) -> Result<Self, OpenError> {
        let writing = open::writing(&path)?;
        let connections = |busy_timeout| {
            let open = |_| open::reading(&path, busy_timeout);
            (0..reader_count()).map(open).collect::<Result<Vec<_>, _>>().map(Pool::from)
        };
        // An async worker must not wait: if the file is busy, the read moves to a blocking thread.
        let inline_readers = connections(Duration::ZERO)?;
        let readers = connections(open::BUSY_TIMEOUT)?;
        let io_error = |error| OpenError::Io { path: path.clone(), error };
        file.opened().map_err(io_error)?;
        let tasks = Tasks::default();
        let (notifier, head_cache) = (ChangeNotifier::default(), HeadCache::new());
        let (health, reads) = (Health::new(&path), Reads::default());
        let log = Log::new(Arc::clone(&file), health.clone(), reads.clone());
        let parts = writer::Parts {
            connection: writing,
            options,
            notifier: notifier.clone(),
            head_cache: head_cache.clone(),
            file: Arc::clone(&file),
            health: health.clone(),
            log,
        };
        let writer = Writer::start(parts, &tasks).map_err(io_error)?;
        let watch = Watch::start(Arc::clone(&file), health.clone(), &tasks).map_err(io_error)?;
        Ok(Self {
            path,
            watch,
            writer,
            tasks,
            inline_readers,
            readers,
            notifier,
            head_cache,
            results: RequestResults::default(),
            health,
            reads,
            options,
            _file: file,
        })
    }

    pub(crate) async fn push(
        &self,
        vault: &Vault,
        push: Push,
        now: Timestamp,
        budget: Box<dyn ReadBudget>,
    ) -> Result<PushOutcome, StoreError> {
        self.health.check()?;
        let (reply, outcome) = oneshot::channel();
        let queued_at = Instant::now();
        self.writer.send(Job { vault: vault.clone(), push, now, queued_at, reply, budget })?;
        let outcome = outcome.await.unwrap_or_else(|_| {
            Err(StoreError::OutcomeUnknown("the writer thread dropped the push".to_owned()))
        });
        self.results.record_push(vault.id(), &outcome);
        outcome
    }

    /// Reads a page from the first of these that can serve it:
    ///
    /// 1. the cache of heads, if it shows that there is nothing new;
    /// 2. a connection on the caller's thread, within [`INLINE_READ_BUDGET`];
    /// 3. a connection on a thread that may block.
    pub(crate) async fn pull<R: ReadBudget>(
        &self,
        vault: &Vault,
        pull: &Pull,
        mut budget: R,
    ) -> Result<(PullOutcome, R), StoreError> {
        let (id, bytes_max) = (vault.id(), self.options.page_bytes_max);
        if let Some(outcome) = self.pull_from_cache(id, pull) {
            return Ok((outcome, budget));
        }
        if let Some(outcome) = self.try_pull_inline(id, pull, &mut budget) {
            return Ok((outcome, budget));
        }
        budget.clear();
        let pull = pull.clone();
        self.read_blocking(move |connection| {
            pull::read_page(
                connection,
                id,
                &pull,
                &mut pull::Limits { bytes_max, until: None, budget: &mut budget },
            )
            .map(|outcome| (outcome, budget))
        })
        .await
    }

    /// The outcome, if the cached head decides it: -25 % CPU for a pull that finds nothing, compared with
    /// reading the vault's row (decision 0010).
    fn pull_from_cache(&self, vault: VaultId, pull: &Pull) -> Option<PullOutcome> {
        // Most pulls with a cursor find nothing new, and pulls without one find something.
        if pull.cursor.is_none() || self.inline_readers.is_closed() {
            return None;
        }
        without_records(pull, Some(self.head_cache.get(vault)?))
    }

    /// The outcome, if it can be read at once on the caller's thread. A blocking thread costs 79 us more
    /// CPU for a pull that finds nothing, and a quarter of the rate of pages of 100 records. After an
    /// error the read is repeated on a blocking thread, which reports it.
    fn try_pull_inline(
        &self,
        vault: VaultId,
        pull: &Pull,
        budget: &mut impl ReadBudget,
    ) -> Option<PullOutcome> {
        let connection = self.inline_readers.try_get().ok()?;
        let _read = self.reads.begin();
        if pull.cursor.is_some() {
            let head = pull::read_head(&connection, vault).ok()?;
            if let Some(outcome) = without_records(pull, head) {
                return Some(outcome);
            }
        }
        let (bytes_max, until) =
            (self.options.page_bytes_max, Some(Instant::now() + INLINE_READ_BUDGET));
        pull::read_page(&connection, vault, pull, &mut pull::Limits { bytes_max, until, budget })
            .ok()
    }

    pub(crate) async fn records<R: ReadBudget>(
        &self,
        vault: &Vault,
        request: &RecordsRequest,
        mut budget: R,
    ) -> Result<(RecordsOutcome, R), StoreError> {
        let (id, request, bytes_max) = (vault.id(), request.clone(), self.options.page_bytes_max);
        self.read_blocking(move |connection| {
            records::read(connection, id, &request, bytes_max, &mut budget)
                .map(|outcome| (outcome, budget))
        })
        .await
    }

    pub(crate) async fn manifest<R: ReadBudget>(
        &self,
        vault: VaultId,
        request: &ManifestRequest,
        mut budget: R,
    ) -> Result<(ManifestOutcome, R), StoreError> {
        let request = request.clone();
        self.read_blocking(move |connection| {
            manifest::read_page(connection, vault, &request, &mut budget)
                .map(|outcome| (outcome, budget))
        })
        .await
    }

    pub(crate) async fn usage(&self, vault: VaultId) -> Result<Usage, StoreError> {
        self.read_blocking(move |connection| usage::read(connection, vault)).await
    }

    pub(crate) async fn head(&self, vault: VaultId) -> Result<Option<VaultHead>, StoreError> {
        match self.head_cache.get(vault).filter(|_| !self.inline_readers.is_closed()) {
            Some(head) => Ok(Some(head)),
            None => self.read_head(vault).await,
        }
    }

    async fn read_head(&self, vault: VaultId) -> Result<Option<VaultHead>, StoreError> {
        let _read = self.reads.begin();
        if let Ok(connection) = self.inline_readers.try_get()
            && let Ok(head) = pull::read_head(&connection, vault)
        {
            return Ok(head);
        }
        self.read_blocking(move |connection| pull::read_head(connection, vault)).await
    }

    pub(crate) async fn vaults(&self, of: &Vault) -> Result<Vec<VaultSummary>, StoreError> {
        let of = of.clone();
        self.read_blocking(move |connection| vaults::list(connection, &of)).await
    }

    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        self.writer.check()?;
        // Real requests show that the disk responds, whether or not a connection is free.
        if self.results.has_just_served() {
            return Ok(());
        }
        let hangs = |_| StoreError::Unavailable("reads do not end".to_owned());
        let connection = tokio::time::timeout(CHECK_TIMEOUT, self.readers.get())
            .await
            .map_err(hangs)?
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let read = "select count(*) from vaults where vault_id = x''";
        self.run_blocking(connection, |connection| connection.query_row(read, [], |_| Ok(()))).await
    }

    pub(crate) async fn check_disk(&self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let checked = tokio::task::spawn_blocking(move || disk_room::check(&path)).await;
        checked.map_err(|error| StoreError::Internal(error.to_string()))?
    }

    pub(crate) const fn results(&self) -> &RequestResults {
        &self.results
    }

    pub(crate) fn health(&self) -> StoreHealth {
        self.health.get()
    }

    pub(crate) const fn notifier(&self) -> &ChangeNotifier {
        &self.notifier
    }

    pub(crate) const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The most files that the store has open: each connection has the database and its log, and they share
    /// the index of the log, the lock and temporary files.
    pub(crate) fn files_max() -> usize {
        const SHARED_FILES: usize = 6;
        (1 + 2 * reader_count()) * 2 + SHARED_FILES
    }

    /// Commits the queued pushes. Later ones are rejected.
    pub(crate) async fn close(&self) {
        self.watch.close();
        // Readers first: the last connection to close writes the log back into the file, and a read-only
        // one cannot.
        self.inline_readers.close();
        self.readers.close();
        self.writer.close().await;
    }

    /// Runs a query on a pooled connection, on a thread that may block.
    async fn read_blocking<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let is_short = self.readers.status().waiting < READERS_WAITING_SHORT;
        let wait = if is_short { SHORT_QUEUE_TIMEOUT } else { READER_TIMEOUT };
        let connection = tokio::time::timeout(wait, self.readers.get())
            .await
            .map_err(|_| StoreError::Busy("too many reads wait for a connection".to_owned()))?
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let result = self.run_blocking(connection, query).await;
        self.results.record_read(&result);
        result
    }

    async fn run_blocking<T: Send + 'static>(
        &self,
        connection: Object<Connection>,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let read = self.reads.begin();
        let query = move || {
            let result = query(&connection);
            drop((connection, read));
            result
        };
        tokio::task::spawn_blocking(query)
            .await
            .map_err(|error| StoreError::Internal(error.to_string()))?
            .map_err(|error| self.health.failed(&error))
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.path).finish_non_exhaustive()
    }
}

/// How long a read waits for a connection if many others wait. An overloaded server must say so within a
/// second.
const READER_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a read waits if few others do: a disk that stalls is no overload, and a short queue is served
/// late rather than refused.
const SHORT_QUEUE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a readiness check waits for a connection if no request has just been served.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// How many reads may wait for a queue that counts as short. Pages of 8 MiB take some 50 ms each, so the
/// last of them waits less than half a second.
const READERS_WAITING_SHORT: usize = 16;

/// How long a page may be read on the caller's thread, which other requests wait for. A page of 100 records
/// of 1 KiB takes a fifth of that; one that comes from a disk, or has megabytes, takes more.
const INLINE_READ_BUDGET: Duration = Duration::from_micros(300);

/// A connection reads tens of thousands of pages a second, so a few are enough.
fn reader_count() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8)
}

/// The path of a file beside the database: its whole name and `suffix`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
