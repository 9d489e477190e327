//! Moves the records of a file of the version before 0.3 into the table that has their digests.
//!
//! Done at the start, before anything is served. Each batch is a transaction that moves rows from one table to
//! the other, so that a start that is interrupted goes on where it was, and the file hardly grows.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, functions::FunctionFlags};
use vaultsync_protocol::RecordDigest;

/// How many rows, and how many bytes of ciphertext, are moved in one transaction. One row may have more bytes.
const BATCH_ROWS_MAX: i64 = 10_000;
const BATCH_BYTES_MAX: i64 = 32 * 1024 * 1024;

/// How often the progress is logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Moves the records that are left in the old table, and then drops it.
pub(super) fn move_records(connection: &mut Connection) -> rusqlite::Result<()> {
    if !has_old_table(connection)? {
        return Ok(());
    }
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("record_digest", 1, flags, |context| {
        Ok(*RecordDigest::of(context.get_raw(0).as_blob()?).as_bytes())
    })?;
    let mut report = Report::new(connection)?;
    loop {
        let transaction = connection.transaction()?;
        let Some(last) = last_of_batch(&transaction)? else {
            transaction.execute_batch("drop table records_before_digests")?;
            transaction.commit()?;
            break;
        };
        let inserted = transaction.execute(
            "insert into records (vault_key, record_id, version, deleted, updated_at, digest, created_at,
               ciphertext)
             select v.vault_key, r.record_id, r.version, r.deleted, r.updated_at,
               record_digest(r.ciphertext), case when r.version = 1 then r.updated_at end, r.ciphertext
             from records_before_digests r join vaults v using (vault_id) where r.rowid <= ?1",
            [last],
        )?;
        let moved =
            transaction.execute("delete from records_before_digests where rowid <= ?1", [last])?;
        if inserted != moved {
            // A record without a vault, which no version has written. Nothing is lost: the transaction ends here.
            return Err(rusqlite::Error::StatementChangedRows(inserted));
        }
        transaction.commit()?;
        // The log would otherwise grow to the size of the file. If another process reads the file, it does.
        connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
        report.add(moved);
    }
    connection.remove_function("record_digest", 1)?;
    report.finish();
    Ok(())
}

fn has_old_table(connection: &Connection) -> rusqlite::Result<bool> {
    let table = "select 1 from sqlite_schema where name = 'records_before_digests'";
    Ok(connection.query_row(table, [], |_| Ok(())).optional()?.is_some())
}

/// The last row of the next batch; `None` if no row is left.
fn last_of_batch(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    // `length` reads the row's header only.
    connection.query_row(
        "select max(rowid) from (
           select rowid, row_number() over rows_so_far as place, sum(length) over rows_so_far as bytes
           from (select rowid, length(ciphertext) as length from records_before_digests order by rowid limit ?1)
           window rows_so_far as (order by rowid rows unbounded preceding)
         ) where place = 1 or bytes <= ?2",
        [BATCH_ROWS_MAX, BATCH_BYTES_MAX],
        |row| row.get(0),
    )
}

/// Tells the operator why the start takes long.
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
    fn add(&mut self, moved: usize) {
        self.moved += moved;
        if self.reported_at.elapsed() >= REPORT_INTERVAL {
            self.reported_at = Instant::now();
            tracing::info!(done = self.moved, records = self.total, "the database is upgraded");
        }
    }

    fn finish(&self) {
        if self.total > 0 {
            tracing::info!(records = self.moved, "the database has been upgraded");
        }
    }
}
