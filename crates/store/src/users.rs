//! Users, as an operator sees them. Clients have no such list.

use std::path::Path;

use vaultsync_protocol::{Pull, Timestamp, Usage, VaultSummary};

use crate::{
    OpenError, PullOutcome, RevisionsOutcome, RevisionsRequest, Store, StoreError, Unbounded,
    Vault, sqlite::SqliteReader,
};

/// Users that are listed at a time.
pub(crate) const BATCH_USERS: i64 = 1000;

/// What a user has, over all vaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSummary {
    /// The issuer that authenticates the user.
    pub issuer: String,
    /// The issuer's name for the user.
    pub subject: String,
    /// The number of vaults.
    pub vaults: i64,
    /// Records that are no tombstones.
    pub records: i64,
    /// Bytes of ciphertext, tombstones included.
    pub bytes: i64,
    /// The latest head of a vault.
    pub head: Timestamp,
}

/// A database, as operators' commands use it: beside a server that serves from it, or without one.
#[derive(Debug)]
pub enum OperatorStore {
    /// A SQLite file. It is read by a connection that does not disturb a server.
    Sqlite(SqliteReader),
    /// A PostgreSQL database, opened as a server would. Boxed, because it is larger.
    Postgres(Box<Store>),
}

impl OperatorStore {
    /// Opens a SQLite file to read from it, whether or not a server has it open.
    ///
    /// # Errors
    ///
    /// If it is not a Vaultsync database of this version.
    pub fn open_sqlite(path: &Path) -> Result<Self, OpenError> {
        SqliteReader::open(path).map(Self::Sqlite)
    }

    /// The next users after one, by issuer and subject. The last part is empty.
    pub async fn users(&self, after: Option<&UserSummary>) -> Result<Vec<UserSummary>, StoreError> {
        let (issuer, subject) =
            after.map_or(("", ""), |user| (user.issuer.as_str(), user.subject.as_str()));
        match self {
            Self::Sqlite(reader) => reader.users(issuer, subject),
            Self::Postgres(store) => store.users(issuer, subject).await,
        }
    }

    /// The vaults of a vault's user.
    pub async fn vaults(&self, of: &Vault) -> Result<Vec<VaultSummary>, StoreError> {
        match self {
            Self::Sqlite(reader) => reader.vaults(of),
            Self::Postgres(store) => store.vaults(of).await,
        }
    }

    /// What a vault takes up.
    pub async fn usage(&self, vault: &Vault) -> Result<Usage, StoreError> {
        match self {
            Self::Sqlite(reader) => reader.usage(vault.id()),
            Self::Postgres(store) => store.usage(vault).await,
        }
    }

    /// One page of a vault's kept versions.
    pub async fn revisions(
        &self,
        vault: &Vault,
        request: &RevisionsRequest,
    ) -> Result<RevisionsOutcome, StoreError> {
        match self {
            Self::Sqlite(reader) => reader.revisions(vault.id(), request),
            Self::Postgres(store) => Ok(store.revisions(vault, request, Unbounded).await?.0),
        }
    }

    /// One page of a vault's records.
    pub async fn pull(&self, vault: &Vault, pull: &Pull) -> Result<PullOutcome, StoreError> {
        match self {
            Self::Sqlite(reader) => reader.pull(vault.id(), pull),
            Self::Postgres(store) => Ok(store.pull(vault, pull, Unbounded).await?.0),
        }
    }
}

impl Store {
    /// The next users after one, by issuer and subject.
    pub(crate) async fn users(
        &self,
        issuer: &str,
        subject: &str,
    ) -> Result<Vec<UserSummary>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.users(issuer, subject).await,
            Self::Postgres(postgres) => postgres.users(issuer, subject).await,
        }
    }
}
