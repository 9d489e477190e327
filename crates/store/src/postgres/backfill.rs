//! Fills what vaults and records of the version before 0.3 lack: counters, digests, and when records were
//! created. It goes vault by vault beside pushes (`fill_vault.rs`), and another node or a later start goes on where
//! it was.
//!
//! Until then a missing digest is computed from the ciphertext by each statement that needs it, and a vault
//! that was not counted has no counters. When all is filled, the check of digests is validated, which marks the
//! database as done. Only the owner of the tables may do that; `vaultsync migrate` does it, too.

use std::time::Duration;

use tokio_postgres::{
    Client, Error,
    error::SqlState,
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
    DatabaseUrl, OpenError,
    postgres_client::{connect, describe, open_error},
};

/// How many vaults are listed at a time.
const BATCH_VAULTS: i64 = 100;

/// How long the validation may take, which reads the whole table and stops nothing.
const VALIDATION_TIMEOUT: Duration = Duration::from_hours(24);

/// How long to wait after an error: twice as long each time, unless vaults were filled.
const RETRY_DELAY: Duration = Duration::from_mins(1);
const RETRY_DELAY_MAX: Duration = Duration::from_hours(1);

/// Whether the records of version 0.2 are filled, as the check of digests says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestCheck {
    /// All are, and the check was valid before.
    Valid,
    /// All are, and the check has been validated now.
    Validated,
    /// Some are not yet, or have no vault.
    Unfilled,
}

/// Starts the task. It ends by itself when nothing is left to fill.
pub(super) fn start(options: &PostgresOptions, tasks: &Tasks) -> Task {
    let primaries = options.primaries.clone();
    tasks.spawn("backfill", move || run(primaries.clone()))
}

async fn run(primaries: Vec<DatabaseUrl>) {
    let mut delay = None;
    loop {
        let mut filled = 0;
        for url in &primaries {
            match fill(url, &mut filled).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%url, error, "digests and counters are filled later"),
            }
        }
        let pause = next_delay(delay, filled > 0);
        tokio::time::sleep(pause).await;
        delay = Some(pause);
    }
}

/// The pause after a failed attempt, given the one before it.
fn next_delay(last: Option<Duration>, has_filled: bool) -> Duration {
    match last {
        Some(last) if !has_filled => (last * 2).min(RETRY_DELAY_MAX),
        _ => RETRY_DELAY,
    }
}

/// Fills the whole database, and adds to `filled` how many vaults that were.
async fn fill(url: &DatabaseUrl, filled: &mut usize) -> Result<(), String> {
    let of = |error: Error| describe(&error);
    let mut client = connect(url).await.map_err(|error| error.to_string())?;
    if is_valid(&client).await.map_err(of)? {
        return Ok(());
    }
    // Each node begins elsewhere, so that they do not wait for each other in the same vaults.
    let start = Uuid::new_v4();
    for (after, until) in [(start, Uuid::max()), (Uuid::nil(), start)] {
        fill_range(&mut client, after, until, filled).await.map_err(of)?;
    }
    match validate(&mut client).await {
        Ok(()) => tracing::info!(vaults = filled, "all vaults have their digests and counters"),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => tracing::info!(
            vaults = filled,
            "all vaults have their digests and counters: `vaultsync migrate`, as the owner of the tables, \
             marks the database as filled"
        ),
        Err(error) if error.code() == Some(&SqlState::CHECK_VIOLATION) => {
            tracing::warn!("all vaults have their digests, but there are records without a vault");
        }
        Err(error) => return Err(describe(&error)),
    }
    Ok(())
}

/// Fills the vaults with ids from `after`, exclusively, to `until`.
async fn fill_range(
    client: &mut Client,
    mut after: Uuid,
    until: Uuid,
    filled: &mut usize,
) -> Result<(), Error> {
    loop {
        let vaults = vaults_to_fill(client, after, until).await?;
        let Some(last) = vaults.last() else { return Ok(()) };
        after = *last;
        for vault in &vaults {
            fill_vault(client, *vault).await?;
            *filled += 1;
        }
        tracing::info!(vaults = filled, "digests and counters are filled");
    }
}

/// The next vaults that have no counters, which are filled last.
async fn vaults_to_fill(client: &mut Client, after: Uuid, until: Uuid) -> Result<Vec<Uuid>, Error> {
    let transaction = begin(client, UNLOCKED_TIMEOUT).await?;
    let select = "select vault_id from vaults
         where live_records is null and vault_id > $1 and vault_id <= $2 order by vault_id limit $3";
    let values = [
        (&after as &(dyn ToSql + Sync), Type::UUID),
        (&until, Type::UUID),
        (&BATCH_VAULTS, Type::INT8),
    ];
    let rows = transaction.query_typed(select, &values).await?;
    transaction.commit().await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Validates the check of digests of a migrated database, if all records have one. Run by an operator whose
/// role owns the tables, which that of the servers may not do.
pub async fn validate_digests(url: &DatabaseUrl) -> Result<DigestCheck, OpenError> {
    let of = |error: Error| open_error(url, describe(&error));
    let mut client = connect(url).await?;
    if is_valid(&client).await.map_err(of)? {
        return Ok(DigestCheck::Valid);
    }
    // Much cheaper than a validation that fails at the end of the table.
    let uncounted = "select exists (select from vaults where live_records is null)";
    if first_column(&client.simple_query(uncounted).await.map_err(of)?) == ["t"] {
        return Ok(DigestCheck::Unfilled);
    }
    match validate(&mut client).await {
        Ok(()) => Ok(DigestCheck::Validated),
        Err(error) if error.code() == Some(&SqlState::CHECK_VIOLATION) => Ok(DigestCheck::Unfilled),
        Err(error) => Err(of(error)),
    }
}

async fn is_valid(client: &Client) -> Result<bool, Error> {
    let select = "select convalidated from pg_constraint
         where conname = 'records_digest' and conrelid = 'records'::regclass";
    Ok(first_column(&client.simple_query(select).await?) == ["t"])
}

async fn validate(client: &mut Client) -> Result<(), Error> {
    let transaction = begin(client, VALIDATION_TIMEOUT).await?;
    let validate = "alter table records validate constraint records_digest";
    transaction.batch_execute(validate).await?;
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use vaultsync_test_servers::{query, shared_postgres};

    use super::*;
    use crate::postgres::migrate::migrate;

    #[test]
    fn the_pause_doubles_up_to_an_hour_while_nothing_is_filled() {
        let mut delay = None;
        let mut minutes = Vec::new();
        for _ in 0..8 {
            let next = next_delay(delay, false);
            minutes.push(next.as_secs() / 60);
            delay = Some(next);
        }
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(next_delay(delay, true), RETRY_DELAY);
    }
    /// Nothing is left to fill, and only the owner may say so.
    #[tokio::test]
    async fn a_validation_that_is_refused_is_no_failure() {
        let name = "filled_by_another_role";
        shared_postgres().create_database(name, None);
        let psql = shared_postgres().url(name);
        let owner: DatabaseUrl = psql.parse().expect("an address");
        migrate(&owner).await.expect("the migration succeeds");
        let grant =
            format!("create role {name} login; grant select, update on vaults, records to {name}");
        query(&psql, &grant);
        let role = psql.replace("postgres@", &format!("{name}@")).parse().expect("an address");
        let mut filled = 0;
        for expected in [DigestCheck::Validated, DigestCheck::Valid] {
            fill(&role, &mut filled).await.expect("all is filled");
            assert_eq!(validate_digests(&owner).await.expect("it responds"), expected);
        }
        assert_eq!(filled, 0);
    }
}
