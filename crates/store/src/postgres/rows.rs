//! Conversion between database rows and the types of the store.

use std::collections::HashMap;

use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;
use vaultsync_protocol::{
    Ciphertext, Conflict, Epoch, Push, RecordDigest, RecordId, Timestamp, Version,
};

use super::db_error::DbError;
use crate::{
    Counters, RecordState, VaultId,
    push_plan::{Erasure, LoadedRecord, RecordWrite, VaultState},
    receipts::Receipts,
};

/// The records to write, by columns.
#[derive(Default)]
pub(super) struct RecordColumns<'a> {
    pub(super) ids: Vec<&'a str>,
    pub(super) versions: Vec<i64>,
    pub(super) deleted: Vec<bool>,
    pub(super) ciphertexts: Vec<&'a [u8]>,
    pub(super) updated_at: Vec<i64>,
    pub(super) digests: Vec<Vec<u8>>,
    /// Those that replace a version that is kept.
    pub(super) kept: KeptColumns<'a>,
}

/// The records of which the replaced version is kept, by columns.
#[derive(Default)]
pub(super) struct KeptColumns<'a> {
    pub(super) ids: Vec<&'a str>,
    /// When each is replaced.
    pub(super) replaced_at: Vec<i64>,
}

/// Updates a record that exists. It is at the version before, or the table's check fails the
/// transaction.
macro_rules! on_conflict_update {
    () => {
        " on conflict (vault_id, record_id) do update set deleted = excluded.deleted,
           ciphertext = excluded.ciphertext, updated_at = excluded.updated_at,
           digest = excluded.digest, written_at = excluded.written_at,
           version = case when r.version = excluded.version - 1 then excluded.version else 0 end"
    };
}
pub(super) use on_conflict_update;

/// The digest of a record. One that is older than digests may not have it yet.
macro_rules! record_digest {
    () => {
        "coalesce(digest, substr(sha256(ciphertext), 1, 16))"
    };
}
pub(super) use record_digest;

impl<'a> RecordColumns<'a> {
    /// Whether no record exists yet.
    pub(super) fn are_new(&self) -> bool {
        self.versions.iter().all(|version| *version == Version::FIRST.get())
    }

    pub(super) fn add(&mut self, records: &[RecordWrite<'a>]) {
        for RecordWrite { operation, version, updated_at, digest, keeps_replaced } in records {
            self.ids.push(operation.record_id.as_str());
            self.versions.push(version.get());
            self.deleted.push(operation.deleted);
            self.ciphertexts.push(operation.ciphertext.as_bytes());
            self.updated_at.push(updated_at.as_millis());
            self.digests.push(digest.as_bytes().to_vec());
            if *keeps_replaced {
                self.kept.ids.push(operation.record_id.as_str());
                self.kept.replaced_at.push(updated_at.as_millis());
            }
        }
    }
}

/// The loaded record of each operation and guard, in their order.
pub(super) fn in_order(
    push: &Push,
    rows: &HashMap<String, LoadedRecord>,
) -> Vec<Option<LoadedRecord>> {
    push.record_ids().map(|id| rows.get(id.as_str()).copied()).collect()
}

pub(super) fn uuid(vault: VaultId) -> Uuid {
    Uuid::from_bytes(*vault.as_bytes())
}

/// A vault's row, in the columns from `first` on.
pub(super) fn vault(row: &Row, first: usize) -> Result<VaultState, DbError> {
    Ok(VaultState {
        clock: Timestamp::from_millis(column(row, first)?),
        epoch: Epoch::from_bytes(*column::<Uuid>(row, first + 1)?.as_bytes()),
        receipts: Receipts::from_bytes(column(row, first + 2)?),
        counters: counters(row, first + 3)?,
        history_bytes: column(row, first + 6)?,
        purged_at: time(row, first + 7)?,
        erasure: erasure(row, first + 8)?,
    })
}

fn erasure(row: &Row, index: usize) -> Result<Erasure, DbError> {
    let number: i16 = column(row, index)?;
    Erasure::from_number(number.into()).ok_or_else(|| fault("the erasure of a vault is not valid"))
}

/// A time that may be null.
pub(super) fn time(row: &Row, index: usize) -> Result<Option<Timestamp>, DbError> {
    Ok(column::<Option<i64>>(row, index)?.map(Timestamp::from_millis))
}

/// A vault's counters, if it has been counted.
pub(super) fn counters(row: &Row, first: usize) -> Result<Option<Counters>, DbError> {
    let counted = column::<Option<i64>>(row, first)?;
    let rest = (column::<Option<i64>>(row, first + 1)?, column::<Option<i64>>(row, first + 2)?);
    Ok(match (counted, rest) {
        (Some(live_records), (Some(record_rows), Some(bytes))) => {
            Some(Counters { live_records, record_rows, bytes })
        }
        _ => None,
    })
}

/// The values of the counters' columns.
pub(super) fn counter_values(counters: Option<Counters>) -> [Option<i64>; 3] {
    counters.map_or([None; 3], |Counters { live_records, record_rows, bytes }| {
        [Some(live_records), Some(record_rows), Some(bytes)]
    })
}

/// A record's id and state, in the columns from `first` on.
pub(super) fn record(row: &Row, first: usize) -> Result<(String, LoadedRecord), DbError> {
    let state = RecordState { version: version(row, first + 1)?, deleted: column(row, first + 2)? };
    let ciphertext_bytes = length(row, first + 3)?;
    let (digest, written_at) = (digest(row, first + 4)?, time(row, first + 5)?);
    Ok((column(row, first)?, LoadedRecord { state, ciphertext_bytes, digest, written_at }))
}

/// The length of a ciphertext.
pub(super) fn length(row: &Row, index: usize) -> Result<usize, DbError> {
    let length: i32 = column(row, index)?;
    usize::try_from(length).map_err(|_| fault("a ciphertext has a negative length"))
}

pub(super) fn digest(row: &Row, index: usize) -> Result<RecordDigest, DbError> {
    let bytes = column::<&[u8]>(row, index)?.try_into();
    bytes.map(RecordDigest::from_bytes).map_err(|_| fault("a digest is not 16 bytes long"))
}

pub(super) fn conflict(row: &Row) -> Result<Conflict, DbError> {
    Ok(Conflict {
        record_id: record_id(row, 0)?,
        current_version: version(row, 1)?,
        deleted: column(row, 2)?,
        updated_at: Some(Timestamp::from_millis(column(row, 3)?)),
        ciphertext: Ciphertext::from_bytes(column(row, 4)?),
        guard: false,
    })
}

pub(super) fn record_id(row: &Row, index: usize) -> Result<RecordId, DbError> {
    RecordId::new(column::<&str>(row, index)?).map_err(|_| fault("a record id is not valid"))
}

pub(super) fn version(row: &Row, index: usize) -> Result<Version, DbError> {
    Version::new(column(row, index)?).ok_or_else(|| fault("a record version is not valid"))
}

pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, DbError> {
    row.try_get(index).map_err(|error| DbError::Permanent(error.to_string()))
}

pub(super) fn fault(what: &str) -> DbError {
    DbError::Permanent(what.to_owned())
}
