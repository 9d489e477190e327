//! Reads of manifests, from the primary: one round trip and one snapshot.

use tokio_postgres::{Row, types::Type};
use vaultsync_protocol::{ManifestEntry, ManifestRequest, RecordId, Timestamp};

use super::{
    Inner,
    connection::Sql,
    db_error::DbError,
    pull::head,
    rows::{self, column, digest, fault, record_id, uuid, version},
};
use crate::{
    ManifestOutcome, ReadBudget, VaultId,
    manifest::ManifestPage,
    pull::{is_another_epoch, rows_max},
};

/// The vault's row beside each record of the page, or once beside no record.
///
/// The rows arrive in the order of the look-up by key, which [`page`] checks.
pub(super) const MANIFEST: Sql = Sql {
    text: concat!(
        "select v.epoch, v.clock, v.purged_at, r.*
           from vaults v left join lateral (
             select record_id, version, deleted, updated_at, ",
        rows::record_digest!(),
        " from records where vault_id = $1 and record_id > $2 order by record_id limit $3
           ) r on true
           where v.vault_id = $1 and v.erasure = 0"
    ),
    types: &[Type::UUID, Type::TEXT, Type::INT8],
};

impl Inner {
    /// Reads one page of a manifest. From the primary, because a client compares several pages with what it
    /// has: two replicas may not have the same state.
    pub(super) async fn manifest<R: ReadBudget>(
        &self,
        vault: VaultId,
        request: &ManifestRequest,
        mut budget: R,
    ) -> Result<(ManifestOutcome, R), DbError> {
        // Every id is later than the empty one.
        let after = request.after.as_ref().map_or("", RecordId::as_str);
        let rows_max = rows_max(request.limit);
        let rows = self.read_rows(vault, &MANIFEST, &[&uuid(vault), &after, &rows_max]).await?;
        let outcome = page(&rows, request, &mut budget)?;
        Ok((outcome, budget))
    }
}

fn page(
    rows: &[Row],
    request: &ManifestRequest,
    budget: &mut impl ReadBudget,
) -> Result<ManifestOutcome, DbError> {
    let vault = rows.first().map(head).transpose()?;
    if is_another_epoch(request.epoch.as_ref(), vault) {
        return Ok(ManifestOutcome::EpochChanged);
    }
    let mut page = ManifestPage::new(vault, request, budget);
    let mut last = request.after.clone();
    for row in rows {
        // The vault's row beside no record.
        if column::<Option<&str>>(row, 3)?.is_none() {
            break;
        }
        let entry = entry(row)?;
        if last.as_ref() >= Some(&entry.record_id) {
            return Err(fault("the rows of a manifest are not in order"));
        }
        last = Some(entry.record_id.clone());
        if !page.add(entry) {
            break;
        }
    }
    Ok(ManifestOutcome::Manifest(page.finish()))
}

fn entry(row: &Row) -> Result<ManifestEntry, DbError> {
    Ok(ManifestEntry {
        record_id: record_id(row, 3)?,
        version: version(row, 4)?,
        deleted: column(row, 5)?,
        updated_at: Timestamp::from_millis(column(row, 6)?),
        digest: digest(row, 7)?,
    })
}
