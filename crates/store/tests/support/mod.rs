//! Shared by the test programs of the store: opening a database, building pushes.
//!
//! Not here: anything that only one of the test programs needs.

use std::{path::PathBuf, sync::OnceLock, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use vaultsync_protocol::{
    Ciphertext, Epoch, KnownEpoch, Operation, Pull, Push, RecordId, RecordsRequest, Timestamp,
    Version,
};
use vaultsync_store::{
    PostgresOptions, PubsubBackend, PullOutcome, PushOutcome, RecordsOutcome, Store, StoreError,
    StoreOptions, Unbounded, Vault,
};
use vaultsync_test_servers::shared_postgres;

/// The backends that the suites run on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// An open store. Each has a SQLite database of its own. The PostgreSQL database is shared by all tests of a
/// program, and each test has users of its own.
pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) backend: Backend,
    pub(crate) options: StoreOptions,
    pub(crate) folder: TempDir,
}

impl TestStore {
    /// Opens a new store.
    pub(crate) async fn open(backend: Backend, options: StoreOptions) -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), backend, options).await
    }

    /// Closes the store and opens its database again.
    pub(crate) async fn reopen(self) -> Self {
        self.store.close().await;
        let Self { store, backend, options, folder } = self;
        drop(store);
        Self::open_in(folder, backend, options).await
    }

    /// Opens the database in a folder, or creates it.
    pub(crate) async fn open_in(folder: TempDir, backend: Backend, options: StoreOptions) -> Self {
        let store = match backend {
            Backend::Sqlite => Store::open_sqlite(Self::sqlite_path(&folder), options),
            Backend::Postgres => Store::open_postgres(postgres_options(), options).await,
        };
        Self { store: store.expect("the database opens"), backend, options, folder }
    }

    /// The path of the SQLite file.
    pub(crate) fn sqlite_path(folder: &TempDir) -> PathBuf {
        folder.path().join("vaultsync.db")
    }

    /// Pushes at `now`, in milliseconds. The push must not fail, but it is repeated while the store is
    /// overloaded.
    pub(crate) async fn push(&self, vault: &Vault, push: Push, now: i64) -> PushOutcome {
        let now = Timestamp::from_millis(now);
        loop {
            match self.store.push(vault, push.clone(), now, ()).await {
                Err(StoreError::Busy(_) | StoreError::Unavailable(_)) => {}
                outcome => return outcome.expect("a push does not fail"),
            }
        }
    }

    /// Reads records by id, likewise.
    pub(crate) async fn records(&self, vault: &Vault, request: &RecordsRequest) -> RecordsOutcome {
        loop {
            match self.store.records(vault, request, Unbounded).await {
                Err(StoreError::Busy(_) | StoreError::Unavailable(_)) => {}
                outcome => return outcome.expect("a read does not fail").0,
            }
        }
    }

    /// Pulls, likewise.
    pub(crate) async fn pull(&self, vault: &Vault, pull: &Pull) -> PullOutcome {
        loop {
            match self.store.pull(vault, pull, Unbounded).await {
                Err(StoreError::Busy(_) | StoreError::Unavailable(_)) => {}
                outcome => return outcome.expect("a pull does not fail").0,
            }
        }
    }
}

/// The options of the program's PostgreSQL database.
pub(crate) fn postgres_options() -> PostgresOptions {
    static URL: OnceLock<String> = OnceLock::new();
    let url = URL.get_or_init(|| {
        shared_postgres().create_database("vaultsync", None);
        shared_postgres().url("vaultsync")
    });
    PostgresOptions {
        primaries: vec![url.parse().expect("a URL")],
        replicas: vec![],
        connections_max: 8,
        // Long, because most tests are not about it, and the machine may be busy.
        timeout: Duration::from_secs(20),
        prepare: true,
        migrate: true,
        pubsub: PubsubBackend::None,
        allow_unsafe: false,
    }
}

/// An operation.
pub(crate) fn operation(
    id: &str,
    base: Option<i64>,
    ciphertext: impl Into<Vec<u8>>,
    deleted: bool,
) -> Operation {
    Operation {
        record_id: RecordId::new(id).expect(id),
        base_version: base.map(|number| Version::new(number).expect("a version")),
        ciphertext: Ciphertext::from_bytes(ciphertext.into()),
        deleted,
    }
}

/// A push of these operations, parsed from the body that a client would send.
pub(crate) fn batch(operations: &[Operation], epoch: Option<&str>) -> Push {
    batch_with(operations, json!({ "epoch": epoch }))
}

/// As [`batch`], with these members of the body besides the operations.
pub(crate) fn batch_with(operations: &[Operation], mut body: serde_json::Value) -> Push {
    let operations: Vec<_> = operations
        .iter()
        .map(|operation| {
            json!({
                "recordId": operation.record_id,
                "baseVersion": operation.base_version,
                "ciphertext": operation.ciphertext,
                "deleted": operation.deleted,
            })
        })
        .collect();
    body["operations"] = operations.into();
    Push::from_json(body.to_string().as_bytes(), usize::MAX).expect("a valid body")
}

/// The epoch as a client sends it back.
pub(crate) fn known_epoch(epoch: Epoch) -> KnownEpoch {
    KnownEpoch::new(&epoch.to_string()).expect("an epoch")
}

/// A request for these records, parsed from the body that a client would send.
pub(crate) fn records_request(ids: &[&str], epoch: Option<&str>) -> RecordsRequest {
    let body = json!({ "recordIds": ids, "epoch": epoch }).to_string();
    RecordsRequest::from_json(body.as_bytes()).expect("a valid body")
}
