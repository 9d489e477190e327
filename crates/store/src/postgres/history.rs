//! Reads of the history, from the primary: each one round trip and one snapshot.

use tokio_postgres::{Row, types::Type};
use vaultsync_protocol::{
    Ciphertext, FoundVersion, HistoryQuery, HistoryRequest, KeptVersion, PastStates, RecordHistory,
    RecordId, RecordVersion, Timestamp, Version,
};

use super::{
    Inner,
    connection::Sql,
    db_error::DbError,
    pull::head,
    rows::{self, column, digest, fault, length, record_id, time, uuid, version},
};
use crate::{
    HistoryOutcome, ReadBudget, VaultId,
    history_page::HistoryPage,
    pull::{is_another_epoch, rows_max},
    rewind::{CurrentRecord, StatesPage},
};

/// The vault's row beside each kept version of a record, newest first, or once beside none.
pub(super) const VERSIONS: Sql = Sql {
    text: "select v.epoch, v.clock, v.purged_at, k.*
           from vaults v left join lateral (
             select version, deleted, updated_at, replaced_at, octet_length(ciphertext), digest
             from revisions where vault_id = $1 and record_id = $2 and version < $3
             order by version desc limit $4
           ) k on true
           where v.vault_id = $1 and v.erasure = 0",
    types: &[Type::UUID, Type::TEXT, Type::INT8, Type::INT8],
};

/// The vault's row beside one version of a record, the current one or a kept one, or beside none.
pub(super) const VERSION: Sql = Sql {
    text: concat!(
        "select v.epoch, v.clock, v.purged_at, r.*
           from vaults v left join lateral (
             select version, deleted, ciphertext, updated_at, null::bigint as replaced_at, ",
        rows::record_digest!(),
        " from records where vault_id = $1 and record_id = $2 and version = $3
             union all
             select version, deleted, ciphertext, updated_at, replaced_at, digest
             from revisions where vault_id = $1 and record_id = $2 and version = $3
           ) r on true
           where v.vault_id = $1 and v.erasure = 0"
    ),
    types: &[Type::UUID, Type::TEXT, Type::INT8],
};

/// The vault's row beside each record that a page of states looks at, with the record's newest kept version that
/// is not later than the cursor, or once beside no record. Of a record that has not changed, no version is
/// looked up.
///
/// The rows arrive in the order of the look-up by key, which [`states`] checks.
pub(super) const STATES: Sql = Sql {
    text: "select v.epoch, v.clock, v.purged_at, r.*, k.*
           from vaults v left join lateral (
             select record_id, version, updated_at, created_at from records
             where vault_id = $1 and record_id > $2 order by record_id limit $3
           ) r on true left join lateral (
             select version, deleted, updated_at, replaced_at, octet_length(ciphertext), digest
             from revisions
             where vault_id = $1 and record_id = r.record_id and updated_at <= $4
               and r.updated_at > $4
             order by version desc limit 1
           ) k on true
           where v.vault_id = $1 and v.erasure = 0",
    types: &[Type::UUID, Type::TEXT, Type::INT8, Type::INT8],
};

impl Inner {
    /// Reads what a request asks for. From the primary, because a client that undoes writes must see them.
    pub(super) async fn history<R: ReadBudget>(
        &self,
        vault: VaultId,
        request: &HistoryRequest,
        mut budget: R,
    ) -> Result<(HistoryOutcome, R), DbError> {
        let rows = self.read_history(vault, &request.query).await?;
        let outcome = outcome(&rows, request, &mut budget)?;
        Ok((outcome, budget))
    }

    async fn read_history(
        &self,
        vault: VaultId,
        query: &HistoryQuery,
    ) -> Result<Vec<Row>, DbError> {
        let id = uuid(vault);
        match query {
            HistoryQuery::Versions { record_id, before, limit } => {
                let before = before.map_or(i64::MAX, Version::get);
                let (record_id, rows_max) = (record_id.as_str(), rows_max(*limit));
                self.read_rows(vault, &VERSIONS, &[&id, &record_id, &before, &rows_max]).await
            }
            HistoryQuery::Version { record_id, version } => {
                let (record_id, version) = (record_id.as_str(), version.get());
                self.read_rows(vault, &VERSION, &[&id, &record_id, &version]).await
            }
            HistoryQuery::States { at, after, limit } => {
                // Every id is later than the empty one.
                let after = after.as_ref().map_or("", RecordId::as_str);
                let (at, rows_max) = (at.timestamp().as_millis(), rows_max(*limit));
                self.read_rows(vault, &STATES, &[&id, &after, &rows_max, &at]).await
            }
        }
    }
}

fn outcome(
    rows: &[Row],
    request: &HistoryRequest,
    budget: &mut impl ReadBudget,
) -> Result<HistoryOutcome, DbError> {
    let head = rows.first().map(head).transpose()?;
    if is_another_epoch(request.epoch.as_ref(), head) {
        return Ok(HistoryOutcome::EpochChanged);
    }
    Ok(match &request.query {
        HistoryQuery::Versions { record_id, limit, .. } => {
            let page = HistoryPage::new(head, record_id, *limit, budget);
            HistoryOutcome::Versions(versions(rows, page)?)
        }
        HistoryQuery::Version { record_id, .. } => {
            let record = rows.first().map(|row| record_version(row, record_id, budget));
            let (epoch, head) = head.map(|head| (head.epoch, head.clock)).unzip();
            let record = record.transpose()?.flatten();
            HistoryOutcome::Version(FoundVersion { record, epoch, head })
        }
        HistoryQuery::States { at, after, limit } => {
            let page = StatesPage::new(head, *at, *limit, budget);
            HistoryOutcome::States(states(rows, after.clone(), page)?)
        }
    })
}

fn versions(
    rows: &[Row],
    mut page: HistoryPage<'_, impl ReadBudget>,
) -> Result<RecordHistory, DbError> {
    for row in rows {
        // Beside the vault's row there may be no version.
        let Some(version) = kept(row, 3)? else { break };
        if !page.add(version) {
            break;
        }
    }
    Ok(page.finish())
}

/// `None` if there is no such version. As the first record of a page, it is returned even if `budget` has no room
/// for it.
fn record_version(
    row: &Row,
    record_id: &RecordId,
    budget: &mut impl ReadBudget,
) -> Result<Option<RecordVersion>, DbError> {
    if column::<Option<i64>>(row, 3)?.is_none() {
        return Ok(None);
    }
    let ciphertext: &[u8] = column(row, 5)?;
    budget.take(ciphertext.len());
    Ok(Some(RecordVersion {
        record_id: record_id.clone(),
        version: version(row, 3)?,
        deleted: column(row, 4)?,
        ciphertext: Ciphertext::from_bytes(ciphertext.to_vec()),
        updated_at: Timestamp::from_millis(column(row, 6)?),
        replaced_at: time(row, 7)?,
        digest: digest(row, 8)?,
    }))
}

fn states(
    rows: &[Row],
    after: Option<RecordId>,
    mut page: StatesPage<'_, impl ReadBudget>,
) -> Result<PastStates, DbError> {
    let mut last = after;
    for row in rows {
        // The vault's row beside no record.
        if column::<Option<&str>>(row, 3)?.is_none() {
            break;
        }
        let record = CurrentRecord {
            record_id: record_id(row, 3)?,
            version: version(row, 4)?,
            updated_at: Timestamp::from_millis(column(row, 5)?),
            created_at: time(row, 6)?,
        };
        if last.as_ref() >= Some(&record.record_id) {
            return Err(fault("the rows of a page of states are not in order"));
        }
        last = Some(record.record_id.clone());
        if !page.look_at(record, kept(row, 7)?) {
            break;
        }
    }
    Ok(page.finish())
}

/// A kept version, in the columns from `first` on; `None` if there is none beside the rest of the row.
fn kept(row: &Row, first: usize) -> Result<Option<KeptVersion>, DbError> {
    if column::<Option<i64>>(row, first)?.is_none() {
        return Ok(None);
    }
    Ok(Some(KeptVersion {
        version: version(row, first)?,
        deleted: column(row, first + 1)?,
        updated_at: Timestamp::from_millis(column(row, first + 2)?),
        replaced_at: Timestamp::from_millis(column(row, first + 3)?),
        bytes: length(row, first + 4)?,
        digest: digest(row, first + 5)?,
    }))
}
