//! The use cases of the store. Each is one call, one transaction and one outcome.

use std::path::PathBuf;

use vaultsync_protocol::{
    Conflict, Epoch, FoundRecords, FoundVersion, HeadChange, HistoryRequest, Manifest,
    ManifestRequest, Page, PastStates, Pull, Push, RecordHistory, RecordsRequest, Timestamp, Usage,
    VaultSummary, Written,
};
use vaultsync_tasks::Tasks;

use crate::{
    ChangeNotifier, HistoryOptions, OpenError, PostgresOptions, QuotaExceeded, Quotas, ReadBudget,
    RevisionsOutcome, RevisionsRequest, StoreError, StoreHealth, Vault, VaultHead,
    postgres::Postgres, sqlite::Sqlite,
};

/// Options of every store.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Ciphertext of one page or one list of conflicts, in bytes: it ends before it exceeds this, but
    /// never before its first entry.
    pub page_bytes_max: usize,
    /// Named vaults of one user. Two first pushes at the same time may exceed it.
    pub vaults_per_user_max: usize,
    /// Which replaced versions of records are kept.
    pub history: HistoryOptions,
    /// What a vault may hold.
    pub quotas: Quotas,
    /// Returns a random epoch for a new vault.
    pub new_epoch: fn() -> Epoch,
}

impl StoreOptions {
    /// The server's defaults.
    pub fn new(new_epoch: fn() -> Epoch) -> Self {
        Self {
            page_bytes_max: 8 << 20,
            vaults_per_user_max: 16,
            history: HistoryOptions::default(),
            quotas: Quotas::default(),
            new_epoch,
        }
    }
}

/// The database. Its methods document the contract of every backend, and the conformance suite in
/// `tests/` checks each backend against it.
#[derive(Debug)]
pub enum Store {
    /// One SQLite file, for one process that serves.
    Sqlite(Sqlite),
    /// A PostgreSQL database, for any number of processes.
    Postgres(Postgres),
}

/// Outcome of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    /// Every write is applied, by this push or by an earlier one with the same bytes.
    Applied {
        /// The versions, in the order of the operations.
        results: Vec<Written>,
        /// How this push moved the vault's head; `None` if it wrote no record.
        head_change: Option<HeadChange>,
    },
    /// Nothing is written, because records conflict.
    Refused(Refused),
    /// Nothing is written, because the client names another epoch than the vault's.
    EpochChanged,
    /// Nothing is written, because the client names an epoch of the vault that was erased.
    VaultErased,
    /// Nothing is written, because the vault was erased and its rows are still being removed.
    Erasing,
    /// Nothing is written, because the push would create a named vault, and the user has
    /// [`vaults_per_user_max`](StoreOptions::vaults_per_user_max).
    TooManyVaults,
    /// Nothing is written, because the vault would hold more than its quotas.
    QuotaExceeded(QuotaExceeded),
    /// Nothing is written, because tombstones were purged that the client may not have seen.
    CursorExpired,
}

/// The conflicts of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The conflicting records, in the push's order, those of guards first: all of them, or as many as fit
    /// in `page_bytes_max`.
    pub conflicts: Vec<Conflict>,
    /// Whether more records conflict than these.
    pub has_more: bool,
}

/// Outcome of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullOutcome {
    /// The page.
    Page(Page),
    /// The client names another epoch than the vault's.
    EpochChanged,
    /// The client names an epoch of the vault that was erased.
    VaultErased,
    /// The client names the vault's epoch, but its cursor is later than the vault's head.
    CursorAhead,
    /// Tombstones were purged that the client has not seen.
    CursorExpired,
}

/// Outcome of a read of records by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordsOutcome {
    /// The records.
    Found(FoundRecords),
    /// The client names another epoch than the vault's.
    EpochChanged,
    /// The client names an epoch of the vault that was erased.
    VaultErased,
}

/// Outcome of a read of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestOutcome {
    /// One page.
    Manifest(Manifest),
    /// The client names another epoch than the vault's.
    EpochChanged,
    /// The client names an epoch of the vault that was erased.
    VaultErased,
}

/// Outcome of a read of the history, by what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryOutcome {
    /// One page of the kept versions of a record.
    Versions(RecordHistory),
    /// One version of a record.
    Version(FoundVersion),
    /// One page of the states at a cursor.
    States(PastStates),
    /// The client names another epoch than the vault's.
    EpochChanged,
    /// The client names an epoch of the vault that was erased.
    VaultErased,
}

/// An outcome that depends on the epoch that the client names.
pub(crate) trait ByEpoch {
    const VAULT_ERASED: Self;

    fn is_epoch_changed(&self) -> bool;
}

macro_rules! by_epoch {
    ($($outcome:ident),+) => {$(
        impl ByEpoch for $outcome {
            const VAULT_ERASED: Self = Self::VaultErased;

            fn is_epoch_changed(&self) -> bool {
                matches!(self, Self::EpochChanged)
            }
        }
    )+};
}

by_epoch!(
    PushOutcome,
    PullOutcome,
    RecordsOutcome,
    ManifestOutcome,
    HistoryOutcome,
    RevisionsOutcome
);

impl Store {
    /// Opens the SQLite database at `path` to serve from it. Creates the file if it does not exist, and
    /// applies pending migrations.
    ///
    /// # Errors
    ///
    /// [`OpenError::InUse`] if another process serves from the same file, [`OpenError::Damaged`] if a check of
    /// a few seconds finds damage.
    pub fn open_sqlite(path: PathBuf, options: StoreOptions) -> Result<Self, OpenError> {
        Sqlite::open(path, options).map(Self::Sqlite)
    }

    /// Opens a PostgreSQL database to serve from it, beside any other processes that do, and applies
    /// pending migrations if the options say so.
    ///
    /// # Errors
    ///
    /// [`OpenError::Database`] if none of its addresses answers, or if it could lose what it
    /// acknowledged.
    pub async fn open_postgres(
        postgres: PostgresOptions,
        options: StoreOptions,
    ) -> Result<Self, OpenError> {
        // Boxed, because it is large, and part of every future that opens a store.
        Box::pin(Postgres::open(postgres, options)).await.map(Self::Postgres)
    }

    /// Applies a batch of writes to a vault, all or none. `push_plan.rs` has the rules.
    ///
    /// Each record written gets a millisecond of its own, later than any that the vault has assigned and,
    /// up to the year 9000, not before `now`. An outcome is durable when it is returned. A push that was
    /// applied and is sent again unchanged returns the same outcome and writes nothing, while fewer than
    /// [`RECEIPTS_MAX`](crate::RECEIPTS_MAX) other pushes of the vault lie between.
    ///
    /// Conflicts are read within `budget`, where the backend can ask it (SQLite). If there is no memory for the
    /// first one, the list is empty and has more. The budget is dropped when the push has ended, even if the
    /// caller does not wait for its outcome.
    pub async fn push(
        &self,
        vault: &Vault,
        push: Push,
        now: Timestamp,
        budget: impl ReadBudget,
    ) -> Result<PushOutcome, StoreError> {
        let known = push.epoch().cloned();
        let outcome = match self {
            Self::Sqlite(sqlite) => sqlite.push(vault, push, now, Box::new(budget)).await,
            Self::Postgres(postgres) => postgres.push(vault, push, now, Box::new(budget)).await,
        }?;
        self.distinguish_erased(vault, known.as_ref(), outcome).await
    }

    /// Reads one page of changes after a cursor, from one snapshot, within `budget`, which is returned.
    /// Does not wait for `pull.wait`.
    pub async fn pull<R: ReadBudget>(
        &self,
        vault: &Vault,
        pull: &Pull,
        budget: R,
    ) -> Result<(PullOutcome, R), StoreError> {
        let (outcome, budget) = match self {
            Self::Sqlite(sqlite) => sqlite.pull(vault, pull, budget).await,
            Self::Postgres(postgres) => postgres.pull(vault, pull, budget).await,
        }?;
        let outcome = self.distinguish_erased(vault, pull.epoch.as_ref(), outcome).await?;
        Ok((outcome, budget))
    }

    /// Reads records by id, from one snapshot, in the order of the request, within `budget`, which is returned.
    /// The response is cut as a page is. On PostgreSQL a replica is not asked.
    pub async fn records<R: ReadBudget>(
        &self,
        vault: &Vault,
        request: &RecordsRequest,
        budget: R,
    ) -> Result<(RecordsOutcome, R), StoreError> {
        let (outcome, budget) = match self {
            Self::Sqlite(sqlite) => sqlite.records(vault, request, budget).await,
            Self::Postgres(postgres) => postgres.records(vault, request, budget).await,
        }?;
        Ok((self.distinguish_erased(vault, request.epoch(), outcome).await?, budget))
    }

    /// Reads one page of a manifest, ordered by record id in byte order, from one snapshot, within `budget`,
    /// which is returned. On PostgreSQL a replica is not asked.
    ///
    /// The pages that follow each other's `next` have each record once that existed before the first of them
    /// was read. A record that is created meanwhile may be in none of them, and one that changes is in the state
    /// of its page: a pull after the head of the first page returns both.
    pub async fn manifest<R: ReadBudget>(
        &self,
        vault: &Vault,
        request: &ManifestRequest,
        budget: R,
    ) -> Result<(ManifestOutcome, R), StoreError> {
        let (outcome, budget) = match self {
            Self::Sqlite(sqlite) => sqlite.manifest(vault.id(), request, budget).await,
            Self::Postgres(postgres) => postgres.manifest(vault.id(), request, budget).await,
        }?;
        Ok((self.distinguish_erased(vault, request.epoch.as_ref(), outcome).await?, budget))
    }

    /// Reads what a vault takes up, from its row. On PostgreSQL a replica is not asked.
    pub async fn usage(&self, vault: &Vault) -> Result<Usage, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.usage(vault.id()).await,
            Self::Postgres(postgres) => postgres.usage(vault.id()).await,
        }
    }

    /// Reads a part of a vault's history from one snapshot, within `budget`, which is returned. On PostgreSQL a
    /// replica is not asked.
    ///
    /// Which versions are kept is decided when they are replaced, see [`HistoryOptions`]. `rewind.rs` has the rules
    /// for the states at a cursor. A page of them looks at as many records as its limit, whether they changed after
    /// the cursor or not, so that its cost is bounded.
    pub async fn history<R: ReadBudget>(
        &self,
        vault: &Vault,
        request: &HistoryRequest,
        budget: R,
    ) -> Result<(HistoryOutcome, R), StoreError> {
        let (outcome, budget) = match self {
            Self::Sqlite(sqlite) => sqlite.history(vault.id(), request, budget).await,
            Self::Postgres(postgres) => postgres.history(vault.id(), request, budget).await,
        }?;
        Ok((self.distinguish_erased(vault, request.epoch.as_ref(), outcome).await?, budget))
    }

    /// Reads one page of a vault's kept versions with their ciphertexts, in the order of record ids and versions,
    /// from one snapshot, within `budget`, which is returned. On PostgreSQL a replica is not asked.
    ///
    /// The pages that follow each other have each version once that is kept while they are read. A version that is
    /// replaced meanwhile may be in none of them.
    pub async fn revisions<R: ReadBudget>(
        &self,
        vault: &Vault,
        request: &RevisionsRequest,
        budget: R,
    ) -> Result<(RevisionsOutcome, R), StoreError> {
        let (outcome, budget) = match self {
            Self::Sqlite(sqlite) => sqlite.revisions(vault.id(), request, budget).await,
            Self::Postgres(postgres) => postgres.revisions(vault.id(), request, budget).await,
        }?;
        Ok((self.distinguish_erased(vault, request.epoch.as_ref(), outcome).await?, budget))
    }

    /// Reads a vault's head, with its epoch. `None` if nothing was ever pushed to it.
    pub async fn head(&self, vault: &Vault) -> Result<Option<VaultHead>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.head(vault.id()).await,
            Self::Postgres(postgres) => postgres.head(vault.id()).await,
        }
    }

    /// Lists the vaults of a vault's user: the default one first, then the named ones by name. On PostgreSQL a
    /// replica is not asked.
    pub async fn vaults(&self, of: &Vault) -> Result<Vec<VaultSummary>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.vaults(of).await,
            Self::Postgres(postgres) => postgres.vaults(of).await,
        }
    }

    /// Checks that the database answers and has its tables. Takes no part in the load of real requests:
    /// it needs no place in a queue or a pool, and a busy database passes.
    pub async fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.check().await,
            Self::Postgres(postgres) => postgres.check().await,
        }
    }

    /// Checks that the latest pushes did not all fail because of the database.
    pub fn check_pushes(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.results().check_pushes(),
            Self::Postgres(postgres) => postgres.results().check_pushes(),
        }
    }

    /// Checks that the disk has room for a push, as far as this machine can tell: not for PostgreSQL,
    /// which knows its own disks.
    pub async fn check_disk(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.check_disk().await,
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Whether writes are taken, as far as is known. Asks nothing of the database.
    pub fn health(&self) -> StoreHealth {
        match self {
            Self::Sqlite(sqlite) => sqlite.health(),
            // The database server looks after its own files, and reports damage with each statement.
            Self::Postgres(_) => StoreHealth::Working,
        }
    }

    /// Publishes the changes of vaults to subscribers.
    pub fn notifier(&self) -> &ChangeNotifier {
        match self {
            Self::Sqlite(sqlite) => sqlite.notifier(),
            Self::Postgres(postgres) => postgres.notifier(),
        }
    }

    /// The store's long-lived tasks. A server adds its own to the list.
    pub const fn tasks(&self) -> &Tasks {
        match self {
            Self::Sqlite(sqlite) => sqlite.tasks(),
            Self::Postgres(postgres) => postgres.tasks(),
        }
    }

    /// The most files and connections that the store has open at a time.
    pub fn files_max(&self) -> usize {
        match self {
            Self::Sqlite(_) => Sqlite::files_max(),
            Self::Postgres(postgres) => postgres.files_max(),
        }
    }

    /// Finishes the queued pushes and closes the database.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(postgres) => postgres.close().await,
        }
    }
}
