//! The databases that suites run on, and how a case is made into a test on each of them.
//!
//! Not here: what is kept in them. The store's own suite, which this crate depends on, has its own.

use std::time::Duration;

use tempfile::TempDir;
use uuid::Uuid;
use vaultsync_store::{PostgresOptions, PubsubBackend, Store, StoreOptions};
use vaultsync_test_servers::shared_postgres;

/// A database that suites run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A file.
    Sqlite,
    /// A database of the server that the tests of a process share.
    Postgres,
}

/// Makes the cases named into tests, one for each [`Backend`]: `theme::sqlite::case`.
///
/// A case is an `async fn` of the module that names it, and takes the backend it is to run on. One
/// that is not named is dead code, and the compiler says so.
///
/// An attribute before the names is how all of them run, where `#[tokio::test]` is not enough.
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

/// A database of a test's own, empty at first. It is deleted when dropped.
#[derive(Debug)]
#[must_use = "a database is deleted when it is dropped"]
pub struct TestDatabase {
    place: Place,
}

#[derive(Debug)]
enum Place {
    Sqlite(TempDir),
    /// By its name.
    Postgres(String),
}

impl TestDatabase {
    /// A new one.
    pub fn new(backend: Backend) -> Self {
        let place = match backend {
            Backend::Sqlite => Place::Sqlite(tempfile::tempdir().expect("a temporary folder")),
            Backend::Postgres => {
                let name = format!("test_{}", Uuid::new_v4().simple());
                shared_postgres().create_database(&name, None);
                Place::Postgres(name)
            }
        };
        Self { place }
    }

    /// Its address, as `vaultsync serve --database` takes it.
    pub fn url(&self) -> String {
        match &self.place {
            Place::Sqlite(folder) => format!("sqlite:{}", sqlite_path(folder).display()),
            Place::Postgres(name) => shared_postgres().url(name),
        }
    }

    /// Opens it.
    pub async fn open(&self, options: StoreOptions) -> Store {
        let store = match &self.place {
            Place::Sqlite(folder) => Store::open_sqlite(sqlite_path(folder), options),
            Place::Postgres(name) => {
                let postgres = PostgresOptions {
                    primaries: vec![shared_postgres().url(name).parse().expect("an address")],
                    replicas: vec![],
                    connections_max: 8,
                    // Long, because a machine may have much else to do.
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
        if let Place::Postgres(name) = &self.place {
            shared_postgres().drop_database(name);
        }
    }
}

fn sqlite_path(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("vaultsync.sqlite3")
}
