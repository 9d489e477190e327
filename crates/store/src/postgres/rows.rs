//! Conversion between database rows and the types of the store.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;
use vaultsync_protocol::{
    Ciphertext, Conflict, Epoch, Operation, Push, RecordId, Timestamp, Version,
};

use super::db_error::DbError;
use crate::{
    RecordState, VaultId,
    push_plan::{LoadedRecord, RecordWrite, VaultState},
    receipts::Receipts,
};

/// A record's state, as a push reads it.
pub(super) struct RecordRow {
    pub(super) state: RecordState,
    /// Length of its ciphertext.
    pub(super) ciphertext_bytes: usize,
    /// SHA-256 of its ciphertext, if that may be the pushed one.
    pub(super) digest: Option<Vec<u8>>,
}

/// The records to write, by columns.
#[derive(Default)]
pub(super) struct RecordColumns<'a> {
    pub(super) ids: Vec<&'a str>,
    pub(super) versions: Vec<i64>,
    pub(super) deleted: Vec<bool>,
    pub(super) ciphertexts: Vec<&'a [u8]>,
    pub(super) updated_at: Vec<i64>,
}

/// Updates a record that exists. It is at the version before, or the table's check fails the
/// transaction.
macro_rules! on_conflict_update {
    () => {
        " on conflict (vault_id, record_id) do update set deleted = excluded.deleted,
           ciphertext = excluded.ciphertext, updated_at = excluded.updated_at,
           version = case when r.version = excluded.version - 1 then excluded.version else 0 end"
    };
}
pub(super) use on_conflict_update;

impl<'a> RecordColumns<'a> {
    /// Whether no record exists yet.
    pub(super) fn are_new(&self) -> bool {
        self.versions.iter().all(|version| *version == Version::FIRST.get())
    }

    pub(super) fn add(&mut self, records: &[RecordWrite<'a>]) {
        for RecordWrite { operation, version, updated_at } in records {
            self.ids.push(operation.record_id.as_str());
            self.versions.push(version.get());
            self.deleted.push(operation.deleted);
            self.ciphertexts.push(operation.ciphertext.as_bytes());
            self.updated_at.push(updated_at.as_millis());
        }
    }
}

/// The loaded record of each operation, in their order.
pub(super) fn in_order(
    push: &Push,
    rows: &HashMap<String, RecordRow>,
) -> Vec<Option<LoadedRecord>> {
    let load = |operation: &Operation| {
        let row = rows.get(operation.record_id.as_str())?;
        let has_same_ciphertext = row.state.version == operation.next_version()
            && row.digest.as_deref().is_some_and(|digest| {
                *digest == Sha256::digest(operation.ciphertext.as_bytes())[..]
            });
        let RecordRow { state, ciphertext_bytes, .. } = *row;
        Some(LoadedRecord { state, ciphertext_bytes, has_same_ciphertext })
    };
    push.operations().iter().map(load).collect()
}

pub(super) fn uuid(vault: VaultId) -> Uuid {
    Uuid::from_bytes(*vault.as_bytes())
}

/// A ciphertext's length in the type of `octet_length`.
pub(super) fn length(ciphertext: &Ciphertext) -> i32 {
    // A `bytea` holds at most 1 GiB, so no stored ciphertext is longer than this.
    i32::try_from(ciphertext.len()).unwrap_or(i32::MAX)
}

/// A vault's row, in the columns from `first` on.
pub(super) fn vault(row: &Row, first: usize) -> Result<VaultState, DbError> {
    Ok(VaultState {
        clock: Timestamp::from_millis(column(row, first)?),
        epoch: Epoch::from_bytes(*column::<Uuid>(row, first + 1)?.as_bytes()),
        receipts: Receipts::from_bytes(column(row, first + 2)?),
    })
}

/// A record's id and state, in the columns from `first` on.
pub(super) fn record(row: &Row, first: usize) -> Result<(String, RecordRow), DbError> {
    let state = RecordState { version: version(row, first + 1)?, deleted: column(row, first + 2)? };
    let length: i32 = column(row, first + 3)?;
    let ciphertext_bytes =
        usize::try_from(length).map_err(|_| fault("a ciphertext has a negative length"))?;
    let digest = column(row, first + 4)?;
    Ok((column(row, first)?, RecordRow { state, ciphertext_bytes, digest }))
}

pub(super) fn conflict(row: &Row) -> Result<Conflict, DbError> {
    Ok(Conflict {
        record_id: record_id(row, 0)?,
        current_version: version(row, 1)?,
        deleted: column(row, 2)?,
        updated_at: Some(Timestamp::from_millis(column(row, 3)?)),
        ciphertext: Ciphertext::from_bytes(column(row, 4)?),
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
