//! The databases that test suites run on, and a macro that turns a case into one test per database.
//!
//! Not here: the databases of the store's own suite. This crate depends on the store, so that suite has its
//! own.

use std::time::Duration;

use tempfile::TempDir;
use uuid::Uuid;
use vaultsync_store::{PostgresOptions, PubsubBackend, Store, StoreOptions};
use vaultsync_test_servers::shared_postgres;

/// A kind of database that test suites run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// An SQLite file.
    Sqlite,
    /// A database on the PostgreSQL server that the tests of a process share.
    Postgres,
}

/// Turns each named case into one test per [`Backend`]: `theme::sqlite::case`.
///
/// A case is an `async fn` of the calling module that takes the backend to run on. The compiler reports a
/// case that is not named as dead code.
///
/// An attribute before the names replaces `#[tokio::test]` for all of them.
#[macro_export]
macro_rules! backends {
    (#[$test:meta] $($case:ident),+ $(,)?) => {
        $crate::backends!(@on sqlite, Sqlite, $test, $($case),+);
        $crate::backends!(@on postgres, Postgres, $test, $($case),+);
    };
    (@on $module:ident, $backend:ident, $test:meta, $($case:ident),+) => {
        mod $module {
            $(
                #[$test]
                async fn $case() {
                    super::$case($crate::Backend::$backend).await;
                }
            )+
        }
    };
    ($($case:ident),+ $(,)?) => {
        $crate::backends!(#[tokio::test] $($case),+);
    };
}

/// A new, empty database for one test. It is deleted when dropped.
#[derive(Debug)]
#[must_use = "a database is deleted when it is dropped"]
pub struct TestDatabase {
    location: Location,
}

#[derive(Debug)]
enum Location {
    Sqlite(TempDir),
    /// The name of the database on the shared server.
    Postgres(String),
}

impl TestDatabase {
    /// Creates an empty database.
    pub fn new(backend: Backend) -> Self {
        let location = match backend {
            Backend::Sqlite => Location::Sqlite(tempfile::tempdir().expect("a temporary folder")),
            Backend::Postgres => {
                let name = format!("test_{}", Uuid::new_v4().simple());
                shared_postgres().create_database(&name, None);
                Location::Postgres(name)
            }
        };
        Self { location }
    }

    /// Its URL, as `vaultsync serve --database` takes it.
    pub fn url(&self) -> String {
        match &self.location {
            Location::Sqlite(folder) => format!("sqlite:{}", sqlite_path(folder).display()),
            Location::Postgres(name) => shared_postgres().url(name),
        }
    }

    /// Opens a store on it.
    pub async fn open(&self, options: StoreOptions) -> Store {
        let store = match &self.location {
            Location::Sqlite(folder) => Store::open_sqlite(sqlite_path(folder), options),
            Location::Postgres(name) => {
                let postgres = PostgresOptions {
                    primaries: vec![shared_postgres().url(name).parse().expect("an address")],
                    replicas: vec![],
                    connections_max: 8,
                    // Long, because the machine may be busy.
                    timeout: Duration::from_secs(20),
                    prepare: true,
                    migrate: true,
                    pubsub: PubsubBackend::None,
                    allow_unsafe: false,
                };
                Store::open_postgres(postgres, options).await
            }
        };
        store.expect("the database opens")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let Location::Postgres(name) = &self.location {
            shared_postgres().drop_database(name);
        }
    }
}

fn sqlite_path(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("vaultsync.sqlite3")
}
