//! Opening the database for a command.

use anyhow::Context as _;
use uuid::Uuid;
use vaultsync_protocol::Epoch;
use vaultsync_store::{OpenError, OperatorStore, PostgresOptions, Store};

use crate::settings::{Database, Settings};

/// Opens the database to serve from it: as the only process that writes to it (SQLite), or beside others.
pub(crate) async fn open(settings: &Settings) -> Result<Store, OpenError> {
    open_database(settings.database.clone(), settings).await
}

/// As [`open`], if the database has the schema of this version: a command does not migrate it.
pub(crate) async fn open_current(settings: &Settings) -> Result<Store, OpenError> {
    let database = match settings.database.clone() {
        Database::Sqlite(path) => {
            OperatorStore::open_sqlite(&path)?;
            Database::Sqlite(path)
        }
        Database::Postgres(postgres) => {
            Database::Postgres(PostgresOptions { migrate: false, ..postgres })
        }
    };
    open_database(database, settings).await
}

async fn open_database(database: Database, settings: &Settings) -> Result<Store, OpenError> {
    let options = settings.limits.store_options(|| Epoch::new(Uuid::new_v4()));
    match database {
        Database::Sqlite(path) => Store::open_sqlite(path, options),
        Database::Postgres(postgres) => Store::open_postgres(postgres, options).await,
    }
}

/// Opens the database beside a server, without changing its schema.
pub(crate) async fn open_beside(settings: &Settings) -> anyhow::Result<OperatorStore> {
    match &settings.database {
        Database::Sqlite(path) => Ok(OperatorStore::open_sqlite(path)?),
        Database::Postgres(_) => {
            Ok(OperatorStore::Postgres(Box::new(open_current(settings).await?)))
        }
    }
}

/// Runs a command's future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    runtime.block_on(future)
}
