//! The databases that suites run on, and how a case is made into a test on each of them.
//!
//! Not here: what is kept in them. The store's own suite, which this crate depends on, has its own.

use tempfile::TempDir;
use vaultsync_store::{Store, StoreOptions};

/// A database that suites run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A file.
    Sqlite,
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
    backend: Backend,
    folder: TempDir,
}

impl TestDatabase {
    /// A new one.
    pub fn new(backend: Backend) -> Self {
        Self { backend, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Its address, as `vaultsync serve --database` takes it.
    pub fn url(&self) -> String {
        match self.backend {
            Backend::Sqlite => format!("sqlite:{}", self.sqlite_path().display()),
        }
    }

    /// Opens it.
    #[expect(clippy::unused_async, reason = "a database on a server is waited for")]
    pub async fn open(&self, options: StoreOptions) -> Store {
        let store = match self.backend {
            Backend::Sqlite => Store::open_sqlite(self.sqlite_path(), options),
        };
        store.expect("the database opens")
    }

    fn sqlite_path(&self) -> std::path::PathBuf {
        self.folder.path().join("vaultsync.sqlite3")
    }
}
