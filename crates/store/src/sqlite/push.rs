//! The statements of one push.

use rusqlite::{Connection, OptionalExtension, Row, params};
use vaultsync_protocol::{
    Ciphertext, Conflict, Epoch, Operation, Push, RecordId, Timestamp, Version, Written,
};

use crate::{
    PushOutcome, RecordState, Refused, StoreOptions, Vault, VaultId, WriteDecision,
    check_remembered, check_version,
    pull::VaultHead,
    push::{first_free, written},
    receipts::{BatchDigest, Receipts},
};

/// What a push did, once it is committed.
pub(super) struct Applied {
    pub(super) outcome: PushOutcome,
    /// What the vault's row says since, if any record was written.
    pub(super) head: Option<VaultHead>,
}

impl Applied {
    const fn nothing(outcome: PushOutcome) -> Self {
        Self { outcome, head: None }
    }
}

struct VaultRow {
    clock: Timestamp,
    epoch: Epoch,
    receipts: Receipts,
}

/// Applies a push inside a savepoint of an immediate transaction, which is the vault's lock: no
/// other push reads or writes between this one's judgement and its writes.
///
/// Where the outcome is not [`PushOutcome::Applied`], no record was written.
pub(super) fn apply(
    connection: &Connection,
    vault: &Vault,
    push: &Push,
    now: Timestamp,
    options: &StoreOptions,
) -> rusqlite::Result<Applied> {
    let mut found = vault_row(connection, vault.id())?;
    if let Some(known) = push.epoch()
        && !found.as_ref().is_some_and(|found| known.names(found.epoch))
    {
        return Ok(Applied::nothing(PushOutcome::EpochChanged));
    }
    if push.operations().is_empty() {
        return Ok(Applied::nothing(PushOutcome::Applied(Vec::new())));
    }
    let digest = BatchDigest::of(push);
    if let Some(found) = &mut found
        && let Some(answer) = found.receipts.answer(push, &digest)
    {
        let verdicts = remembered_verdicts(connection, vault.id(), push, &answer)?;
        if !verdicts.contains(&WriteDecision::Conflict) {
            return Ok(Applied::nothing(PushOutcome::Applied(answer)));
        }
        let refused = refuse(connection, vault.id(), push, &verdicts, options.page_bytes_max)?;
        if !refused.has_more {
            // Once its client has seen all that stands there, the same bytes are a new push.
            found.receipts.forget(&digest);
            update_vault(connection, vault.id(), found.clock, &found.receipts)?;
        }
        return Ok(Applied::nothing(PushOutcome::Refused(refused)));
    }
    let verdicts = verdicts(connection, vault.id(), push)?;
    if verdicts.contains(&WriteDecision::Conflict) {
        let refused = refuse(connection, vault.id(), push, &verdicts, options.page_bytes_max)?;
        return Ok(Applied::nothing(PushOutcome::Refused(refused)));
    }

    let VaultRow { clock, epoch, mut receipts } = if let Some(found) = found {
        found
    } else {
        let epoch = (options.new_epoch)();
        insert_vault(connection, vault, epoch)?;
        VaultRow { clock: Timestamp::from_millis(i64::MIN), epoch, receipts: Receipts::default() }
    };
    let last = write(connection, vault.id(), push, &verdicts, first_free(now, clock))?;
    receipts.remember(&digest, &verdicts);
    update_vault(connection, vault.id(), last.unwrap_or(clock), &receipts)?;
    let head = last.map(|clock| VaultHead { epoch, clock });
    Ok(Applied { outcome: PushOutcome::Applied(written(push, &verdicts)), head })
}

fn vault_row(connection: &Connection, vault: VaultId) -> rusqlite::Result<Option<VaultRow>> {
    connection
        .prepare_cached("select clock, epoch, receipts from vaults where vault_id = ?1")?
        .query_row([vault.as_bytes()], |row| {
            Ok(VaultRow {
                clock: Timestamp::from_millis(row.get(0)?),
                epoch: Epoch::from_bytes(row.get(1)?),
                receipts: Receipts::from_bytes(row.get(2)?),
            })
        })
        .optional()
}

/// The verdicts on a batch that has a receipt with this answer.
fn remembered_verdicts(
    connection: &Connection,
    vault: VaultId,
    push: &Push,
    answer: &[Written],
) -> rusqlite::Result<Vec<WriteDecision>> {
    let mut select = connection.prepare_cached(
        "select version, deleted from records where vault_id = ?1 and record_id = ?2",
    )?;
    let mut verdict = |(operation, written): (&Operation, &Written)| {
        let head = select
            .query_row(params![vault.as_bytes(), operation.record_id.as_str()], |row| {
                Ok(RecordState { version: version(row, 0)?, deleted: row.get(1)? })
            })
            .optional()?;
        Ok(check_remembered(operation, written.version, head))
    };
    push.operations().iter().zip(answer).map(&mut verdict).collect()
}

fn verdicts(
    connection: &Connection,
    vault: VaultId,
    push: &Push,
) -> rusqlite::Result<Vec<WriteDecision>> {
    let mut select = connection.prepare_cached(
        "select version, deleted, ciphertext from records where vault_id = ?1 and record_id = ?2",
    )?;
    let mut verdict = |operation: &Operation| {
        let mut rows = select.query(params![vault.as_bytes(), operation.record_id.as_str()])?;
        let Some(row) = rows.next()? else {
            return Ok(check_version(operation, None, push.epoch().is_some(), || false));
        };
        let head = RecordState { version: version(row, 0)?, deleted: row.get(1)? };
        // SQLite reads the ciphertext's pages only when it is asked for them.
        let holds_ciphertext = || {
            row.get_ref(2).is_ok_and(|held| held.as_blob() == Ok(operation.ciphertext.as_bytes()))
        };
        Ok(check_version(operation, Some(head), push.epoch().is_some(), holds_ciphertext))
    };
    push.operations().iter().map(&mut verdict).collect()
}

fn refuse(
    connection: &Connection,
    vault: VaultId,
    push: &Push,
    verdicts: &[WriteDecision],
    bytes_max: usize,
) -> rusqlite::Result<Refused> {
    let mut refused = Refused { conflicts: Vec::new(), has_more: false };
    let mut bytes = 0;
    let in_the_way = push.operations().iter().zip(verdicts);
    for (operation, _) in in_the_way.filter(|(_, verdict)| **verdict == WriteDecision::Conflict) {
        let conflict = conflict(connection, vault, &operation.record_id)?;
        bytes += conflict.ciphertext.len();
        if bytes > bytes_max && !refused.conflicts.is_empty() {
            refused.has_more = true;
            break;
        }
        refused.conflicts.push(conflict);
    }
    Ok(refused)
}

fn conflict(
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

/// Writes what was judged to be written, one millisecond each from `first` on; answers the last.
fn write(
    connection: &Connection,
    vault: VaultId,
    push: &Push,
    verdicts: &[WriteDecision],
    first: Timestamp,
) -> rusqlite::Result<Option<Timestamp>> {
    let mut upsert = connection.prepare_cached(
        "insert into records (vault_id, record_id, version, deleted, updated_at, ciphertext)
         values (?1, ?2, ?3, ?4, ?5, ?6)
         on conflict (vault_id, record_id) do update set version = excluded.version,
           deleted = excluded.deleted, updated_at = excluded.updated_at,
           ciphertext = excluded.ciphertext
         where version = excluded.version - 1",
    )?;
    let (mut next, mut head) = (first, None);
    for (operation, verdict) in push.operations().iter().zip(verdicts) {
        let WriteDecision::Apply(version) = verdict else {
            continue;
        };
        let changed = upsert.execute(params![
            vault.as_bytes(),
            operation.record_id.as_str(),
            version.get(),
            operation.deleted,
            next.as_millis(),
            operation.ciphertext.as_bytes(),
        ])?;
        if changed != 1 {
            // Another version than the one judged: somebody wrote around the lock.
            return Err(rusqlite::Error::StatementChangedRows(changed));
        }
        head = Some(next);
        next = next.plus_millis(1);
    }
    Ok(head)
}

fn insert_vault(connection: &Connection, vault: &Vault, epoch: Epoch) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "insert into vaults (vault_id, issuer, subject, clock, epoch) values (?1, ?2, ?3, 0, ?4)",
        )?
        .execute(params![vault.id().as_bytes(), vault.issuer(), vault.subject(), epoch.as_bytes()])?;
    Ok(())
}

fn update_vault(
    connection: &Connection,
    vault: VaultId,
    clock: Timestamp,
    receipts: &Receipts,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("update vaults set clock = ?2, receipts = ?3 where vault_id = ?1")?
        .execute(params![vault.as_bytes(), clock.as_millis(), receipts.as_bytes()])?;
    Ok(())
}

pub(super) fn version(row: &Row<'_>, column: usize) -> rusqlite::Result<Version> {
    let number: i64 = row.get(column)?;
    Version::new(number).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, number))
}
