//! One pull: one statement, one flight, one snapshot.

use std::time::Duration;

use futures_util::{TryFutureExt as _, TryStreamExt as _};
use tokio::time::Instant;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;
use vaultsync_protocol::{Ciphertext, Epoch, Pull, Record, Timestamp};

use super::{
    connect::{Connection, Sql, with_deadline},
    db_error::DbError,
    rows::{column, fault, record_id, uuid, version},
};
use crate::{
    PullOutcome, ReadBudget, VaultId,
    pull::{VaultHead, without_records},
};

/// The vault's row beside each record of the page, or once beside nothing.
///
/// Whether the page must end early, because of its bytes, is found by the records' lengths alone, and the
/// ciphertext is read only up to there. Hardly any page must, and one sum tells so; to find the place where
/// it ends costs more, and is done only then. One record more than the page may have is looked for, to know
/// whether there is a later one. `octet_length` does not read what it measures. The last `limit` deadlines
/// what is read whatever the plan: without it, one made while the table was small read the vault to its
/// end and threw most of it away.
///
/// The rows come in the order of the last look-up, which is the only one with more than a row. To sort
/// them by name took the database a tenth of the page, and [`page`] sees that they are in order.
pub(super) const PAGE: Sql = Sql {
    text: "select v.epoch, v.clock, p.found, r.record_id, r.version, r.deleted, r.updated_at, r.ciphertext
           from vaults v left join lateral (
             select found, case when bytes <= $4 then 9223372036854775807 else (
               select max(updated_at) filter (where place = 1 or (place <= $3 and bytes <= $4))
               from (
                 select updated_at, row_number() over page as place, sum(length) over page as bytes
                 from (
                   select updated_at, octet_length(ciphertext) as length from records
                   where vault_id = $1 and updated_at > $2 order by updated_at limit $3 + 1
                 ) t
                 window page as (order by updated_at rows unbounded preceding)
               ) s
             ) end as last
             from (
               select count(*) as found, sum(length) as bytes
               from (
                 select octet_length(ciphertext) as length from records
                 where vault_id = $1 and updated_at > $2 order by updated_at limit $3 + 1
               ) t
             ) s
           ) p on true left join lateral (
             select record_id, version, deleted, updated_at, ciphertext from records
             where vault_id = $1 and updated_at > $2 and updated_at <= p.last
             order by updated_at limit $3
           ) r on true
           where v.vault_id = $1",
    types: &[Type::UUID, Type::INT8, Type::INT8, Type::INT8],
};

/// The vault's row alone.
pub(super) const HEAD: Sql =
    Sql { text: "select epoch, clock from vaults where vault_id = $1", types: &[Type::UUID] };

/// The deadlines of one page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of ciphertext.
    pub(super) bytes_max: usize,
    /// When the first row must be there.
    pub(super) deadline: Instant,
    /// How long after a row the next one may come: a large page takes its time on a slow line.
    pub(super) row_timeout: Duration,
}

/// The outcome, if the vault's row alone tells it.
///
/// Where nothing is new this costs the database a fifth of a page's statement, which PostgreSQL plans
/// anew each time because it expects little behind a cursor near the head.
pub(super) async fn look(
    connection: &Connection,
    vault: VaultId,
    pull: &Pull,
    deadline: Instant,
) -> Result<Option<PullOutcome>, DbError> {
    let sent = async {
        let ready = connection.ready(&HEAD).await?;
        connection.rows(&ready, &[&uuid(vault)]).await
    };
    let sent = sent.map_err(|error| DbError::of(&error));
    let rows = with_deadline(deadline, DbError::ConnectionLost, sent).await?;
    let head = rows.first().map(head).transpose()?;
    Ok(without_records(pull, head))
}

pub(super) fn head(row: &Row) -> Result<VaultHead, DbError> {
    let epoch = Epoch::from_bytes(*column::<Uuid>(row, 0)?.as_bytes());
    Ok(VaultHead { epoch, clock: Timestamp::from_millis(column(row, 1)?) })
}

/// Reads one page. A page's rows are in memory before `room` is asked, `bytes_max` of them at most for
/// each connection.
pub(super) async fn page(
    connection: &Connection,
    vault: VaultId,
    pull: &Pull,
    limits: Limits,
    room: &mut impl ReadBudget,
) -> Result<PullOutcome, DbError> {
    let of = |error: tokio_postgres::Error| DbError::of(&error);
    let after = pull.cursor.map_or(i64::MIN, |cursor| cursor.timestamp().as_millis());
    let limit = i64::try_from(pull.limit).unwrap_or(i64::MAX - 1);
    let bytes_max = i64::try_from(limits.bytes_max).unwrap_or(i64::MAX);
    let sent = async {
        let ready = connection.ready(&PAGE).await.map_err(of)?;
        connection.stream(&ready, &[&uuid(vault), &after, &limit, &bytes_max]).await.map_err(of)
    };
    let rows = with_deadline(limits.deadline, DbError::ConnectionLost, sent).await?;
    let mut rows = std::pin::pin!(rows);
    let mut until = limits.deadline;
    let (mut found, mut records, mut has_more) = (None, Vec::new(), false);
    let (mut last, mut is_full) = (None, false);
    loop {
        let next = rows.try_next().map_err(of);
        let Some(row) = with_deadline(until, DbError::ConnectionLost, next).await? else {
            break;
        };
        until = Instant::now() + limits.row_timeout;
        found = Some(head(&row)?);
        let in_all = column::<i64>(&row, 2)?;
        if in_all == 0 {
            break;
        }
        let updated_at = Timestamp::from_millis(column(&row, 6)?);
        if last >= Some(updated_at) {
            return Err(fault("a page is not in order"));
        }
        last = Some(updated_at);
        let ciphertext: &[u8] = column(&row, 7)?;
        is_full = is_full || (!room.take(ciphertext.len()) && !records.is_empty());
        // What has no room is only seen to be later.
        if !is_full {
            records.push(record(&row, updated_at, ciphertext)?);
        }
        has_more = in_all > i64::try_from(records.len()).unwrap_or(i64::MAX);
    }
    // What the row alone tells it tells here too: whether the history is another one.
    Ok(without_records(pull, found).unwrap_or_else(|| crate::pull::page(found, records, has_more)))
}

fn record(row: &Row, updated_at: Timestamp, ciphertext: &[u8]) -> Result<Record, DbError> {
    Ok(Record {
        record_id: record_id(row, 3)?,
        version: version(row, 4)?,
        deleted: column(row, 5)?,
        updated_at,
        ciphertext: Ciphertext::from_bytes(ciphertext.to_vec()),
    })
}
