//! Reads of pages of kept versions, from the primary: each one round trip and one snapshot.

use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use vaultsync_protocol::{Ciphertext, RecordVersion, Timestamp};

use super::{
    Inner,
    connection::Sql,
    db_error::DbError,
    pull::head,
    rows::{column, digest, fault, record_id, time, uuid, version},
};
use crate::{
    ReadBudget, RevisionsOutcome, RevisionsRequest, VaultId,
    pull::is_another_epoch,
    revisions::{PAGE_VERSIONS_MAX, RevisionsPage},
};

/// The vault's row beside each kept version of the page, or once beside none.
///
/// The lengths of the versions alone show where the page ends, and ciphertexts are read only up to there.
pub(super) const REVISIONS: Sql = Sql {
    text: "select v.epoch, v.clock, v.purged_at, x.record_id, x.version, r.*
           from vaults v left join lateral (
             select record_id, version
             from (
               select record_id, version, row_number() over page as place,
                 sum(length) over page as bytes
               from (
                 select record_id, version, octet_length(ciphertext) as length from revisions
                 where vault_id = $1 and (record_id, version) > ($2, $3)
                 order by record_id, version limit $4
               ) t
               window page as (order by record_id, version rows unbounded preceding)
             ) s
             where place = 1 or bytes <= $5
           ) x on true left join lateral (
             select deleted, ciphertext, updated_at, replaced_at, digest from revisions
             where vault_id = $1 and record_id = x.record_id and version = x.version offset 0
           ) r on true
           where v.vault_id = $1 and v.erasure = 0 order by x.record_id, x.version",
    types: &[Type::UUID, Type::TEXT, Type::INT8, Type::INT8, Type::INT8],
};

impl Inner {
    /// Reads one page. Its rows are in memory before `budget` is asked, up to `page_bytes_max`.
    pub(super) async fn revisions<R: ReadBudget>(
        &self,
        vault: VaultId,
        request: &RevisionsRequest,
        mut budget: R,
    ) -> Result<(RevisionsOutcome, R), DbError> {
        let (after_id, after_version) = request.after();
        let id = uuid(vault);
        let bytes_max = i64::try_from(self.options.page_bytes_max).unwrap_or(i64::MAX);
        let values: [&(dyn ToSql + Sync); 5] =
            [&id, &after_id, &after_version, &PAGE_VERSIONS_MAX, &bytes_max];
        let page_bytes_max = self.options.page_bytes_max;
        let rows = self.read_large_rows(vault, &REVISIONS, &values, page_bytes_max).await?;
        let outcome = outcome(&rows, request, page_bytes_max, &mut budget)?;
        Ok((outcome, budget))
    }
}

fn outcome(
    rows: &[Row],
    request: &RevisionsRequest,
    bytes_max: usize,
    budget: &mut impl ReadBudget,
) -> Result<RevisionsOutcome, DbError> {
    let head = rows.first().map(head).transpose()?;
    if is_another_epoch(request.epoch.as_ref(), head) {
        return Ok(RevisionsOutcome::EpochChanged);
    }
    let mut page = RevisionsPage::new(head, bytes_max, budget);
    for row in rows {
        // Beside the vault's row there may be no version.
        if column::<Option<&str>>(row, 3)?.is_none() {
            break;
        }
        let ciphertext: &[u8] = column::<Option<_>>(row, 6)?
            .ok_or_else(|| fault("a kept version is gone within one snapshot"))?;
        if !page.take(ciphertext.len()) {
            break;
        }
        page.add(RecordVersion {
            record_id: record_id(row, 3)?,
            version: version(row, 4)?,
            deleted: column(row, 5)?,
            ciphertext: Ciphertext::from_bytes(ciphertext.to_vec()),
            updated_at: Timestamp::from_millis(column(row, 7)?),
            replaced_at: time(row, 8)?,
            digest: digest(row, 9)?,
        });
    }
    Ok(page.finish())
}
