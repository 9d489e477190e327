//! The statements of one pull.

use rusqlite::{Connection, Error, OptionalExtension, Row, ffi, params};
use tokio::time::Instant;
use vaultsync_protocol::{Ciphertext, Epoch, Pull, Record};

use super::{
    VaultKey,
    rows::{optional_time, record_id, time, version},
};
use crate::{
    PullOutcome, ReadBudget, VaultId,
    pull::{VaultHead, without_records},
};

/// Limits of one page.
pub(super) struct Limits<'a, R> {
    /// Bytes of ciphertext.
    pub(super) bytes_max: usize,
    /// When the read must be given up, as if it had been interrupted.
    pub(super) until: Option<Instant>,
    pub(super) budget: &'a mut R,
}

/// Reads one page, all of it from one snapshot.
pub(super) fn read_page<R: ReadBudget>(
    connection: &Connection,
    vault: VaultId,
    pull: &Pull,
    limits: &mut Limits<'_, R>,
) -> rusqlite::Result<PullOutcome> {
    let snapshot = connection.unchecked_transaction()?;
    let (key, head) = read_row(&snapshot, vault)?.unzip();
    if let Some(outcome) = without_records(pull, head) {
        return Ok(outcome);
    }
    // A vault that does not exist has no records, so the page is decided above.
    let Some(key) = key else { return Ok(crate::pull::page(None, Vec::new(), false)) };
    let (records, has_more) = read_records(&snapshot, key, pull, limits)?;
    Ok(crate::pull::page(head, records, has_more))
}

/// Reads the vault's row. It is nearly always in memory, so this takes microseconds.
pub(super) fn read_head(
    connection: &Connection,
    vault: VaultId,
) -> rusqlite::Result<Option<VaultHead>> {
    Ok(read_row(connection, vault)?.map(|(_, head)| head))
}

/// As [`read_head`], with the key of the vault's records.
pub(super) fn read_row(
    connection: &Connection,
    vault: VaultId,
) -> rusqlite::Result<Option<(VaultKey, VaultHead)>> {
    connection
        .prepare_cached(
            "select vault_key, epoch, clock, purged_at from vaults where vault_id = ?1 and erasure = 0",
        )?
        .query_row([vault.as_bytes()], |row| {
            let (clock, purged_at) = (time(row, 2)?, optional_time(row, 3)?);
            let head = VaultHead { epoch: Epoch::from_bytes(row.get(1)?), clock, purged_at };
            Ok((VaultKey(row.get(0)?), head))
        })
        .optional()
}

/// The records of a page, and whether there is a later one.
fn read_records<R: ReadBudget>(
    connection: &Connection,
    VaultKey(vault): VaultKey,
    pull: &Pull,
    limits: &mut Limits<'_, R>,
) -> rusqlite::Result<(Vec<Record>, bool)> {
    let after = pull.cursor.map_or(i64::MIN, |cursor| cursor.timestamp().as_millis());
    let mut select = connection.prepare_cached(
        "select record_id, version, deleted, updated_at, ciphertext from records
         where vault_key = ?1 and updated_at > ?2 order by updated_at",
    )?;
    let mut rows = select.query(params![vault, after])?;
    let mut records = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if records.len() == pull.limit {
            return Ok((records, true));
        }
        if limits.until.is_some_and(|until| Instant::now() >= until) {
            return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_INTERRUPT), None));
        }
        let ciphertext = row.get_ref(4)?.as_blob()?;
        bytes += ciphertext.len();
        let fits = limits.budget.take(ciphertext.len()) && bytes <= limits.bytes_max;
        if !fits && !records.is_empty() {
            return Ok((records, true));
        }
        records.push(record(row, ciphertext)?);
    }
    Ok((records, false))
}

fn record(row: &Row<'_>, ciphertext: &[u8]) -> rusqlite::Result<Record> {
    Ok(Record {
        record_id: record_id(row, 0)?,
        version: version(row, 1)?,
        deleted: row.get(2)?,
        updated_at: time(row, 3)?,
        ciphertext: Ciphertext::from_bytes(ciphertext.to_vec()),
    })
}
