//! Rows of the database as they come and go.

use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;
use vaultsync_protocol::{Ciphertext, Conflict, Epoch, Push, RecordId, Timestamp, Version};

use super::db_error::DbError;
use crate::{RecordState, VaultId, WriteDecision, receipts::Receipts};

/// A vault's row.
pub(super) struct VaultRow {
    pub(super) clock: Timestamp,
    pub(super) epoch: Epoch,
    pub(super) receipts: Receipts,
}

/// What the judgement must know of a record.
pub(super) struct RecordRow {
    pub(super) head: RecordState,
    /// Its ciphertext's length.
    pub(super) bytes: usize,
    /// Its ciphertext's SHA-256, where it may be the one that is pushed.
    pub(super) digest: Option<Vec<u8>>,
}

/// What is to be written, column by column.
#[derive(Default)]
pub(super) struct Rows<'a> {
    pub(super) ids: Vec<&'a str>,
    pub(super) versions: Vec<i64>,
    pub(super) deleted: Vec<bool>,
    pub(super) ciphertexts: Vec<&'a [u8]>,
    pub(super) updated_at: Vec<i64>,
}

/// What becomes of a record that is there: it is the version before, or the table's check undoes all.
macro_rules! on_conflict_update {
    () => {
        " on conflict (vault_id, record_id) do update set deleted = excluded.deleted,
           ciphertext = excluded.ciphertext, updated_at = excluded.updated_at,
           version = case when r.version = excluded.version - 1 then excluded.version else 0 end"
    };
}
pub(super) use on_conflict_update;

impl<'a> Rows<'a> {
    /// Whether each was judged to be of a record that is not there.
    pub(super) fn are_new(&self) -> bool {
        self.versions.iter().all(|version| *version == Version::FIRST.get())
    }

    /// Adds what was judged to be written, one millisecond each from `first` on; the last of them.
    pub(super) fn add(
        &mut self,
        push: &'a Push,
        verdicts: &[WriteDecision],
        first: Timestamp,
    ) -> Option<Timestamp> {
        let (mut next, mut last) = (first, None);
        for (operation, verdict) in push.operations().iter().zip(verdicts) {
            let WriteDecision::Apply(version) = verdict else {
                continue;
            };
            self.ids.push(operation.record_id.as_str());
            self.versions.push(version.get());
            self.deleted.push(operation.deleted);
            self.ciphertexts.push(operation.ciphertext.as_bytes());
            self.updated_at.push(next.as_millis());
            last = Some(next);
            next = next.plus_millis(1);
        }
        last
    }
}

pub(super) fn uuid(vault: VaultId) -> Uuid {
    Uuid::from_bytes(*vault.as_bytes())
}

/// A ciphertext's length as the database counts it.
pub(super) fn length(ciphertext: &Ciphertext) -> i32 {
    // A `bytea` has at most 1 GiB, so nothing that is longer can be held.
    i32::try_from(ciphertext.len()).unwrap_or(i32::MAX)
}

/// A vault's row, in the columns from `first` on.
pub(super) fn vault(row: &Row, first: usize) -> Result<VaultRow, DbError> {
    Ok(VaultRow {
        clock: Timestamp::from_millis(column(row, first)?),
        epoch: Epoch::from_bytes(*column::<Uuid>(row, first + 1)?.as_bytes()),
        receipts: Receipts::from_bytes(column(row, first + 2)?),
    })
}

/// A record's id and the rest of it, in the columns from `first` on.
pub(super) fn record(row: &Row, first: usize) -> Result<(String, RecordRow), DbError> {
    let head = RecordState { version: version(row, first + 1)?, deleted: column(row, first + 2)? };
    let bytes: i32 = column(row, first + 3)?;
    let bytes = usize::try_from(bytes).map_err(|_| fault("a ciphertext has a length below 0"))?;
    Ok((column(row, first)?, RecordRow { head, bytes, digest: column(row, first + 4)? }))
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
    RecordId::new(column::<&str>(row, index)?).map_err(|_| fault("a record has an id that is none"))
}

pub(super) fn version(row: &Row, index: usize) -> Result<Version, DbError> {
    Version::new(column(row, index)?).ok_or_else(|| fault("a record has a version that is none"))
}

pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, DbError> {
    row.try_get(index).map_err(|error| DbError::Permanent(error.to_string()))
}

pub(super) fn fault(what: &str) -> DbError {
    DbError::Permanent(what.to_owned())
}
