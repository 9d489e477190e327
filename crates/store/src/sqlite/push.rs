//! The statements of one push. What is written is decided by [`PushPlan`].

use rusqlite::{Connection, OptionalExtension, Row, params};
use vaultsync_protocol::{
    Ciphertext, Conflict, Epoch, Operation, Push, RecordId, Timestamp, Version,
};

use crate::{
    PushOutcome, ReadBudget, RecordState, Refused, Vault, VaultId,
    pull::VaultHead,
    push_plan::{Conflicts, LoadedRecord, PushContext, PushPlan, RecordWrite, VaultState, Writes},
    receipts::Receipts,
};

/// What a push did, once it is committed.
pub(super) struct Applied {
    pub(super) outcome: PushOutcome,
    /// The vault's head after the push, if any record was written.
    pub(super) new_head: Option<VaultHead>,
}

/// Applies a push inside a savepoint of an immediate transaction. The transaction is the vault's lock:
/// no other push reads or writes between this one's reads and its writes.
///
/// If the outcome is not [`PushOutcome::Applied`], nothing was written. Conflicts are read within `budget`.
pub(super) fn apply(
    connection: &Connection,
    vault: &Vault,
    push: &Push,
    context: PushContext,
    budget: &mut dyn ReadBudget,
) -> rusqlite::Result<Applied> {
    let id = vault.id();
    let state = load_vault(connection, id)?;
    let is_new = state.is_none();
    let records = load_records(connection, id, push)?;
    match PushPlan::decide(push, state, &records, context) {
        // What a transaction can read is on disk, or becomes so with this transaction.
        PushPlan::Return(outcome) | PushPlan::Confirm(outcome) => {
            Ok(Applied { outcome, new_head: None })
        }
        PushPlan::Refuse(conflicts) => {
            let outcome = PushOutcome::Refused(read_conflicts(connection, id, &conflicts, budget)?);
            Ok(Applied { outcome, new_head: None })
        }
        PushPlan::Write(writes) => {
            write_records(connection, id, &writes.records)?;
            if is_new {
                insert_vault(connection, vault, &writes.vault)?;
            } else {
                update_vault(connection, id, &writes.vault)?;
            }
            let new_head = writes.new_head();
            let Writes { results, .. } = writes;
            Ok(Applied { outcome: PushOutcome::Applied(results), new_head })
        }
    }
}

fn load_vault(connection: &Connection, vault: VaultId) -> rusqlite::Result<Option<VaultState>> {
    connection
        .prepare_cached("select clock, epoch, receipts from vaults where vault_id = ?1")?
        .query_row([vault.as_bytes()], |row| {
            Ok(VaultState {
                clock: Timestamp::from_millis(row.get(0)?),
                epoch: Epoch::from_bytes(row.get(1)?),
                receipts: Receipts::from_bytes(row.get(2)?),
            })
        })
        .optional()
}

fn load_records(
    connection: &Connection,
    vault: VaultId,
    push: &Push,
) -> rusqlite::Result<Vec<Option<LoadedRecord>>> {
    // `length` reads the row's header only. The ciphertext is read only if it can be the operation's: a push
    // of a few bytes could otherwise make the writer read a hundred of the largest records.
    let mut select = connection.prepare_cached(
        "select version, deleted, length(ciphertext),
           case when version = ?3 and length(ciphertext) = ?4 then ciphertext end
         from records where vault_id = ?1 and record_id = ?2",
    )?;
    let mut load = |operation: &Operation| {
        let length = i64::try_from(operation.ciphertext.len()).unwrap_or(i64::MAX);
        let mut rows = select.query(params![
            vault.as_bytes(),
            operation.record_id.as_str(),
            operation.next_version().get(),
            length,
        ])?;
        rows.next()?.map(|row| loaded_record(row, operation)).transpose()
    };
    push.operations().iter().map(&mut load).collect()
}

fn loaded_record(row: &Row<'_>, operation: &Operation) -> rusqlite::Result<LoadedRecord> {
    let state = RecordState { version: version(row, 0)?, deleted: row.get(1)? };
    let same_length = row.get_ref(3)?.as_blob_or_null()?;
    let has_same_ciphertext = same_length == Some(operation.ciphertext.as_bytes());
    let length: i64 = row.get(2)?;
    let ciphertext_bytes =
        usize::try_from(length).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(2, length))?;
    Ok(LoadedRecord { state, ciphertext_bytes, has_same_ciphertext })
}

/// Reads the conflicts for which there is memory. If there is none for the first, it reads none and says that
/// there are more.
fn read_conflicts(
    connection: &Connection,
    vault: VaultId,
    conflicts: &Conflicts<'_>,
    budget: &mut dyn ReadBudget,
) -> rusqlite::Result<Refused> {
    let mut read = Vec::with_capacity(conflicts.record_ids.len());
    for (record_id, bytes) in conflicts.record_ids.iter().zip(&conflicts.ciphertext_bytes) {
        if !budget.take(*bytes) {
            return Ok(Refused { conflicts: read, has_more: true });
        }
        read.push(read_conflict(connection, vault, record_id)?);
    }
    Ok(Refused { conflicts: read, has_more: conflicts.has_more })
}

fn read_conflict(
    connection: &Connection,
    vault: VaultId,
    record_id: &RecordId,
) -> rusqlite::Result<Conflict> {
    let found = connection
        .prepare_cached(
            "select version, deleted, updated_at, ciphertext from records
             where vault_id = ?1 and record_id = ?2",
        )?
        .query_row(params![vault.as_bytes(), record_id.as_str()], |row| {
            Ok(Conflict {
                record_id: record_id.clone(),
                current_version: version(row, 0)?,
                deleted: row.get(1)?,
                updated_at: Some(Timestamp::from_millis(row.get(2)?)),
                ciphertext: Ciphertext::from_bytes(row.get(3)?),
            })
        })
        .optional()?;
    Ok(found.unwrap_or_else(|| Conflict::with_nothing(record_id.clone())))
}

fn write_records(
    connection: &Connection,
    vault: VaultId,
    records: &[RecordWrite<'_>],
) -> rusqlite::Result<()> {
    let mut upsert = connection.prepare_cached(
        "insert into records (vault_id, record_id, version, deleted, updated_at, ciphertext)
         values (?1, ?2, ?3, ?4, ?5, ?6)
         on conflict (vault_id, record_id) do update set version = excluded.version,
           deleted = excluded.deleted, updated_at = excluded.updated_at,
           ciphertext = excluded.ciphertext
         where version = excluded.version - 1",
    )?;
    for RecordWrite { operation, version, updated_at } in records {
        let changed = upsert.execute(params![
            vault.as_bytes(),
            operation.record_id.as_str(),
            version.get(),
            operation.deleted,
            updated_at.as_millis(),
            operation.ciphertext.as_bytes(),
        ])?;
        if changed != 1 {
            // The record is not at the version that was loaded: another writer ignored the lock.
            return Err(rusqlite::Error::StatementChangedRows(changed));
        }
    }
    Ok(())
}

fn insert_vault(
    connection: &Connection,
    vault: &Vault,
    state: &VaultState,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "insert into vaults (vault_id, issuer, subject, clock, epoch, receipts)
             values (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            vault.id().as_bytes(),
            vault.issuer(),
            vault.subject(),
            state.clock.as_millis(),
            state.epoch.as_bytes(),
            state.receipts.as_bytes(),
        ])?;
    Ok(())
}

fn update_vault(
    connection: &Connection,
    vault: VaultId,
    state: &VaultState,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("update vaults set clock = ?2, receipts = ?3 where vault_id = ?1")?
        .execute(params![vault.as_bytes(), state.clock.as_millis(), state.receipts.as_bytes()])?;
    Ok(())
}

pub(super) fn version(row: &Row<'_>, column: usize) -> rusqlite::Result<Version> {
    let number: i64 = row.get(column)?;
    Version::new(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, number))
}
