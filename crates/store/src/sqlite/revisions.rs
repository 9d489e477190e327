//! The statement that reads a page of kept versions.

use rusqlite::{Connection, Row, params};
use vaultsync_protocol::{Ciphertext, RecordVersion};

use super::{
    Sqlite, VaultKey,
    pull::read_row,
    rows::{digest, optional_time, record_id, time, version},
};
use crate::{
    ReadBudget, RevisionsOutcome, RevisionsRequest, StoreError, VaultId,
    pull::is_another_epoch,
    revisions::{PAGE_VERSIONS_MAX, RevisionsPage},
};

impl Sqlite {
    pub(crate) async fn revisions<R: ReadBudget>(
        &self,
        vault: VaultId,
        request: &RevisionsRequest,
        mut budget: R,
    ) -> Result<(RevisionsOutcome, R), StoreError> {
        let (request, bytes_max) = (request.clone(), self.options.page_bytes_max);
        self.read_blocking(move |connection| {
            read_page(connection, vault, &request, bytes_max, &mut budget)
                .map(|outcome| (outcome, budget))
        })
        .await
    }
}

/// Reads one page, all of it from one snapshot.
pub(super) fn read_page<R: ReadBudget>(
    connection: &Connection,
    vault: VaultId,
    request: &RevisionsRequest,
    bytes_max: usize,
    budget: &mut R,
) -> rusqlite::Result<RevisionsOutcome> {
    let snapshot = connection.unchecked_transaction()?;
    let (key, head) = read_row(&snapshot, vault)?.unzip();
    if is_another_epoch(request.epoch.as_ref(), head) {
        return Ok(RevisionsOutcome::EpochChanged);
    }
    let mut page = RevisionsPage::new(head, bytes_max, budget);
    if let Some(VaultKey(key)) = key {
        let mut select = snapshot.prepare_cached(
            "select record_id, version, deleted, updated_at, replaced_at, digest, ciphertext
             from revisions where vault_key = ?1 and (record_id, version) > (?2, ?3)
             order by record_id, version limit ?4",
        )?;
        let (record_id, version) = request.after();
        let mut rows = select.query(params![key, record_id, version, PAGE_VERSIONS_MAX])?;
        while let Some(row) = rows.next()? {
            let ciphertext = row.get_ref(6)?.as_blob()?;
            if !page.take(ciphertext.len()) {
                break;
            }
            page.add(record_version(row, ciphertext)?);
        }
    }
    Ok(page.finish())
}

fn record_version(row: &Row<'_>, ciphertext: &[u8]) -> rusqlite::Result<RecordVersion> {
    Ok(RecordVersion {
        record_id: record_id(row, 0)?,
        version: version(row, 1)?,
        deleted: row.get(2)?,
        ciphertext: Ciphertext::from_bytes(ciphertext.to_vec()),
        updated_at: time(row, 3)?,
        replaced_at: optional_time(row, 4)?,
        digest: digest(row, 5)?,
    })
}
