//! Fills what vaults and records of the version before 0.3 lack: counters, digests, and when records were
//! created. It goes vault by vault in short transactions under the vault's lock, beside pushes, and another node
//! or a later start goes on where it was.
//!
//! Until then a missing digest is computed from the ciphertext by each statement that needs it, and a vault
//! that was not counted has no counters. When all is filled, the check of digests is validated, which marks the
//! database as done.

use std::{slice, time::Duration};

use tokio_postgres::{
    Client, Error,
    types::{ToSql, Type},
};
use uuid::Uuid;
use vaultsync_tasks::{Task, Tasks};

use super::{PostgresOptions, connection::first_column};
use crate::{
    DatabaseUrl,
    postgres_client::{connect, describe},
};

/// How many records are filled under one lock. Each may have 1 MiB to be hashed.
const BATCH_RECORDS: i64 = 100;

/// How many vaults are listed at a time.
const BATCH_VAULTS: i64 = 100;

/// How long a statement may take. The last one reads the whole table.
const STATEMENT_TIMEOUT: Duration = Duration::from_hours(1);

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
    let client = connect(url).await.map_err(|error| error.to_string())?;
    let is_done = "select convalidated from pg_constraint
         where conname = 'records_digest' and conrelid = 'records'::regclass";
    if first_column(&client.simple_query(is_done).await.map_err(of)?) == ["t"] {
        return Ok(0);
    }
    let timeout = format!("set statement_timeout = {}", STATEMENT_TIMEOUT.as_millis());
    client.batch_execute(&timeout).await.map_err(of)?;
    let (mut filled, mut last) = (0, Uuid::nil());
    loop {
        let vaults = vaults_to_fill(&client, last).await.map_err(of)?;
        let Some(end) = vaults.last() else { break };
        last = *end;
        for vault in &vaults {
            fill_vault(&client, *vault).await.map_err(of)?;
        }
        filled += vaults.len();
        tracing::info!(vaults = filled, "digests and counters are filled");
    }
    // Only the owner of the table may do this. Without it, later starts look for vaults to fill once more.
    let validate = "alter table records validate constraint records_digest";
    if let Err(error) = client.batch_execute(validate).await {
        let error = describe(&error);
        tracing::warn!(error, "all digests are filled, but their check cannot be validated");
    }
    Ok(filled)
}

/// The next vaults that have no counters, which are filled last.
async fn vaults_to_fill(client: &Client, after: Uuid) -> Result<Vec<Uuid>, Error> {
    let select = "select vault_id from vaults
         where live_records is null and vault_id > $1 order by vault_id limit $2";
    let values: [(&(dyn ToSql + Sync), Type); 2] =
        [(&after, Type::UUID), (&BATCH_VAULTS, Type::INT8)];
    let rows = client.query_typed(select, &values).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn fill_vault(client: &Client, vault: Uuid) -> Result<(), Error> {
    let mut after = i64::MIN;
    loop {
        client.batch_execute("begin").await?;
        let filled = fill_batch(client, vault, after).await;
        let end = if filled.is_ok() { "commit" } else { "rollback" };
        client.batch_execute(end).await?;
        match filled? {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

/// Fills some records of a vault, or counts the vault if none is left. Returns the last record's `updated_at`.
async fn fill_batch(client: &Client, vault: Uuid, after: i64) -> Result<Option<i64>, Error> {
    let id = (&vault as &(dyn ToSql + Sync), Type::UUID);
    let lock = "select clock from vaults where vault_id = $1 for no key update";
    client.query_typed(lock, slice::from_ref(&id)).await?;
    // A record that is pushed meanwhile gets its digest with the push.
    let select = "select record_id, updated_at from records
         where vault_id = $1 and updated_at > $2 and digest is null order by updated_at limit $3";
    let values = [id.clone(), (&after, Type::INT8), (&BATCH_RECORDS, Type::INT8)];
    let rows = client.query_typed(select, &values).await?;
    let Some(last) = rows.last() else {
        return count(client, vault).await.map(|()| None);
    };
    let last = last.try_get(1)?;
    let records = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<&str>, _>>()?;
    let update = "update records set digest = substr(sha256(ciphertext), 1, 16),
           created_at = case when version = 1 then updated_at end
         where vault_id = $1 and record_id = any($2)";
    client.query_typed(update, &[id, (&records, Type::TEXT_ARRAY)]).await?;
    Ok(Some(last))
}

/// Counts a vault, under its lock.
async fn count(client: &Client, vault: Uuid) -> Result<(), Error> {
    let id = (&vault as &(dyn ToSql + Sync), Type::UUID);
    let select = "select count(*) filter (where not deleted), count(*),
           coalesce(sum(octet_length(ciphertext)), 0)::bigint
         from records where vault_id = $1";
    let rows = client.query_typed(select, slice::from_ref(&id)).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let [live_records, record_rows, bytes]: [i64; 3] =
        [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?];
    let update = "update vaults set live_records = $2, record_rows = $3, bytes = $4
         where vault_id = $1 and live_records is null";
    let values =
        [id, (&live_records, Type::INT8), (&record_rows, Type::INT8), (&bytes, Type::INT8)];
    client.query_typed(update, &values).await.map(drop)
}
