//! The statement of a manifest.

use rusqlite::{Connection, Row, params};
use vaultsync_protocol::{ManifestEntry, ManifestRequest, RecordId};

use super::{
    VaultKey,
    pull::read_row,
    rows::{digest, record_id, time, version},
};
use crate::{
    ManifestOutcome, ReadBudget, VaultId,
    manifest::ManifestPage,
    pull::{is_another_epoch, rows_max},
};

/// Reads one page of a manifest, all of it from one snapshot.
pub(super) fn read_page<R: ReadBudget>(
    connection: &Connection,
    vault: VaultId,
    request: &ManifestRequest,
    budget: &mut R,
) -> rusqlite::Result<ManifestOutcome> {
    let snapshot = connection.unchecked_transaction()?;
    let (key, head) = read_row(&snapshot, vault)?.unzip();
    if is_another_epoch(request.epoch.as_ref(), head) {
        return Ok(ManifestOutcome::EpochChanged);
    }
    let mut page = ManifestPage::new(head, request, budget);
    if let Some(VaultKey(key)) = key {
        // The ciphertext is the last column, and is not read.
        let mut select = snapshot.prepare_cached(
            "select record_id, version, deleted, updated_at, digest from records
             where vault_key = ?1 and record_id > ?2 order by record_id limit ?3",
        )?;
        // Every id is later than the empty one.
        let after = request.after.as_ref().map_or("", RecordId::as_str);
        let mut rows = select.query(params![key, after, rows_max(request.limit)])?;
        while let Some(row) = rows.next()?
            && page.add(entry(row)?)
        {}
    }
    Ok(ManifestOutcome::Manifest(page.finish()))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<ManifestEntry> {
    Ok(ManifestEntry {
        record_id: record_id(row, 0)?,
        version: version(row, 1)?,
        deleted: row.get(2)?,
        updated_at: time(row, 3)?,
        digest: digest(row, 4)?,
    })
}
