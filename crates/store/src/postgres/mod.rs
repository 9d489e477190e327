//! The store on PostgreSQL, and on Citus with the same statements. Any number of processes serve from
//! one database; the lock of a vault's row orders their pushes.
//!
//! A push: `push_executor` -> `batcher` -> `push_batch` (or `push_txn` alone) -> `round_trips`, and back.
//! A pull: `pull_executor` -> a replica, a batch of `head_reads`, or `pull` on the primary, and back.
//!
//! Not here: advisory locks, triggers, stored code, and NOTIFY in a transaction that writes, which would
//! serialize all commits of the database.

mod backfill;
mod batcher;
mod citus;
mod connection;
mod db_error;
mod deadlines;
mod endpoints;
mod fill_vault;
mod head_reads;
mod history;
mod index_build;
mod maintenance;
mod manager;
mod manifest;
mod migrate;
mod open;
mod pool;
mod primary_reads;
mod probe;
mod pull;
mod pull_executor;
mod push_batch;
mod push_executor;
mod push_txn;
mod record_writes;
mod records;
mod revisions;
mod round_trips;
mod rows;
mod usage;
mod users;
mod vault_locks;
mod vaults;

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;
use vaultsync_protocol::{
    HistoryRequest, ManifestRequest, Pull, Push, RecordsRequest, Timestamp, Usage, VaultSummary,
};
use vaultsync_tasks::{Task, Tasks};

pub use self::{
    backfill::{DigestCheck, validate_digests},
    citus::{distribute, pending_distribution},
    migrate::{migrate, pending_migrations},
};
use self::{
    batcher::Batcher,
    db_error::DbError,
    endpoints::Endpoints,
    head_reads::HEAD_READ_BATCHES,
    open::Checks,
    probe::Probe,
    push_executor::{BatchOutcome, PUSH_BATCHES, QueuedPush},
    vault_locks::VaultLocks,
};
use crate::{
    ChangeNotifier, DatabaseUrl, HistoryOutcome, ManifestOutcome, OpenError, PubsubBackend,
    PullOutcome, PushOutcome, ReadBudget, RecordsOutcome, RevisionsOutcome, RevisionsRequest,
    StoreError, StoreOptions, Vault, VaultId, pubsub::Relay, pull::VaultHead,
    request_results::RequestResults,
};

/// Options of a PostgreSQL store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresOptions {
    /// Addresses of one database, any of which will do: one, or several nodes of a Citus cluster.
    pub primaries: Vec<DatabaseUrl>,
    /// Addresses of replicas of it that pulls may read from. They may lag.
    pub replicas: Vec<DatabaseUrl>,
    /// Connections open at a time, for each address.
    pub connections_max: usize,
    /// How long one push or pull may take before the database counts as unavailable; a large push may
    /// take longer.
    pub timeout: Duration,
    /// Whether statements are prepared once for each connection, and not parsed at each call.
    pub prepare: bool,
    /// Whether pending migrations are applied at start. If not, there must be none.
    pub migrate: bool,
    /// How processes that serve from the database notify each other of changes.
    pub pubsub: PubsubBackend,
    /// Whether to serve from a database that can lose what it acknowledged.
    pub allow_unsafe: bool,
}

/// The statements of a push and a pull by name, for tests that explain them.
pub fn hot_statements() -> Vec<(&'static str, &'static str)> {
    let mut statements = vec![
        ("lock", push_txn::LOCK.text),
        ("record states", push_txn::RECORD_STATES.text),
        ("conflicts", push_txn::CONFLICTS.text),
        ("update vault", push_txn::UPDATE_VAULT.text),
        ("keep", record_writes::KEEP.text),
        ("touch", round_trips::TOUCH.text),
        ("head", pull::HEAD.text),
        ("page", pull::PAGE.text),
        ("records", records::RECORDS.text),
        ("manifest", manifest::MANIFEST.text),
        ("history versions", history::VERSIONS.text),
        ("history version", history::VERSION.text),
        ("history states", history::STATES.text),
        ("revisions", revisions::REVISIONS.text),
        ("usage", usage::USAGE.text),
    ];
    statements.extend(record_writes::examples());
    statements
}

/// The statements of batches, likewise.
pub fn batch_statements() -> [(&'static str, &'static str); 7] {
    [
        ("heads batch", head_reads::HEADS_BATCH.text),
        ("lock batch", push_batch::LOCK_BATCH.text),
        ("record states batch", push_batch::RECORD_STATES_BATCH.text),
        ("keep batch", push_batch::KEEP_BATCH.text),
        ("insert batch", push_batch::INSERT_BATCH.text),
        ("write batch", push_batch::WRITE_BATCH.text),
        ("update vaults batch", push_batch::UPDATE_VAULTS_BATCH.text),
    ]
}

/// The statements that go by a user and not by a vault, likewise. On Citus they read every shard.
pub fn user_statements() -> [(&'static str, &'static str); 2] {
    [("count vaults", push_txn::COUNT_VAULTS.text), ("list vaults", vaults::LIST.text)]
}

/// An open PostgreSQL database.
#[derive(Debug)]
pub struct Postgres {
    inner: Arc<Inner>,
    /// The pushes that are running.
    pushes: TaskTracker,
    relay: Relay,
    results: RequestResults,
    probe: Probe,
    backfill: Task,
    tasks: Tasks,
    files_max: usize,
}

/// A push on its way to the database.
#[derive(Debug)]
struct Job {
    vault: Vault,
    push: Push,
    now: Timestamp,
}

#[derive(Debug)]
struct Inner {
    primaries: Endpoints,
    replicas: Endpoints,
    vault_locks: VaultLocks,
    push_batcher: Batcher<QueuedPush, BatchOutcome>,
    head_batcher: Batcher<VaultId, Option<VaultHead>>,
    notifier: ChangeNotifier,
    timeout: Duration,
    options: StoreOptions,
}

impl Postgres {
    /// See [`Store::open_postgres`](crate::Store::open_postgres).
    pub(crate) async fn open(
        postgres: PostgresOptions,
        options: StoreOptions,
    ) -> Result<Self, OpenError> {
        let deployment = open::prepare(&postgres).await?;
        let tasks = Tasks::default();
        let (notifier, relay) = Relay::start(postgres.pubsub.clone(), &tasks);
        let checks = |is_writable| {
            let allow_unsafe = postgres.allow_unsafe;
            Checks { deployment, is_writable, allow_unsafe }
        };
        let endpoints = |urls, is_writable| {
            Endpoints::new(urls, &postgres, checks(is_writable), options.page_bytes_max)
        };
        let inner = Arc::new(Inner {
            primaries: endpoints(&postgres.primaries, true)?,
            replicas: endpoints(&postgres.replicas, false)?,
            vault_locks: VaultLocks::default(),
            push_batcher: Batcher::new(PUSH_BATCHES),
            head_batcher: Batcher::new(HEAD_READ_BATCHES),
            notifier,
            timeout: postgres.timeout,
            options,
        });
        inner.primaries.check_all(&postgres.primaries).await?;
        inner.replicas.check_all(&postgres.replicas).await?;
        if inner.primaries.are_citus()
            && let PubsubBackend::Notify(url) = &postgres.pubsub
        {
            citus::check_notify(url).await;
        }
        let probe = Probe::new(&postgres, checks(true));
        let backfill = backfill::start(&postgres, &tasks);
        let files_max = files_max(&postgres);
        Ok(Self {
            inner,
            pushes: TaskTracker::new(),
            relay,
            results: RequestResults::default(),
            probe,
            backfill,
            tasks,
            files_max,
        })
    }

    pub(crate) async fn push(
        &self,
        vault: &Vault,
        push: Push,
        now: Timestamp,
        guard: Box<dyn Send>,
    ) -> Result<PushOutcome, StoreError> {
        if self.pushes.is_closed() {
            return Err(StoreError::Unavailable("the database is closing".to_owned()));
        }
        let inner = self.inner.clone();
        let job = Arc::new(Job { vault: vault.clone(), push, now });
        // In a task of its own: a caller that goes away must not abort a transaction.
        let pushing = self.pushes.spawn(async move {
            let outcome = inner.push(&job).await;
            // Before the outcome is returned: its receiver may rely on the reservation being free again.
            drop((job, guard));
            outcome
        });
        let outcome = pushing.await.unwrap_or_else(|_| {
            Err(StoreError::OutcomeUnknown("the task of a push panicked".to_owned()))
        });
        self.results.record_push(vault.id(), &outcome);
        outcome
    }

    pub(crate) async fn pull<R: ReadBudget>(
        &self,
        vault: &Vault,
        pull: &Pull,
        budget: R,
    ) -> Result<(PullOutcome, R), StoreError> {
        let outcome = self.inner.pull(vault, pull, budget).await.map_err(StoreError::from);
        self.record_read(&outcome);
        outcome
    }

    pub(crate) async fn records<R: ReadBudget>(
        &self,
        vault: &Vault,
        request: &RecordsRequest,
        budget: R,
    ) -> Result<(RecordsOutcome, R), StoreError> {
        self.recorded(self.inner.records(vault, request, budget).await)
    }

    pub(crate) async fn manifest<R: ReadBudget>(
        &self,
        vault: VaultId,
        request: &ManifestRequest,
        budget: R,
    ) -> Result<(ManifestOutcome, R), StoreError> {
        self.recorded(self.inner.manifest(vault, request, budget).await)
    }

    pub(crate) async fn usage(&self, vault: VaultId) -> Result<Usage, StoreError> {
        self.recorded(self.inner.usage(vault).await)
    }

    pub(crate) async fn history<R: ReadBudget>(
        &self,
        vault: VaultId,
        request: &HistoryRequest,
        budget: R,
    ) -> Result<(HistoryOutcome, R), StoreError> {
        self.recorded(self.inner.history(vault, request, budget).await)
    }

    pub(crate) async fn revisions<R: ReadBudget>(
        &self,
        vault: VaultId,
        request: &RevisionsRequest,
        budget: R,
    ) -> Result<(RevisionsOutcome, R), StoreError> {
        self.recorded(self.inner.revisions(vault, request, budget).await)
    }

    pub(crate) async fn head(&self, vault: VaultId) -> Result<Option<VaultHead>, StoreError> {
        let head = self.inner.head(vault).await.map_err(StoreError::from);
        self.record_read(&head);
        head
    }

    pub(crate) async fn vaults(&self, of: &Vault) -> Result<Vec<VaultSummary>, StoreError> {
        self.recorded(self.inner.vaults(of).await)
    }

    /// The result of a read from the primary, which shows whether pushes could be served.
    fn recorded<T>(&self, read: Result<T, DbError>) -> Result<T, StoreError> {
        let read = read.map_err(StoreError::from);
        self.results.record_read(&read);
        read
    }

    /// A read from a replica shows nothing about the primary, which pushes need.
    fn record_read<T>(&self, result: &Result<T, StoreError>) {
        if self.inner.replicas.is_empty() {
            self.results.record_read(result);
        }
    }

    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        if self.pushes.is_closed() {
            return Err(StoreError::Unavailable("the database is closing".to_owned()));
        }
        if self.results.has_just_served() {
            return Ok(());
        }
        self.probe.check().await.map_err(StoreError::from)
    }

    pub(crate) const fn results(&self) -> &RequestResults {
        &self.results
    }

    pub(crate) fn notifier(&self) -> &ChangeNotifier {
        &self.inner.notifier
    }

    pub(crate) const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The most connections that the store has open, those for notifications included.
    pub(crate) const fn files_max(&self) -> usize {
        self.files_max
    }

    /// Waits for the pushes that are running. Later ones are rejected.
    pub(crate) async fn close(&self) {
        self.pushes.close();
        self.pushes.wait().await;
        self.backfill.abort();
        self.relay.close().await;
        self.probe.close().await;
        self.inner.primaries.close();
        self.inner.replicas.close();
    }
}

/// See [`Postgres::files_max`].
fn files_max(options: &PostgresOptions) -> usize {
    // The session, its probe, and the sockets and files of name resolution.
    const NOTIFICATION_FILES: usize = 6;
    // The connection of readiness checks, and that of the backfill.
    const OTHER_FILES: usize = 2;
    let addresses = options.primaries.len() + options.replicas.len();
    // As many connections again may wait outside of the pool for the end of their statements.
    let pooled = options.connections_max.saturating_mul(2).saturating_mul(addresses);
    pooled.saturating_add(NOTIFICATION_FILES + OTHER_FILES)
}

impl Inner {
    #[expect(clippy::cast_precision_loss, reason = "a pool is far smaller than 2^53")]
    fn gauge(&self) {
        let (open, idle) = self.primaries.count();
        metrics::gauge!("vaultsync_store_connections").set(open as f64);
        metrics::gauge!("vaultsync_store_connections_idle").set(idle as f64);
    }
}
