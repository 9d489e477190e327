//! The statements of one push. What is written is decided by [`PushPlan`].

use rusqlite::{Connection, OptionalExtension, Row, params};
use vaultsync_protocol::{Ciphertext, Conflict, Epoch, Push, RecordId, Timestamp};

use super::{
    VaultKey,
    rows::{digest, length, optional_time, time, version},
};
use crate::{
    Counters, PushOutcome, ReadBudget, RecordState, Refused, Vault, VaultId,
    pull::VaultHead,
    push_plan::{Conflicts, Erasure, LoadedRecord, PushContext, PushPlan, RecordWrite, VaultState},
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
    mut context: PushContext,
    budget: &mut dyn ReadBudget,
) -> rusqlite::Result<Applied> {
    let (key, state) = load_vault(connection, vault.id())?.unzip();
    let records = load_records(connection, key, push)?;
    let is_new = VaultState::is_new(state.as_ref());
    if is_new && !vault.name().is_empty() {
        context.named_vaults = Some(count_named_vaults(connection, vault)?);
    }
    match PushPlan::decide(push, state, &records, context) {
        // What a transaction can read is on disk, or becomes so with this transaction.
        PushPlan::Return(outcome) | PushPlan::Confirm(outcome) => {
            Ok(Applied { outcome, new_head: None })
        }
        PushPlan::Refuse(conflicts) => {
            let outcome =
                PushOutcome::Refused(read_conflicts(connection, key, &conflicts, budget)?);
            Ok(Applied { outcome, new_head: None })
        }
        PushPlan::Write(writes) => {
            let key = match key {
                Some(key) => {
                    if is_new {
                        begin_anew(connection, key, vault, &writes.vault)?;
                    }
                    update_vault(connection, key, &writes.vault)?;
                    key
                }
                None => insert_vault(connection, vault, &writes.vault)?,
            };
            keep_replaced(connection, key, &writes.records, context.now)?;
            write_records(connection, key, &writes.records, context.now)?;
            let new_head = writes.new_head();
            Ok(Applied { outcome: writes.into_outcome(), new_head })
        }
    }
}

/// Counts the named vaults of a vault's user.
fn count_named_vaults(connection: &Connection, vault: &Vault) -> rusqlite::Result<usize> {
    let count: i64 = connection
        .prepare_cached(
            "select count(*) from vaults
             where issuer = ?1 and subject = ?2 and name <> '' and erasure < 2",
        )?
        .query_row([vault.issuer(), vault.subject()], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

fn load_vault(
    connection: &Connection,
    vault: VaultId,
) -> rusqlite::Result<Option<(VaultKey, VaultState)>> {
    connection
        .prepare_cached(
            "select vault_key, clock, epoch, live_records, record_rows, bytes, receipts,
               history_bytes, purged_at, erasure
             from vaults where vault_id = ?1",
        )?
        .query_row([vault.as_bytes()], |row| {
            let counters = Counters {
                live_records: row.get(3)?,
                record_rows: row.get(4)?,
                bytes: row.get(5)?,
            };
            let state = VaultState {
                clock: time(row, 1)?,
                epoch: Epoch::from_bytes(row.get(2)?),
                receipts: Receipts::from_bytes(row.get(6)?),
                counters: Some(counters),
                history_bytes: row.get(7)?,
                purged_at: optional_time(row, 8)?,
                erasure: erasure(row, 9)?,
            };
            Ok((VaultKey(row.get(0)?), state))
        })
        .optional()
}

/// `vault` is `None` if it does not exist yet.
fn load_records(
    connection: &Connection,
    vault: Option<VaultKey>,
    push: &Push,
) -> rusqlite::Result<Vec<Option<LoadedRecord>>> {
    let Some(VaultKey(vault)) = vault else { return Ok(vec![None; push.record_ids().len()]) };
    // `length` reads the row's header only.
    let mut select = connection.prepare_cached(
        "select version, deleted, length(ciphertext), digest, written_at from records
         where vault_key = ?1 and record_id = ?2",
    )?;
    let mut load = |record_id: &RecordId| {
        select.query_row(params![vault, record_id.as_str()], loaded_record).optional()
    };
    push.record_ids().map(&mut load).collect()
}

fn loaded_record(row: &Row<'_>) -> rusqlite::Result<LoadedRecord> {
    let state = RecordState { version: version(row, 0)?, deleted: row.get(1)? };
    let (ciphertext_bytes, digest) = (length(row, 2)?, digest(row, 3)?);
    let written_at = optional_time(row, 4)?;
    Ok(LoadedRecord { state, ciphertext_bytes, digest, written_at })
}

/// Reads the conflicts for which there is memory. If there is none for the first, it reads none and says that
/// there are more.
fn read_conflicts(
    connection: &Connection,
    vault: Option<VaultKey>,
    conflicts: &Conflicts<'_>,
    budget: &mut dyn ReadBudget,
) -> rusqlite::Result<Refused> {
    let mut read = Vec::with_capacity(conflicts.record_ids.len());
    for (index, (record_id, bytes)) in conflicts.with_bytes().enumerate() {
        if !budget.take(bytes) {
            return Ok(Refused { conflicts: read, has_more: true });
        }
        let found = match vault {
            Some(vault) => read_conflict(connection, vault, record_id)?,
            None => None,
        };
        let conflict = found.unwrap_or_else(|| Conflict::with_nothing(record_id.clone()));
        read.push(Conflict { guard: index < conflicts.guards, ..conflict });
    }
    Ok(Refused { conflicts: read, has_more: conflicts.has_more })
}

fn read_conflict(
    connection: &Connection,
    VaultKey(vault): VaultKey,
    record_id: &RecordId,
) -> rusqlite::Result<Option<Conflict>> {
    connection
        .prepare_cached(
            "select version, deleted, updated_at, ciphertext from records
             where vault_key = ?1 and record_id = ?2",
        )?
        .query_row(params![vault, record_id.as_str()], |row| {
            Ok(Conflict {
                record_id: record_id.clone(),
                current_version: version(row, 0)?,
                deleted: row.get(1)?,
                updated_at: Some(time(row, 2)?),
                ciphertext: Ciphertext::from_bytes(row.get(3)?),
                guard: false,
            })
        })
        .optional()
}

/// Copies the versions that are kept, before they are overwritten. One with the same number can only be left over
/// from a file that was recovered, and must not make the record unwritable.
fn keep_replaced(
    connection: &Connection,
    VaultKey(vault): VaultKey,
    records: &[RecordWrite<'_>],
    now: Timestamp,
) -> rusqlite::Result<()> {
    for write in records.iter().filter(|write| write.keeps_replaced) {
        let copied = connection
            .prepare_cached(
                "insert or replace into revisions (vault_key, record_id, version, deleted, updated_at, replaced_at,
                   replaced_wall, digest, ciphertext)
                 select vault_key, record_id, version, deleted, updated_at, ?3, ?4, digest, ciphertext
                 from records where vault_key = ?1 and record_id = ?2",
            )?
            .execute(params![
                vault,
                write.operation.record_id.as_str(),
                write.updated_at.as_millis(),
                now.as_millis(),
            ])?;
        if copied != 1 {
            return Err(rusqlite::Error::StatementChangedRows(copied));
        }
    }
    Ok(())
}

/// A new record was created at the time of its first version.
fn write_records(
    connection: &Connection,
    VaultKey(vault): VaultKey,
    records: &[RecordWrite<'_>],
    written_at: Timestamp,
) -> rusqlite::Result<()> {
    let mut upsert = connection.prepare_cached(
        "insert into records (vault_key, record_id, version, deleted, updated_at, digest, created_at,
           written_at, ciphertext)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?5, ?7, ?8)
         on conflict (vault_key, record_id) do update set version = excluded.version,
           deleted = excluded.deleted, updated_at = excluded.updated_at, digest = excluded.digest,
           written_at = excluded.written_at, ciphertext = excluded.ciphertext
         where version = excluded.version - 1",
    )?;
    for RecordWrite { operation, version, updated_at, digest, .. } in records {
        let changed = upsert.execute(params![
            vault,
            operation.record_id.as_str(),
            version.get(),
            operation.deleted,
            updated_at.as_millis(),
            digest.as_bytes(),
            written_at.as_millis(),
            operation.ciphertext.as_bytes(),
        ])?;
        if changed != 1 {
            // The record is not at the version that was loaded: another writer ignored the lock.
            return Err(rusqlite::Error::StatementChangedRows(changed));
        }
    }
    Ok(())
}

/// The new vault's key is greater than those of all records, too: a file that was recovered from damage may
/// have records whose vault is lost, and they must not become those of another user. A key from SQLite's own
/// sequence would not do, because a recovered file has no sequence.
fn insert_vault(
    connection: &Connection,
    vault: &Vault,
    state: &VaultState,
) -> rusqlite::Result<VaultKey> {
    let Counters { live_records, record_rows, bytes } = state.counters.unwrap_or_default();
    connection
        .prepare_cached(
            "insert into vaults (vault_key, vault_id, issuer, subject, name, clock, epoch,
               live_records, record_rows, bytes, receipts)
             values (
               1 + max(coalesce((select max(vault_key) from vaults), 0),
                 coalesce((select max(vault_key) from records), 0),
                 coalesce((select max(vault_key) from revisions), 0)),
               ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .insert(params![
            vault.id().as_bytes(),
            vault.issuer(),
            vault.subject(),
            vault.name(),
            state.clock.as_millis(),
            state.epoch.as_bytes(),
            live_records,
            record_rows,
            bytes,
            state.receipts.as_bytes(),
        ])
        .map(VaultKey)
}

/// Gives the row of an erased vault its owner again, and a new epoch.
fn begin_anew(
    connection: &Connection,
    VaultKey(key): VaultKey,
    vault: &Vault,
    state: &VaultState,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "update vaults set issuer = ?2, subject = ?3, name = ?4, epoch = ?5, purged_at = null,
               erasure = 0
             where vault_key = ?1",
        )?
        .execute(params![
            key,
            vault.issuer(),
            vault.subject(),
            vault.name(),
            state.epoch.as_bytes(),
        ])?;
    Ok(())
}

fn update_vault(
    connection: &Connection,
    VaultKey(vault): VaultKey,
    state: &VaultState,
) -> rusqlite::Result<()> {
    let Counters { live_records, record_rows, bytes } = state.counters.unwrap_or_default();
    connection
        .prepare_cached(
            "update vaults set clock = ?2, receipts = ?3, live_records = ?4, record_rows = ?5,
               bytes = ?6, history_bytes = ?7
             where vault_key = ?1",
        )?
        .execute(params![
            vault,
            state.clock.as_millis(),
            state.receipts.as_bytes(),
            live_records,
            record_rows,
            bytes,
            state.history_bytes,
        ])?;
    Ok(())
}

fn erasure(row: &Row<'_>, column: usize) -> rusqlite::Result<Erasure> {
    let number: i64 = row.get(column)?;
    Erasure::from_number(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, number))
}
