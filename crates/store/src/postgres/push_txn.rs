//! One push in a transaction of its own: two round trips, with the vault's row locked from the first
//! to the end of the second. What is written is decided by [`PushPlan`].

use std::{collections::HashMap, time::Duration};

use futures_util::TryFutureExt as _;
use tokio::time::Instant;
use tokio_postgres::{
    Error,
    types::{ToSql, Type},
};
use uuid::Uuid;
use vaultsync_protocol::{Conflict, Push, RecordId, Timestamp};

use super::{
    connection::{Connection, Sql},
    db_error::DbError,
    deadlines::with_deadline,
    record_writes,
    round_trips::{
        Call, Write, confirm, lock_and_read, roll_back, roll_back_and_ask, write_and_commit,
    },
    rows::{self, RecordColumns, column, fault, uuid},
};
use crate::{
    PushOutcome, Refused, Vault,
    push_plan::{Conflicts, Erasure, LoadedRecord, PushContext, PushPlan, VaultState, Writes},
};

/// Locks the vault's row, and creates it if it does not exist, with a clock that no push leaves behind.
pub(super) const LOCK: Sql = Sql {
    text: "insert into vaults as v
             (vault_id, issuer, subject, name, clock, epoch, live_records, record_rows, bytes)
           values ($1, $2, $3, $4, -9223372036854775808, $5, 0, 0, 0)
           on conflict (vault_id) do update set clock = v.clock
           returning v.clock, v.epoch, v.receipts, v.live_records, v.record_rows, v.bytes,
             v.history_bytes, v.purged_at, v.erasure",
    types: &[Type::UUID, Type::TEXT, Type::TEXT, Type::TEXT, Type::UUID],
};

/// Reads what the plan depends on. Ciphertexts are not sent: a digest shows whether one is the pushed one.
///
/// Each record is looked up by its whole key. With `record_id = any($2)`, a plan made while the table
/// was small used `vault_id` alone and read the whole vault at each push: 7 times the cost at 900
/// records, and growing. `offset 0` keeps the planner from merging the look-up into such a plan.
pub(super) const RECORD_STATES: Sql = Sql {
    text: concat!(
        "select r.* from unnest($2::text[]) as x (record_id) cross join lateral (
             select record_id, version, deleted, octet_length(ciphertext), ",
        rows::record_digest!(),
        ", written_at from records where vault_id = $1 and record_id = x.record_id offset 0
           ) r"
    ),
    types: &[Type::UUID, Type::TEXT_ARRAY],
};

/// Counts the user's other named vaults. On Citus it reads every shard, and so only before a vault is new.
pub(super) const COUNT_VAULTS: Sql = Sql {
    text: "select count(*) from vaults
           where issuer = $1 and subject = $2 and name <> '' and vault_id <> $3 and erasure < 2",
    types: &[Type::TEXT, Type::TEXT, Type::UUID],
};

pub(super) const CONFLICTS: Sql = Sql {
    text: "select r.* from unnest($2::text[]) as x (record_id) cross join lateral (
             select record_id, version, deleted, updated_at, ciphertext
             from records where vault_id = $1 and record_id = x.record_id offset 0
           ) r",
    types: &[Type::UUID, Type::TEXT_ARRAY],
};

pub(super) const UPDATE_VAULT: Sql = Sql {
    text: "update vaults set clock = $2, receipts = $3, live_records = $4, record_rows = $5, bytes = $6,
             history_bytes = $7
           where vault_id = $1",
    types: &[
        Type::UUID,
        Type::INT8,
        Type::BYTEA,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
    ],
};

/// Gives the row of an erased vault its owner again, and a new epoch.
pub(super) const BEGIN_ANEW: Sql = Sql {
    text: "update vaults set issuer = $2, subject = $3, name = $4, epoch = $5, purged_at = null,
             erasure = 0
           where vault_id = $1",
    types: &[Type::UUID, Type::TEXT, Type::TEXT, Type::TEXT, Type::UUID],
};

/// What a transaction did for a push.
pub(super) struct PushResult {
    pub(super) outcome: PushOutcome,
    /// The vault's clock, if the vault exists.
    pub(super) clock: Option<Timestamp>,
    /// Whether any record was written.
    pub(super) wrote: bool,
}

/// A push on a connection.
pub(super) struct PushTxn<'a> {
    pub(super) connection: Connection,
    pub(super) vault: &'a Vault,
    pub(super) push: &'a Push,
    pub(super) context: PushContext,
    pub(super) deadline: Instant,
    /// How long it waits for the vault's lock, if that is shorter than its deadline allows.
    pub(super) lock_timeout: Duration,
}

/// A vault and the records that a push names, as the first round trip read them.
pub(super) struct LockedVault {
    /// `None` if this push created it.
    pub(super) vault: Option<VaultState>,
    pub(super) records: HashMap<String, LoadedRecord>,
}

impl PushTxn<'_> {
    /// Applies the push. If that fails the connection is closed, which ends the transaction.
    pub(super) async fn run(self) -> Result<PushResult, DbError> {
        let result = self.apply().await?;
        self.connection.release();
        Ok(result)
    }

    async fn apply(&self) -> Result<PushResult, DbError> {
        let LockedVault { vault, records } = self.lock_and_read().await?;
        let clock = vault.as_ref().map(|vault| vault.clock);
        let records = rows::in_order(self.push, &records);
        let mut context = self.context;
        let is_erased = vault.as_ref().is_some_and(|vault| vault.erasure == Erasure::Done);
        if VaultState::is_new(vault.as_ref()) && !self.vault.name().is_empty() {
            context.named_vaults = Some(self.count_vaults().await?);
        }
        let outcome = match PushPlan::decide(self.push, vault, &records, context) {
            PushPlan::Return(outcome) => {
                roll_back(&self.connection, self.deadline).await?;
                outcome
            }
            PushPlan::Confirm(outcome) => {
                if roll_back_and_ask(&self.connection, self.deadline).await? {
                    self.confirm().await?;
                }
                outcome
            }
            PushPlan::Refuse(conflicts) => {
                PushOutcome::Refused(self.read_conflicts(&conflicts).await?)
            }
            PushPlan::Write(writes) => return self.write(writes, is_erased).await,
        };
        Ok(PushResult { outcome, clock, wrote: false })
    }

    async fn lock_and_read(&self) -> Result<LockedVault, DbError> {
        let vault = self.vault;
        let (id, issuer, subject) = (uuid(vault.id()), vault.issuer(), vault.subject());
        let epoch = Uuid::from_bytes(*self.context.new_epoch.as_bytes());
        let ids: Vec<_> = self.push.record_ids().map(RecordId::as_str).collect();
        let lock = Call { sql: &LOCK, values: &[&id, &issuer, &subject, &vault.name(), &epoch] };
        let read = Call { sql: &RECORD_STATES, values: &[&id, &ids] };
        let (vaults, records) =
            lock_and_read(&self.connection, self.deadline, self.lock_timeout, lock, read).await?;
        let vault = vaults.first().ok_or_else(|| fault("the vault's row is missing"))?;
        let vault = rows::vault(vault, 0)?;
        let records = records.iter().map(|row| rows::record(row, 0)).collect::<Result<_, _>>()?;
        let existed = vault.clock != VaultState::BEFORE_ALL;
        Ok(LockedVault { vault: existed.then_some(vault), records })
    }

    async fn count_vaults(&self) -> Result<usize, DbError> {
        let id = uuid(self.vault.id());
        let values: [&(dyn ToSql + Sync); 3] = [&self.vault.issuer(), &self.vault.subject(), &id];
        let rows = self.connection.read(&COUNT_VAULTS, &values, self.deadline).await?;
        let count: i64 = column(rows.first().ok_or_else(|| fault("a count is missing"))?, 0)?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Waits until the replicas have what the vault's row and records showed. They may not: the wait of
    /// that commit may have been cancelled, or cut short by a restart of the database.
    async fn confirm(&self) -> Result<(), DbError> {
        confirm(&self.connection, uuid(self.vault.id()), self.deadline).await
    }

    /// Reads the conflicting records under the lock, then ends the transaction.
    async fn read_conflicts(&self, conflicts: &Conflicts<'_>) -> Result<Refused, DbError> {
        let ids: Vec<_> = conflicts.record_ids.iter().map(|id| id.as_str()).collect();
        let id = uuid(self.vault.id());
        let of = |error: Error| DbError::of(&error);
        let round_trip = async {
            let ready = self.connection.prepare(&CONFLICTS).await.map_err(of)?;
            let values: [&(dyn ToSql + Sync); 2] = [&id, &ids];
            let read = self.connection.rows(&ready, &values).map_err(of);
            let ended = roll_back_and_ask(&self.connection, self.deadline);
            tokio::try_join!(biased; read, ended)
        };
        let (rows, waits) =
            with_deadline(self.deadline, DbError::ConnectionLost, round_trip).await?;
        if waits {
            self.confirm().await?;
        }
        let mut read = HashMap::with_capacity(rows.len());
        for row in rows {
            let conflict = rows::conflict(&row)?;
            read.insert(conflict.record_id.clone(), conflict);
        }
        let records = conflicts.record_ids.iter().enumerate().map(|(index, id)| {
            let found = read.remove(*id).unwrap_or_else(|| Conflict::with_nothing((*id).clone()));
            Conflict { guard: index < conflicts.guards, ..found }
        });
        Ok(Refused { conflicts: records.collect(), has_more: conflicts.has_more })
    }

    async fn write(&self, writes: Writes<'_>, is_erased: bool) -> Result<PushResult, DbError> {
        let mut columns = RecordColumns::default();
        columns.add(&writes.records);
        let id = uuid(self.vault.id());
        let written_at = self.context.now.as_millis();
        let records = record_writes::split(&id, &written_at, &columns);
        let records = records.iter().map(|write| Write {
            call: Call { sql: write.sql, values: &write.values },
            rows: write.rows as u64,
        });
        let kept = &columns.kept;
        let keep_values: [&(dyn ToSql + Sync); 4] =
            [&id, &written_at, &kept.ids, &kept.replaced_at];
        let keep = Call { sql: &record_writes::KEEP, values: &keep_values };
        let keep = Write { call: keep, rows: kept.ids.len() as u64 };
        let VaultState { clock, receipts, history_bytes, .. } = &writes.vault;
        let (clock, receipts) = (clock.as_millis(), receipts.as_bytes());
        let [live_records, record_rows, bytes] = rows::counter_values(writes.vault.counters);
        let values: [&(dyn ToSql + Sync); 7] =
            [&id, &clock, &receipts, &live_records, &record_rows, &bytes, history_bytes];
        let vault = Write { call: Call { sql: &UPDATE_VAULT, values: &values }, rows: 1 };
        let epoch = Uuid::from_bytes(*writes.vault.epoch.as_bytes());
        let (issuer, subject, name) =
            (self.vault.issuer(), self.vault.subject(), self.vault.name());
        let anew: [&(dyn ToSql + Sync); 5] = [&id, &issuer, &subject, &name, &epoch];
        let anew = Call { sql: &BEGIN_ANEW, values: &anew };
        let anew = is_erased.then_some(Write { call: anew, rows: 1 });
        let statements: Vec<_> =
            anew.into_iter().chain([keep]).chain(records).chain([vault]).collect();
        write_and_commit(&self.connection, self.deadline, &statements).await?;
        Ok(PushResult::written(writes))
    }
}

impl PushResult {
    /// The result of a push whose writes are committed.
    pub(super) fn written(writes: Writes<'_>) -> Self {
        let (clock, wrote) = (Some(writes.vault.clock), writes.head_change.is_some());
        Self { outcome: writes.into_outcome(), clock, wrote }
    }
}
