//! The statements of one pull: each one round trip and one snapshot.

use std::time::Duration;

use futures_util::{TryFutureExt as _, TryStreamExt as _};
use tokio::time::Instant;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;
use vaultsync_protocol::{Ciphertext, Epoch, Pull, Record, Timestamp};

use super::{
    connection::{Connection, Sql},
    db_error::DbError,
    deadlines::with_deadline,
    rows::{column, fault, record_id, time, uuid, version},
};
use crate::{
    PullOutcome, ReadBudget, VaultId,
    pull::{VaultHead, without_records},
};

/// The vault's row beside each record of the page, or once beside no record.
///
/// If the page must end early because of its bytes, the end is found by the records' lengths alone, and
/// ciphertexts are read only up to there. `octet_length` does not read the ciphertext. Few pages end
/// early: one sum shows whether a page does, and only then is the end searched for, which costs more. One
/// record more than the limit is counted, to know whether there is a later one. The last `limit` bounds
/// what is read whatever the plan: without it, a plan made while the table was small read the vault to
/// its end and discarded most of it.
///
/// The rows arrive in the order of the last look-up, the only one with more than one row. An explicit
/// sort cost the database a tenth of the page; [`read_page`] checks the order instead.
pub(super) const PAGE: Sql = Sql {
    text: "select v.epoch, v.clock, v.purged_at, p.found, r.record_id, r.version, r.deleted, r.updated_at, r.ciphertext
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
           where v.vault_id = $1 and v.erasure = 0",
    types: &[Type::UUID, Type::INT8, Type::INT8, Type::INT8],
};

/// The vault's row alone.
pub(super) const HEAD: Sql = Sql {
    text: "select epoch, clock, purged_at from vaults where vault_id = $1 and erasure = 0",
    types: &[Type::UUID],
};

/// The deadlines of one page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of ciphertext.
    pub(super) bytes_max: usize,
    /// When the first row must have arrived.
    pub(super) deadline: Instant,
    /// How long after a row the next one may arrive: a large page is slow on a slow connection.
    pub(super) row_timeout: Duration,
}

/// Reads the vault's row. If nothing is new this costs the database a fifth of [`PAGE`], which
/// PostgreSQL plans at each call because it expects few rows behind a cursor near the head.
pub(super) async fn read_head(
    connection: &Connection,
    vault: VaultId,
    deadline: Instant,
) -> Result<Option<VaultHead>, DbError> {
    let rows = connection.read(&HEAD, &[&uuid(vault)], deadline).await?;
    rows.first().map(head).transpose()
}

pub(super) fn head(row: &Row) -> Result<VaultHead, DbError> {
    let epoch = Epoch::from_bytes(*column::<Uuid>(row, 0)?.as_bytes());
    let clock = Timestamp::from_millis(column(row, 1)?);
    Ok(VaultHead { epoch, clock, purged_at: time(row, 2)? })
}

/// Reads one page. Its rows are in memory before `budget` is asked, up to `bytes_max` for each
/// connection.
pub(super) async fn read_page(
    connection: &Connection,
    vault: VaultId,
    pull: &Pull,
    limits: Limits,
    budget: &mut impl ReadBudget,
) -> Result<PullOutcome, DbError> {
    let of = |error: tokio_postgres::Error| DbError::of(&error);
    let after = pull.cursor.map_or(i64::MIN, |cursor| cursor.timestamp().as_millis());
    let limit = i64::try_from(pull.limit).unwrap_or(i64::MAX - 1);
    let bytes_max = i64::try_from(limits.bytes_max).unwrap_or(i64::MAX);
    let sent = async {
        let ready = connection.prepare(&PAGE).await.map_err(of)?;
        connection.stream(&ready, &[&uuid(vault), &after, &limit, &bytes_max]).await.map_err(of)
    };
    let rows = with_deadline(limits.deadline, DbError::ConnectionLost, sent).await?;
    let mut rows = std::pin::pin!(rows);
    let mut until = limits.deadline;
    let mut page = PageRows::default();
    loop {
        let next = rows.try_next().map_err(of);
        let Some(row) = with_deadline(until, DbError::ConnectionLost, next).await? else {
            break;
        };
        until = Instant::now() + limits.row_timeout;
        page.add(&row, budget)?;
        if page.is_empty() {
            break;
        }
    }
    Ok(page.into_outcome(pull))
}

/// The rows of a page read so far.
#[derive(Default)]
struct PageRows {
    head: Option<VaultHead>,
    /// How many records match, up to one more than the page's limit.
    found: i64,
    records: Vec<Record>,
    last: Option<Timestamp>,
    is_full: bool,
}

impl PageRows {
    fn add(&mut self, row: &Row, budget: &mut impl ReadBudget) -> Result<(), DbError> {
        self.head = Some(head(row)?);
        self.found = column(row, 3)?;
        if self.is_empty() {
            return Ok(());
        }
        let updated_at = Timestamp::from_millis(column(row, 7)?);
        if self.last >= Some(updated_at) {
            return Err(fault("the rows of a page are not in order"));
        }
        self.last = Some(updated_at);
        let ciphertext: &[u8] = column(row, 8)?;
        // Once the page is full, nothing more is taken for it.
        self.is_full = self.is_full || (!budget.take(ciphertext.len()) && !self.records.is_empty());
        if !self.is_full {
            self.records.push(record(row, updated_at, ciphertext)?);
        }
        Ok(())
    }

    /// Whether the only row is the vault's, beside no record.
    fn is_empty(&self) -> bool {
        self.found == 0
    }

    fn into_outcome(self, pull: &Pull) -> PullOutcome {
        let has_more = self.found > i64::try_from(self.records.len()).unwrap_or(i64::MAX);
        // The vault's row decides first here too: the client may name another epoch.
        without_records(pull, self.head)
            .unwrap_or_else(|| crate::pull::page(self.head, self.records, has_more))
    }
}

fn record(row: &Row, updated_at: Timestamp, ciphertext: &[u8]) -> Result<Record, DbError> {
    Ok(Record {
        record_id: record_id(row, 4)?,
        version: version(row, 5)?,
        deleted: column(row, 6)?,
        updated_at,
        ciphertext: Ciphertext::from_bytes(ciphertext.to_vec()),
    })
}
