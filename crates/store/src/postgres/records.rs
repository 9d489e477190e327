//! Reads of records by id, from the primary: one round trip and one snapshot.

use std::pin::Pin;

use futures_util::{TryFutureExt as _, TryStreamExt as _};
use tokio::time::Instant;
use tokio_postgres::{Row, RowStream, types::Type};
use vaultsync_protocol::{Ciphertext, DigestedRecord, Record, RecordId, RecordsRequest, Timestamp};

use super::{
    Inner,
    connection::{Connection, Sql},
    db_error::DbError,
    deadlines::{Deadlines, with_deadline},
    pull::{self, head},
    pull_executor::may_read_again,
    rows::{self, column, digest, fault, uuid, version},
};
use crate::{ReadBudget, RecordsOutcome, Vault, VaultId, pull::is_another_epoch, records::Lookup};

/// The vault's row beside each id that was asked for, and its record if there is one.
///
/// The lengths of the records alone show where the response is cut, and ciphertexts are read only up to there.
/// `offset 0` is explained at [`RECORD_STATES`](super::push_txn::RECORD_STATES).
pub(super) const RECORDS: Sql = Sql {
    text: concat!(
        "select v.epoch, v.clock, v.purged_at, x.record_id, r.*
           from vaults v cross join lateral (
             select place, record_id
             from (
               select x.place, x.record_id, sum(t.length) over page as bytes,
                 count(t.length) over page as found
               from unnest($2::text[]) with ordinality as x (record_id, place) left join lateral (
                 select octet_length(ciphertext) as length from records
                 where vault_id = $1 and record_id = x.record_id offset 0
               ) t on true
               window page as (order by x.place rows unbounded preceding)
             ) s
             where found <= 1 or bytes <= $3
           ) x left join lateral (
             select version, deleted, updated_at, ciphertext, ",
        rows::record_digest!(),
        " from records where vault_id = $1 and record_id = x.record_id offset 0
           ) r on true
           where v.vault_id = $1 and v.erasure = 0 order by x.place"
    ),
    types: &[Type::UUID, Type::TEXT_ARRAY, Type::INT8],
};

impl Inner {
    /// Reads the records of a request. The answer is that of the primary, because a client that asks for a
    /// record knows that it exists or has changed.
    pub(super) async fn records<R: ReadBudget>(
        &self,
        vault: &Vault,
        request: &RecordsRequest,
        mut budget: R,
    ) -> Result<(RecordsOutcome, R), DbError> {
        let deadlines = Deadlines::new(self.timeout, 0);
        let mut number = 0;
        loop {
            let tried =
                Box::pin(self.try_records(vault, request, &mut budget, number, deadlines)).await;
            number += 1;
            match tried {
                Ok(outcome) => return Ok((outcome, budget)),
                Err(failure) if may_read_again(&failure, number, deadlines) => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn try_records(
        &self,
        vault: &Vault,
        request: &RecordsRequest,
        budget: &mut impl ReadBudget,
        number: usize,
        deadlines: Deadlines,
    ) -> Result<RecordsOutcome, DbError> {
        budget.clear();
        let connection = self.primaries.connect(vault.id(), number, deadlines).await?;
        self.gauge();
        let read = read(&connection, vault.id(), request, self.page_limits(deadlines), budget);
        let read = connection.endpoint().watch(read).await;
        connection.settle(read)
    }
}

/// Its rows are in memory before `budget` is asked, up to `bytes_max` for each connection.
async fn read(
    connection: &Connection,
    vault: VaultId,
    request: &RecordsRequest,
    limits: pull::Limits,
    budget: &mut impl ReadBudget,
) -> Result<RecordsOutcome, DbError> {
    let ids: Vec<_> = request.record_ids().iter().map(RecordId::as_str).collect();
    let bytes_max = i64::try_from(limits.bytes_max).unwrap_or(i64::MAX);
    let sent = async {
        let ready = connection.prepare(&RECORDS).await?;
        connection.stream(&ready, &[&uuid(vault), &ids, &bytes_max]).await
    };
    let sent = sent.map_err(|error| DbError::of(&error));
    let rows = with_deadline(limits.deadline, DbError::ConnectionLost, sent).await?;
    let mut rows = std::pin::pin!(rows);
    let mut row = next_row(rows.as_mut(), limits.deadline).await?;
    let vault = row.as_ref().map(head).transpose()?;
    if is_another_epoch(request.epoch(), vault) {
        return Ok(RecordsOutcome::EpochChanged);
    }
    let mut lookup = Lookup::new(vault, limits.bytes_max, budget);
    for record_id in request.record_ids() {
        match &row {
            // A vault that does not exist has no row at all.
            None if vault.is_none() => lookup.add_missing(record_id.clone()),
            Some(found) if look_up(found, record_id, &mut lookup)? => {
                row = next_row(rows.as_mut(), Instant::now() + limits.row_timeout).await?;
            }
            _ => {
                lookup.cut();
                break;
            }
        }
    }
    Ok(RecordsOutcome::Found(lookup.finish()))
}

async fn next_row(rows: Pin<&mut RowStream>, until: Instant) -> Result<Option<Row>, DbError> {
    let mut rows = rows;
    let next = rows.try_next().map_err(|error| DbError::of(&error));
    with_deadline(until, DbError::ConnectionLost, next).await
}

/// Adds the row of one id. Returns false if there is no room for its record.
fn look_up<R: ReadBudget>(
    row: &Row,
    record_id: &RecordId,
    lookup: &mut Lookup<'_, R>,
) -> Result<bool, DbError> {
    if column::<&str>(row, 3)? != record_id.as_str() {
        return Err(fault("the rows of records are not in the order of the request"));
    }
    if column::<Option<i64>>(row, 4)?.is_none() {
        lookup.add_missing(record_id.clone());
        return Ok(true);
    }
    let ciphertext: &[u8] = column(row, 7)?;
    if !lookup.take(ciphertext.len()) {
        return Ok(false);
    }
    let record = Record {
        record_id: record_id.clone(),
        version: version(row, 4)?,
        deleted: column(row, 5)?,
        updated_at: Timestamp::from_millis(column(row, 6)?),
        ciphertext: Ciphertext::from_bytes(ciphertext.to_vec()),
    };
    lookup.add(DigestedRecord { record, digest: digest(row, 8)? });
    Ok(true)
}
