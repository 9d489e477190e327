//! Moves the records of a file of the version before 0.3 into the table that has their digests.
//!
//! Done at the start, before anything is served. Each batch is a transaction that moves rows from one table to
//! the other and counts them in their vaults, so that a start that is interrupted goes on where it was, and the
//! file hardly grows.

use std::time::{Duration, Instant};

use rusqlite::{
    Connection, Error, OptionalExtension as _, TransactionBehavior, functions::FunctionFlags,
};
use vaultsync_protocol::RecordDigest;

use super::log::{self, LOG_BYTES_MAX};

/// Limits of what is moved in one transaction. A single row may have more bytes.
#[derive(Clone, Copy)]
struct BatchLimits {
    rows: i64,
    /// Of ciphertext.
    bytes: i64,
}

const BATCH: BatchLimits = BatchLimits { rows: 10_000, bytes: 32 * 1024 * 1024 };

/// How often the progress is logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Moves the records that are left in the old table, and then drops it.
///
/// [`Error::StatementChangedRows`] means that a record has no vault. It is not moved, and nothing is lost.
pub(super) fn move_records(connection: &mut Connection) -> rusqlite::Result<()> {
    if !has_old_table(connection)? {
        return Ok(());
    }
    add_digest_function(connection)?;
    let mut report = Report::new(connection)?;
    while let Some((moved, log)) = move_and_write_back(connection, BATCH)? {
        report.add(moved, &log);
    }
    connection.remove_function("record_digest", 1)?;
    report.finish();
    Ok(())
}

fn add_digest_function(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("record_digest", 1, flags, |context| {
        Ok(*RecordDigest::of(context.get_raw(0).as_blob()?).as_bytes())
    })
}

/// Moves a batch, and writes the log back into the file, which would otherwise grow to the size of the file.
///
/// The checkpoint is passive: it does not wait for readers of other processes. If there are none, the next batch
/// begins the log again.
fn move_and_write_back(
    connection: &mut Connection,
    limits: BatchLimits,
) -> rusqlite::Result<Option<(usize, log::Pages)>> {
    let Some(moved) = move_batch(connection, limits)? else { return Ok(None) };
    Ok(Some((moved, log::pages(connection, "pragma wal_checkpoint(passive)")?)))
}

/// Moves a batch of records, and adds it to the counters of its vaults. Returns how many records were moved.
/// If none is left, drops the old table and returns `None`.
fn move_batch(connection: &mut Connection, limits: BatchLimits) -> rusqlite::Result<Option<usize>> {
    // Immediate: one that reads before it writes fails if another process writes in between, and does not wait
    // for its lock.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(last) = last_of_batch(&transaction, limits)? else {
        transaction.execute_batch("drop table records_before_digests")?;
        transaction.commit()?;
        return Ok(None);
    };
    // `not indexed` and `cross join` keep the rows in the order in which they are in the file.
    let inserted = transaction.execute(
        "insert into records (vault_key, record_id, version, deleted, updated_at, digest, created_at,
           ciphertext)
         select v.vault_key, r.record_id, r.version, r.deleted, r.updated_at,
           record_digest(r.ciphertext), case when r.version = 1 then r.updated_at end, r.ciphertext
         from records_before_digests r not indexed cross join vaults v using (vault_id)
         where r.rowid <= ?1",
        [last],
    )?;
    transaction.execute(
        "update vaults set live_records = vaults.live_records + batch.live_records,
           record_rows = vaults.record_rows + batch.record_rows, bytes = vaults.bytes + batch.bytes
         from (
           select vault_id, sum(deleted = 0) as live_records, count(*) as record_rows,
             sum(length(ciphertext)) as bytes
           from records_before_digests not indexed where rowid <= ?1 group by vault_id
         ) as batch where vaults.vault_id = batch.vault_id",
        [last],
    )?;
    let moved =
        transaction.execute("delete from records_before_digests where rowid <= ?1", [last])?;
    if inserted != moved {
        return Err(Error::StatementChangedRows(inserted));
    }
    transaction.commit()?;
    Ok(Some(moved))
}

fn has_old_table(connection: &Connection) -> rusqlite::Result<bool> {
    let table = "select 1 from sqlite_schema where name = 'records_before_digests'";
    Ok(connection.query_row(table, [], |_| Ok(())).optional()?.is_some())
}

/// The last row of the next batch; `None` if no row is left.
fn last_of_batch(connection: &Connection, limits: BatchLimits) -> rusqlite::Result<Option<i64>> {
    // `length` reads the row's header only.
    connection.query_row(
        "select max(rowid) from (
           select rowid, row_number() over rows_so_far as place, sum(length) over rows_so_far as bytes
           from (select rowid, length(ciphertext) as length from records_before_digests order by rowid limit ?1)
           window rows_so_far as (order by rowid rows unbounded preceding)
         ) where place = 1 or bytes <= ?2",
        [limits.rows, limits.bytes],
        |row| row.get(0),
    )
}

/// Progress for the log, which says why the start takes long.
struct Report {
    moved: usize,
    total: i64,
    reported_at: Instant,
}

impl Report {
    #[expect(clippy::disallowed_methods, reason = "the time only spaces log lines")]
    fn new(connection: &Connection) -> rusqlite::Result<Self> {
        let count = "select count(*) from records_before_digests";
        let total: i64 = connection.query_row(count, [], |row| row.get(0))?;
        if total > 0 {
            tracing::info!(records = total, "the database is upgraded");
        }
        Ok(Self { moved: 0, total, reported_at: Instant::now() })
    }

    #[expect(clippy::disallowed_methods, reason = "the time only spaces log lines")]
    fn add(&mut self, moved: usize, log: &log::Pages) {
        self.moved += moved;
        if self.reported_at.elapsed() < REPORT_INTERVAL {
            return;
        }
        self.reported_at = Instant::now();
        tracing::info!(done = self.moved, records = self.total, "the database is upgraded");
        if log.written_back < log.in_log && log.bytes() > LOG_BYTES_MAX {
            tracing::warn!(
                log_bytes = log.bytes(),
                "another process reads the database, so that the write-ahead log grows until it ends"
            );
        }
    }

    fn finish(&self) {
        if self.total > 0 {
            tracing::info!(records = self.moved, "the database has been upgraded");
        }
    }
}

#[cfg(test)]
mod tests;
