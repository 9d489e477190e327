//! Fills what vaults and records of the version before 0.3 lack: counters, digests, and when records were
//! created. It goes vault by vault beside pushes (`fill_vault.rs`), and another node or a later start goes on where
//! it was.
//!
//! Until then a missing digest is computed from the ciphertext by each statement that needs it, and a vault
//! that was not counted has no counters. When all is filled, the check of digests is validated, which marks the
//! database as done.

use std::time::Duration;

use tokio_postgres::{
    Client, Error,
    types::{ToSql, Type},
};
use uuid::Uuid;
use vaultsync_tasks::{Task, Tasks};

use super::{
    PostgresOptions,
    connection::first_column,
    fill_vault::{UNLOCKED_TIMEOUT, begin, fill_vault},
};
use crate::{
    DatabaseUrl,
    postgres_client::{connect, describe},
};

/// How many vaults are listed at a time.
const BATCH_VAULTS: i64 = 100;

/// How long the validation may take, which reads the whole table and stops nothing.
const VALIDATION_TIMEOUT: Duration = Duration::from_hours(24);

/// How long to wait after an error.
const RETRY_DELAY: Duration = Duration::from_mins(1);

/// Starts the task. It ends by itself when nothing is left to fill.
pub(super) fn start(options: &PostgresOptions, tasks: &Tasks) -> Task {
    let primaries = options.primaries.clone();
    tasks.spawn("backfill", move || run(primaries.clone()))
}

async fn run(primaries: Vec<DatabaseUrl>) {
    loop {
        for url in &primaries {
            match fill(url).await {
                Ok(0) => return,
                Ok(vaults) => {
                    tracing::info!(vaults, "all vaults have their digests and counters");
                    return;
                }
                Err(error) => tracing::warn!(%url, error, "digests and counters are filled later"),
            }
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// Fills the whole database. Returns the number of vaults that were filled.
async fn fill(url: &DatabaseUrl) -> Result<usize, String> {
    let of = |error: Error| describe(&error);
    let mut client = connect(url).await.map_err(|error| error.to_string())?;
    let is_done = "select convalidated from pg_constraint
         where conname = 'records_digest' and conrelid = 'records'::regclass";
    if first_column(&client.simple_query(is_done).await.map_err(of)?) == ["t"] {
        return Ok(0);
    }
    let (mut filled, mut last) = (0, Uuid::nil());
    loop {
        let vaults = vaults_to_fill(&mut client, last).await.map_err(of)?;
        let Some(end) = vaults.last() else { break };
        last = *end;
        for vault in &vaults {
            fill_vault(&mut client, *vault).await.map_err(of)?;
        }
        filled += vaults.len();
        tracing::info!(vaults = filled, "digests and counters are filled");
    }
    // Only the owner of the table may do this. Without it, later starts look for vaults to fill once more.
    if let Err(error) = validate(&mut client).await {
        let error = describe(&error);
        tracing::warn!(error, "all digests are filled, but their check cannot be validated");
    }
    Ok(filled)
}

/// The next vaults that have no counters, which are filled last.
async fn vaults_to_fill(client: &mut Client, after: Uuid) -> Result<Vec<Uuid>, Error> {
    let transaction = begin(client, UNLOCKED_TIMEOUT).await?;
    let select = "select vault_id from vaults
         where live_records is null and vault_id > $1 order by vault_id limit $2";
    let values: [(&(dyn ToSql + Sync), Type); 2] =
        [(&after, Type::UUID), (&BATCH_VAULTS, Type::INT8)];
    let rows = transaction.query_typed(select, &values).await?;
    transaction.commit().await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn validate(client: &mut Client) -> Result<(), Error> {
    let transaction = begin(client, VALIDATION_TIMEOUT).await?;
    let validate = "alter table records validate constraint records_digest";
    transaction.batch_execute(validate).await?;
    transaction.commit().await
}
