//! The statements of a read of records by id.

use rusqlite::{Connection, OptionalExtension as _, Row, Statement, params};
use vaultsync_protocol::{Ciphertext, DigestedRecord, Record, RecordId, RecordsRequest};

use super::{
    VaultKey,
    pull::read_row,
    rows::{digest, time, version},
};
use crate::{ReadBudget, RecordsOutcome, VaultId, pull::is_another_epoch, records::Lookup};

/// Reads the records of a request, all of them from one snapshot.
pub(super) fn read<R: ReadBudget>(
    connection: &Connection,
    vault: VaultId,
    request: &RecordsRequest,
    bytes_max: usize,
    budget: &mut R,
) -> rusqlite::Result<RecordsOutcome> {
    let snapshot = connection.unchecked_transaction()?;
    let (key, head) = read_row(&snapshot, vault)?.unzip();
    if is_another_epoch(request.epoch(), head) {
        return Ok(RecordsOutcome::EpochChanged);
    }
    let mut select = snapshot.prepare_cached(
        "select version, deleted, updated_at, digest, ciphertext from records
         where vault_key = ?1 and record_id = ?2",
    )?;
    let mut lookup = Lookup::new(head, bytes_max, budget);
    for record_id in request.record_ids() {
        if !look_up(&mut select, key, record_id, &mut lookup)? {
            break;
        }
    }
    Ok(RecordsOutcome::Found(lookup.finish()))
}

/// Looks up one record. Returns false if there is no room for it. `vault` is `None` if it does not exist.
fn look_up<R: ReadBudget>(
    select: &mut Statement<'_>,
    vault: Option<VaultKey>,
    record_id: &RecordId,
    lookup: &mut Lookup<'_, R>,
) -> rusqlite::Result<bool> {
    let Some(VaultKey(vault)) = vault else {
        lookup.add_missing(record_id.clone());
        return Ok(true);
    };
    let read = |row: &Row<'_>| {
        let ciphertext = row.get_ref(4)?.as_blob()?;
        lookup.take(ciphertext.len()).then(|| record(row, record_id, ciphertext)).transpose()
    };
    match select.query_row(params![vault, record_id.as_str()], read).optional()? {
        None => lookup.add_missing(record_id.clone()),
        Some(Some(record)) => lookup.add(record),
        Some(None) => return Ok(false),
    }
    Ok(true)
}

fn record(
    row: &Row<'_>,
    record_id: &RecordId,
    ciphertext: &[u8],
) -> rusqlite::Result<DigestedRecord> {
    let record = Record {
        record_id: record_id.clone(),
        version: version(row, 0)?,
        deleted: row.get(1)?,
        updated_at: time(row, 2)?,
        ciphertext: Ciphertext::from_bytes(ciphertext.to_vec()),
    };
    Ok(DigestedRecord { record, digest: digest(row, 3)? })
}
