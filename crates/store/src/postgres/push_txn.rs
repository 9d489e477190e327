//! One push: two flights, the vault's row locked from the first to the end of the second.
//!
//! The lock is a statement of its own. One that locks and reads in one goes by what it saw before it
//! had the lock.

use std::{collections::HashMap, time::Duration};

use futures_util::TryFutureExt as _;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_postgres::{
    Error,
    types::{ToSql, Type},
};
use uuid::Uuid;
use vaultsync_protocol::{Conflict, Operation, Push, RecordId, Timestamp, Written};

use super::{
    connect::{Connection, Sql, StatementRef, begin, with_deadline},
    db_error::DbError,
    rows::{self, RecordRow, Rows, VaultRow, fault, uuid},
};
use crate::{
    PushOutcome, RecordState, Refused, StoreOptions, Vault, WriteDecision, check_remembered,
    check_version,
    push::{first_free, written},
    receipts::{BatchDigest, Receipts},
};

/// Locks the vault's row, and makes it where there is none, with a clock that no push leaves behind.
pub(super) const LOCK: Sql = Sql {
    text: "insert into vaults as v (vault_id, issuer, subject, clock, epoch)
           values ($1, $2, $3, -9223372036854775808, $4)
           on conflict (vault_id) do update set clock = v.clock
           returning v.clock, v.epoch, v.receipts",
    types: &[Type::UUID, Type::TEXT, Type::TEXT, Type::UUID],
};

/// What the judgement must know of the records. A ciphertext stays where it is: its digest tells
/// whether it is the one that is pushed, and is made only where version and length say that it may be.
///
/// One look-up by the whole key for each record: with `record_id = any($2)`, a plan made while the table
/// was small went by `vault_id` alone and read the vault whole at each push, 7 times the cost at 900
/// records and more with each. `offset 0` keeps the look-up from being merged into such a plan.
pub(super) const RECORD_STATES: Sql = Sql {
    text: "select r.* from unnest($2::text[]) as x (record_id) cross join lateral (
             select record_id, version, deleted, octet_length(ciphertext),
               case when version = any($3) and octet_length(ciphertext) = any($4)
                 then sha256(ciphertext) end
             from records where vault_id = $1 and record_id = x.record_id offset 0
           ) r",
    types: &[Type::UUID, Type::TEXT_ARRAY, Type::INT8_ARRAY, Type::INT4_ARRAY],
};

pub(super) const CONFLICTS: Sql = Sql {
    text: "select r.* from unnest($2::text[]) as x (record_id) cross join lateral (
             select record_id, version, deleted, updated_at, ciphertext
             from records where vault_id = $1 and record_id = x.record_id offset 0
           ) r",
    types: &[Type::UUID, Type::TEXT_ARRAY],
};

/// BatchOutcome with the vault so that Citus sends it to one node whole.
macro_rules! insert {
    () => {
        "insert into records as r
           (vault_id, record_id, version, deleted, ciphertext, updated_at)
         select v.vault_id, x.record_id, x.version, x.deleted, x.ciphertext, x.updated_at
         from vaults v cross join unnest($2::text[], $3::bigint[], $4::bool[], $5::bytea[], $6::bigint[])
           as x (record_id, version, deleted, ciphertext, updated_at)
         where v.vault_id = $1"
    };
}

const WRITTEN: &[Type] = &[
    Type::UUID,
    Type::TEXT_ARRAY,
    Type::INT8_ARRAY,
    Type::BOOL_ARRAY,
    Type::BYTEA_ARRAY,
    Type::INT8_ARRAY,
];

/// Writes records that were judged to be new. Where one is there all the same, because somebody wrote
/// around the lock, its key undoes all. To look for each first, as [`WRITE`] does, takes the database a
/// quarter more.
pub(super) const INSERT: Sql = Sql { text: insert!(), types: WRITTEN };

/// Writes records of any kind. One that is not at the version judged, because somebody wrote around the
/// lock, gets version 0, and the table's check undoes all.
pub(super) const WRITE: Sql =
    Sql { text: concat!(insert!(), rows::on_conflict_update!()), types: WRITTEN };

pub(super) const SAVE: Sql = Sql {
    text: "update vaults set clock = $2, receipts = $3 where vault_id = $1",
    types: &[Type::UUID, Type::INT8, Type::BYTEA],
};

/// What an attempt came to.
pub(super) struct PushResult {
    pub(super) outcome: PushOutcome,
    /// Where the vault's clock stands, if it has one.
    pub(super) clock: Option<Timestamp>,
    /// Whether any record was written.
    pub(super) wrote: bool,
}

/// A push on a connection, with all that its statements need.
pub(super) struct PushTxn<'a> {
    pub(super) connection: Connection,
    pub(super) vault: &'a Vault,
    pub(super) push: &'a Push,
    pub(super) now: Timestamp,
    pub(super) deadline: Instant,
    /// How long it waits for whoever has locked the vault, if that is sooner than its deadline has it.
    pub(super) lock_timeout: Duration,
    pub(super) options: &'a StoreOptions,
}

/// The vault as the first flight found it, locked.
pub(super) struct LockedVault {
    /// `None`: this push made it.
    pub(super) vault: Option<VaultRow>,
    pub(super) records: HashMap<String, RecordRow>,
}

/// What is to become of a push.
pub(super) enum PushPlan {
    /// Nothing is to be written.
    Nothing(PushOutcome),
    /// Some of these verdicts are conflicts. `remembered` where the push has a receipt all the same.
    Conflict { verdicts: Vec<WriteDecision>, remembered: bool },
    /// It is to be written.
    Write(Vec<WriteDecision>),
}

impl PushTxn<'_> {
    /// Applies the push in one transaction. Where it fails, the connection is closed, and with it the
    /// transaction ends.
    pub(super) async fn run(self) -> Result<PushResult, DbError> {
        let attempt = self.attempt().await?;
        self.connection.release();
        Ok(attempt)
    }

    async fn attempt(&self) -> Result<PushResult, DbError> {
        let mut found = with_deadline(self.deadline, DbError::ConnectionLost, self.look()).await?;
        let clock = found.vault.as_ref().map(|vault| vault.clock);
        let nothing = |outcome| PushResult { outcome, clock, wrote: false };
        let digest = BatchDigest::of(self.push);
        match found.plan(self.push, &digest) {
            PushPlan::Nothing(outcome) => {
                self.roll_back().await?;
                Ok(nothing(outcome))
            }
            PushPlan::Conflict { verdicts, remembered } => {
                let forgotten = found.vault.take().filter(|_| remembered).map(|mut vault| {
                    vault.receipts.forget(&digest);
                    vault
                });
                let refused = self.refuse(&found, &verdicts, forgotten.as_ref()).await?;
                Ok(nothing(PushOutcome::Refused(refused)))
            }
            PushPlan::Write(verdicts) => self.write(found, &verdicts, &digest).await,
        }
    }

    /// The first flight: begins, locks, reads.
    async fn look(&self) -> Result<LockedVault, DbError> {
        let of = |error: Error| DbError::of(&error);
        let (connection, vault) = (&self.connection, self.vault);
        let ready =
            tokio::try_join!(biased; connection.ready(&LOCK), connection.ready(&RECORD_STATES));
        let (lock, heads) = ready.map_err(of)?;
        let (id, issuer, subject) = (uuid(vault.id()), vault.issuer(), vault.subject());
        let epoch = Uuid::from_bytes(*(self.options.new_epoch)().as_bytes());
        let operations = self.push.operations();
        let ids: Vec<_> = operations.iter().map(|one| one.record_id.as_str()).collect();
        let mut next: Vec<_> = operations.iter().map(|one| one.next_version().get()).collect();
        next.sort_unstable();
        next.dedup();
        let lengths: Vec<_> = operations.iter().map(|one| rows::length(&one.ciphertext)).collect();
        let lock_values: [&(dyn ToSql + Sync); 4] = [&id, &issuer, &subject, &epoch];
        let heads_values: [&(dyn ToSql + Sync); 4] = [&id, &ids, &next, &lengths];
        let first = begin(self.deadline, self.lock_timeout);
        let (begun, vaults, records) = tokio::join!(
            biased;
            connection.send(&first),
            connection.rows(&lock, &lock_values),
            connection.rows(&heads, &heads_values),
        );
        begun.map_err(of)?;
        let (vaults, records) = (vaults.map_err(of)?, records.map_err(of)?);
        let vault = vaults.first().ok_or_else(|| fault("the vault's row is not there"))?;
        let vault = rows::vault(vault, 0)?;
        let records = records.iter().map(|row| rows::record(row, 0)).collect::<Result<_, _>>()?;
        let was_there = vault.clock != Timestamp::from_millis(i64::MIN);
        Ok(LockedVault { vault: was_there.then_some(vault), records })
    }

    /// What stood in the way, read under the lock; then the transaction ends. With `forgotten` it
    /// keeps what the vault no longer remembers, if all of the conflicts are told.
    async fn refuse(
        &self,
        found: &LockedVault,
        verdicts: &[WriteDecision],
        forgotten: Option<&VaultRow>,
    ) -> Result<Refused, DbError> {
        let pairs = self.push.operations().iter().zip(verdicts);
        let in_the_way: Vec<_> = pairs
            .filter(|(_, verdict)| **verdict == WriteDecision::Conflict)
            .map(|(operation, _)| &operation.record_id)
            .collect();
        let told = found.how_many_fit(&in_the_way, self.options.page_bytes_max);
        let has_more = told < in_the_way.len();
        let ids: Vec<_> = in_the_way[..told].iter().map(|id| id.as_str()).collect();
        let id = uuid(self.vault.id());
        let second = async {
            let ready = tokio::try_join!(
                biased;
                self.connection.ready(&CONFLICTS),
                self.connection.ready(&SAVE),
            );
            let (conflicts, save) = ready?;
            let values: [&(dyn ToSql + Sync); 2] = [&id, &ids];
            let read = self.connection.rows(&conflicts, &values);
            if let Some(vault) = forgotten.filter(|_| !has_more) {
                let save = self.save(&save, vault.clock, &vault.receipts);
                let commit = self.connection.send("commit");
                let (rows, saved, committed) = tokio::join!(biased; read, save, commit);
                saved.and(committed).and(rows)
            } else {
                let (rows, ended) = tokio::join!(biased; read, self.connection.send("rollback"));
                ended.and(rows)
            }
        };
        let second = second.map_err(|error: Error| DbError::of(&error));
        let rows = with_deadline(self.deadline, DbError::ConnectionLost, second).await?;
        let mut conflicts = HashMap::with_capacity(rows.len());
        for row in rows {
            let conflict = rows::conflict(&row)?;
            conflicts.insert(conflict.record_id.clone(), conflict);
        }
        let conflicts = in_the_way[..told].iter().map(|id| {
            conflicts.remove(*id).unwrap_or_else(|| Conflict::with_nothing((*id).clone()))
        });
        Ok(Refused { conflicts: conflicts.collect(), has_more })
    }

    /// The second flight: writes, remembers, commits.
    async fn write(
        &self,
        found: LockedVault,
        verdicts: &[WriteDecision],
        digest: &BatchDigest,
    ) -> Result<PushResult, DbError> {
        let (clock, mut receipts) = match found.vault {
            Some(vault) => (vault.clock, vault.receipts),
            None => (Timestamp::from_millis(i64::MIN), Receipts::default()),
        };
        receipts.remember(digest, verdicts);
        let mut rows = Rows::default();
        let head = rows.add(self.push, verdicts, first_free(self.now, clock));
        let ready = async {
            let write = if rows.are_new() { &INSERT } else { &WRITE };
            let (write, save) = (self.connection.ready(write), self.connection.ready(&SAVE));
            let ready = tokio::try_join!(biased; write, save);
            ready.map_err(|error| DbError::of(&error))
        };
        let (write, save) = with_deadline(self.deadline, DbError::ConnectionLost, ready).await?;
        let clock = head.unwrap_or(clock);
        let second = async {
            let (written, saved, committed) = tokio::join!(
                biased;
                self.write_rows(&write, &rows),
                self.save(&save, clock, &receipts),
                self.connection.send("commit"),
            );
            let written = written.map_err(|error| DbError::before_commit(&error))?;
            let saved = saved.map_err(|error| DbError::before_commit(&error))?;
            committed.map_err(|error| DbError::of_commit(&error))?;
            Ok((written, saved))
        };
        let counts = with_deadline(self.deadline, DbError::InDoubt, second).await?;
        if counts != (rows.ids.len() as u64, 1) {
            // Committed all the same: what is there now, the next attempt reads.
            let told = "the database wrote other rows than it was told to";
            return Err(DbError::InDoubt(told.to_owned()));
        }
        let outcome = PushOutcome::Applied(written(self.push, verdicts));
        Ok(PushResult { outcome, clock: Some(clock), wrote: head.is_some() })
    }

    /// Ends the transaction without a trace.
    async fn roll_back(&self) -> Result<(), DbError> {
        let rolled_back = async {
            let sent = self.connection.send("rollback").await;
            sent.map_err(|error| DbError::of(&error))
        };
        with_deadline(self.deadline, DbError::ConnectionLost, rolled_back).await
    }

    async fn write_rows(&self, write: &StatementRef, rows: &Rows<'_>) -> Result<u64, Error> {
        if rows.ids.is_empty() {
            return Ok(0);
        }
        let Rows { ids, versions, deleted, ciphertexts, updated_at } = rows;
        let id = uuid(self.vault.id());
        let values: [&(dyn ToSql + Sync); 6] =
            [&id, ids, versions, deleted, ciphertexts, updated_at];
        self.connection.execute(write, &values).await
    }

    async fn save(
        &self,
        save: &StatementRef,
        clock: Timestamp,
        receipts: &Receipts,
    ) -> Result<u64, Error> {
        let id = uuid(self.vault.id());
        self.connection.execute(save, &[&id, &clock.as_millis(), &receipts.as_bytes()]).await
    }
}

impl LockedVault {
    /// What is to become of a push to this vault.
    pub(super) fn plan(&self, push: &Push, digest: &BatchDigest) -> PushPlan {
        let vault = self.vault.as_ref();
        if let Some(known) = push.epoch()
            && !vault.is_some_and(|vault| known.names(vault.epoch))
        {
            return PushPlan::Nothing(PushOutcome::EpochChanged);
        }
        if push.operations().is_empty() {
            return PushPlan::Nothing(PushOutcome::Applied(Vec::new()));
        }
        let answer = vault.and_then(|vault| vault.receipts.answer(push, digest));
        let remembered = answer.is_some();
        let verdicts = match &answer {
            Some(answer) => self.remembered_verdicts(push, answer),
            None => self.verdicts(push),
        };
        match answer {
            _ if verdicts.contains(&WriteDecision::Conflict) => {
                PushPlan::Conflict { verdicts, remembered }
            }
            Some(answer) => PushPlan::Nothing(PushOutcome::Applied(answer)),
            None => PushPlan::Write(verdicts),
        }
    }

    /// The verdicts on a batch that has a receipt with this answer.
    fn remembered_verdicts(&self, push: &Push, answer: &[Written]) -> Vec<WriteDecision> {
        let pairs = push.operations().iter().zip(answer);
        pairs
            .map(|(operation, written)| {
                check_remembered(operation, written.version, self.head(operation))
            })
            .collect()
    }

    fn verdicts(&self, push: &Push) -> Vec<WriteDecision> {
        let verdict = |operation: &Operation| {
            let holds_ciphertext = || {
                let record = self.records.get(operation.record_id.as_str());
                record.and_then(|record| record.digest.as_deref()).is_some_and(|digest| {
                    digest == &Sha256::digest(operation.ciphertext.as_bytes())[..]
                })
            };
            check_version(operation, self.head(operation), push.epoch().is_some(), holds_ciphertext)
        };
        push.operations().iter().map(verdict).collect()
    }

    fn head(&self, operation: &Operation) -> Option<RecordState> {
        self.records.get(operation.record_id.as_str()).map(|record| record.head)
    }

    /// How many of these conflicts, from the first on, fit in `bytes_max`; the first always does.
    fn how_many_fit(&self, in_the_way: &[&RecordId], bytes_max: usize) -> usize {
        let mut bytes = 0;
        let fits = in_the_way.iter().take_while(|id| {
            bytes += self.records.get(id.as_str()).map_or(0, |record| record.bytes);
            bytes <= bytes_max
        });
        fits.count().max(1)
    }
}
