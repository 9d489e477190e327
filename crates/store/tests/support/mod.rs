//! What every test of the store stands on: a database of its own and pushes written in Rust.
//!
//! Not here: anything that only one of the test programs needs.

use std::{path::PathBuf, sync::OnceLock, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use vaultsync_protocol::{
    Ciphertext, Epoch, KnownEpoch, Operation, Pull, Push, RecordId, Timestamp, Version,
};
use vaultsync_store::{
    PostgresOptions, PubsubBackend, PullOutcome, PushOutcome, Store, StoreError, StoreOptions,
    Unbounded, Vault,
};
use vaultsync_test_servers::shared_postgres;

/// The databases that the suites run on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// An open store. SQLite's database is its own; PostgreSQL's is shared by all tests of a program, each
/// of which has users of its own.
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

    /// The same database, closed and opened again.
    pub(crate) async fn reopened(self) -> Self {
        self.store.close().await;
        let Self { store, backend, options, folder } = self;
        drop(store);
        Self::open_in(folder, backend, options).await
    }

    /// Opens the database of that folder, a new one where there is none.
    pub(crate) async fn open_in(folder: TempDir, backend: Backend, options: StoreOptions) -> Self {
        let store = match backend {
            Backend::Sqlite => Store::open_sqlite(Self::sqlite_path(&folder), options),
            Backend::Postgres => Store::open_postgres(postgres_options(), options).await,
        };
        Self { store: store.expect("the database opens"), backend, options, folder }
    }

    /// Where SQLite's file lies.
    pub(crate) fn sqlite_path(folder: &TempDir) -> PathBuf {
        folder.path().join("vaultsync.db")
    }

    /// Pushes at `now`, in milliseconds, to a store that does not fail. One that has too much to do says
    /// so, and is asked again.
    pub(crate) async fn push(&self, vault: &Vault, push: Push, now: i64) -> PushOutcome {
        let now = Timestamp::from_millis(now);
        loop {
            match self.store.push(vault, push.clone(), now, ()).await {
                Err(StoreError::Unavailable(_)) => {}
                outcome => return outcome.expect("the store takes a push"),
            }
        }
    }

    /// Pulls from a store that does not fail, as [`Self::push`] pushes.
    pub(crate) async fn pull(&self, vault: &Vault, pull: &Pull) -> PullOutcome {
        loop {
            match self.store.pull(vault, pull, Unbounded).await {
                Err(StoreError::Unavailable(_)) => {}
                outcome => return outcome.expect("the store answers a pull").0,
            }
        }
    }
}

/// How the program's PostgreSQL database is opened.
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
        // Long, because nothing here is about it and a machine may have much else to do.
        timeout: Duration::from_secs(20),
        prepare: true,
        migrate: true,
        pubsub: PubsubBackend::None,
        allow_unsafe: false,
    }
}

/// A write of those bytes.
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

/// The push of these writes, read from the body that a client would send.
pub(crate) fn batch(operations: &[Operation], epoch: Option<&str>) -> Push {
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
    let body = json!({ "operations": operations, "epoch": epoch }).to_string();
    Push::from_json(body.as_bytes(), usize::MAX).expect("a valid body")
}

/// The epoch as a client sends it back.
pub(crate) fn known(epoch: Epoch) -> KnownEpoch {
    KnownEpoch::new(&epoch.to_string()).expect("an epoch's text")
}
