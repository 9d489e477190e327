//! Fills one vault of the version before 0.3: the digests of its records, in batches, and then its counters.
//!
//! Each batch is a transaction under the vault's lock, which pushes of the vault wait for, so it is small. A count
//! reads all records of the vault, so it does without the lock as long as it can.

use std::{slice, time::Duration};

use tokio_postgres::{
    Client, Error, IsolationLevel, Transaction,
    types::{ToSql, Type},
};
use uuid::Uuid;

use crate::maintenance::first_batch;

/// How many records are filled under one lock, and how many bytes of ciphertext they may have, which the
/// database hashes. A single record may have more.
const BATCH_RECORDS: i64 = 100;
const BATCH_BYTES: i64 = 4 * 1024 * 1024;

/// How long a statement may take under a vault's lock, and how long the lock is kept if this process falls
/// silent.
const LOCKED_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a statement may take that locks nothing.
pub(super) const UNLOCKED_TIMEOUT: Duration = Duration::from_hours(1);

/// How often a vault is counted without its lock. A push meanwhile makes the count useless.
const UNLOCKED_COUNTS_MAX: u32 = 3;

/// Fills a vault, unless another node does so meanwhile.
pub(super) async fn fill_vault(client: &mut Client, vault: Uuid) -> Result<(), Error> {
    let mut after = i64::MIN;
    while let Some(last) = fill_batch(client, vault, after).await? {
        after = last;
    }
    for _ in 0..UNLOCKED_COUNTS_MAX {
        if count_vault(client, vault, false).await? {
            return Ok(());
        }
    }
    // The vault is written to all the time. Its records have just been read, so most are in memory.
    count_vault(client, vault, true).await.map(drop)
}

/// Begins a transaction with settings that end with it: behind a pooler, its session is not this client's alone.
///
/// The isolation level is explicit, because a read under a lock must see what was committed before. Citus passes
/// on a setting only if it is a message of its own.
pub(super) async fn begin(
    client: &mut Client,
    statement_timeout: Duration,
) -> Result<Transaction<'_>, Error> {
    let level = IsolationLevel::ReadCommitted;
    let transaction = client.build_transaction().isolation_level(level).start().await?;
    for setting in [
        "citus.propagate_set_commands = 'local'".to_owned(),
        "lock_timeout = 0".to_owned(),
        format!("statement_timeout = {}", statement_timeout.as_millis()),
        format!("idle_in_transaction_session_timeout = {}", LOCKED_TIMEOUT.as_millis()),
    ] {
        transaction.batch_execute(&format!("set local {setting}")).await?;
    }
    Ok(transaction)
}

async fn lock(transaction: &Transaction<'_>, vault: Uuid) -> Result<(), Error> {
    let lock = "select clock from vaults where vault_id = $1 for no key update";
    transaction.query_typed(lock, &[(&vault, Type::UUID)]).await.map(drop)
}

/// Fills some records after `after`. Returns the last one's `updated_at`; `None` if none was left.
async fn fill_batch(client: &mut Client, vault: Uuid, after: i64) -> Result<Option<i64>, Error> {
    let transaction = begin(client, LOCKED_TIMEOUT).await?;
    lock(&transaction, vault).await?;
    // A record that is pushed meanwhile gets its digest with the push.
    let select = "select record_id, updated_at, octet_length(ciphertext) from records
         where vault_id = $1 and updated_at > $2 and digest is null order by updated_at limit $3";
    let id = (&vault as &(dyn ToSql + Sync), Type::UUID);
    let values = [id.clone(), (&after, Type::INT8), (&BATCH_RECORDS, Type::INT8)];
    let rows = transaction.query_typed(select, &values).await?;
    let lengths = rows.iter().map(|row| row.try_get(2)).collect::<Result<Vec<i32>, _>>()?;
    let batch = &rows[..batch_len(&lengths)];
    let Some(last) = batch.last() else { return Ok(None) };
    let last = last.try_get(1)?;
    let records = batch.iter().map(|row| row.try_get(0)).collect::<Result<Vec<&str>, _>>()?;
    let update = "update records set digest = substr(sha256(ciphertext), 1, 16),
           created_at = case when version = 1 then updated_at end
         where vault_id = $1 and record_id = any($2)";
    transaction.query_typed(update, &[id, (&records, Type::TEXT_ARRAY)]).await?;
    transaction.commit().await?;
    Ok(Some(last))
}

/// How many records fit into a batch, given the lengths of their ciphertexts: at least one, if there is one.
fn batch_len(lengths: &[i32]) -> usize {
    first_batch(lengths, BATCH_BYTES, |length| i64::from(*length)).len()
}

/// A vault's counters at one time of its clock.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    clock: i64,
    live_records: i64,
    record_rows: i64,
    bytes: i64,
}

/// Counts a vault, and stores the result. Returns `false` if a push has changed the vault meanwhile, which the
/// vault's lock prevents.
async fn count_vault(client: &mut Client, vault: Uuid, with_lock: bool) -> Result<bool, Error> {
    let timeout = if with_lock { LOCKED_TIMEOUT } else { UNLOCKED_TIMEOUT };
    let transaction = begin(client, timeout).await?;
    if with_lock {
        lock(&transaction, vault).await?;
    }
    let is_done = match count(&transaction, vault).await? {
        Some(counted) => store(&transaction, vault, &counted).await?,
        None => true,
    };
    transaction.commit().await?;
    Ok(is_done)
}

/// `None` if the vault has its counters.
async fn count(transaction: &Transaction<'_>, vault: Uuid) -> Result<Option<Counted>, Error> {
    // One statement, so that clock and records are of the same moment.
    let select = "select v.clock, count(*) filter (where not r.deleted), count(r.record_id),
           coalesce(sum(octet_length(r.ciphertext)), 0)::bigint
         from vaults v left join records r using (vault_id)
         where v.vault_id = $1 and v.live_records is null group by v.clock";
    let id = (&vault as &(dyn ToSql + Sync), Type::UUID);
    let rows = transaction.query_typed(select, slice::from_ref(&id)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Counted {
        clock: row.try_get(0)?,
        live_records: row.try_get(1)?,
        record_rows: row.try_get(2)?,
        bytes: row.try_get(3)?,
    }))
}

/// Stores the counters, unless the vault has another clock now: each push that changes a record advances it.
async fn store(
    transaction: &Transaction<'_>,
    vault: Uuid,
    counted: &Counted,
) -> Result<bool, Error> {
    let update = "update vaults set live_records = $3, record_rows = $4, bytes = $5
         where vault_id = $1 and clock = $2 and live_records is null";
    let Counted { clock, live_records, record_rows, bytes } = counted;
    let numbers: [&(dyn ToSql + Sync); 4] = [clock, live_records, record_rows, bytes];
    let id = (&vault as &(dyn ToSql + Sync), Type::UUID);
    let numbers = numbers.map(|number| (number, Type::INT8));
    let values: Vec<_> = [id].into_iter().chain(numbers).collect();
    Ok(transaction.execute_typed(update, &values).await? > 0)
}

#[cfg(test)]
mod tests {
    use vaultsync_test_servers::{query, shared_postgres};

    use super::*;
    use crate::{DatabaseUrl, postgres::migrate::migrate, postgres_client::connect};

    #[test]
    fn a_batch_has_at_least_one_record_and_not_too_many_bytes() {
        const MIB: i32 = 1024 * 1024;
        for (lengths, expected) in [
            (&[][..], 0),
            (&[5 * MIB, 1], 1),
            (&[MIB, 3 * MIB, 1], 2),
            (&[0, 4 * MIB, 0, 0, 1], 4),
            (&[1; 100], 100),
        ] {
            assert_eq!(batch_len(lengths), expected, "{lengths:?}");
        }
    }

    const VAULT: Uuid = Uuid::from_u128(7);

    /// A new database with a vault of two records that was not counted, and its address for `query`.
    async fn uncounted(name: &str) -> (DatabaseUrl, String) {
        shared_postgres().create_database(name, None);
        let psql = shared_postgres().url(name);
        let url: DatabaseUrl = psql.parse().expect("an address");
        migrate(&url).await.expect("the migration succeeds");
        let insert = format!(
            "insert into vaults (vault_id, issuer, subject, clock, epoch)
               values ('{VAULT}', 'i', 's', 5, '{VAULT}');
             insert into records
               (vault_id, record_id, version, deleted, ciphertext, updated_at, digest)
               values ('{VAULT}', 'a', 1, false, 'abc', 4, 'd'), ('{VAULT}', 'b', 2, true, 'd', 5, 'd')"
        );
        query(&psql, &insert);
        (url, psql)
    }

    #[tokio::test]
    async fn a_count_does_not_wait_for_a_push() {
        let (url, _) = uncounted("counted_beside_a_push").await;
        let mut pushing = connect(&url).await.expect("a connection");
        let push = begin(&mut pushing, LOCKED_TIMEOUT).await.expect("it begins");
        lock(&push, VAULT).await.expect("it is locked");
        let mut client = connect(&url).await.expect("a connection");
        let transaction = begin(&mut client, Duration::from_secs(10)).await.expect("it begins");
        let counted = count(&transaction, VAULT).await.expect("it waits for no lock");
        let expected = Counted { clock: 5, live_records: 1, record_rows: 2, bytes: 4 };
        assert_eq!(counted, Some(expected));
    }

    #[tokio::test]
    async fn a_count_that_a_push_has_outdated_is_not_stored() {
        let (url, psql) = uncounted("outdated_by_a_push").await;
        let counters = || {
            query(&psql, "select live_records, record_rows, bytes from vaults").trim().to_owned()
        };
        let mut client = connect(&url).await.expect("a connection");
        let transaction = begin(&mut client, LOCKED_TIMEOUT).await.expect("it begins");
        let counted = count(&transaction, VAULT).await.expect("it is counted").expect("a vault");
        let push = "update records set deleted = false, updated_at = 6 where record_id = 'b';
             update vaults set clock = 6";
        query(&psql, push);
        assert!(!store(&transaction, VAULT, &counted).await.expect("it responds"));
        transaction.commit().await.expect("it commits");
        assert_eq!(counters(), "||");
        for is_counted in [true, true] {
            assert_eq!(count_vault(&mut client, VAULT, false).await.unwrap(), is_counted);
            assert_eq!(counters(), "2|2|4");
        }
    }
}
