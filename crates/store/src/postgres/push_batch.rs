//! One push each of several vaults, in one transaction: two flights and one commit for all of them.
//!
//! Only what is plainly to be written is written here. A push that stands in anything's way, or that
//! something stands in the way of, is left to go alone: so none of a group ever waits for another one's
//! vault, and a conflict or a fault of one touches no other.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use tokio_postgres::{
    Error, Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    Job,
    connect::{Connection, Sql, begin, with_deadline},
    db_error::DbError,
    push_txn::{LockedVault, PushPlan, PushResult},
    rows::{self, Rows, column, uuid},
};
use crate::{
    PushOutcome,
    push::{first_free, written},
    receipts::BatchDigest,
};

/// Locks those of the vaults that are there and that nobody else has locked. Nobody is waited for, so that
/// there is no order in which two groups could wait for each other.
pub(super) const LOCK_BATCH: Sql = Sql {
    text: "select v.* from unnest($1::uuid[]) as x (vault_id) cross join lateral (
             select vault_id, clock, epoch, receipts from vaults
             where vault_id = x.vault_id for no key update skip locked
           ) v",
    types: &[Type::UUID_ARRAY],
};

/// As [`RECORD_STATES`](super::push_txn::RECORD_STATES), of records of several vaults.
pub(super) const RECORD_STATES_BATCH: Sql = Sql {
    text: "select x.vault_id, r.*
           from unnest($1::uuid[], $2::text[], $3::bigint[], $4::int[])
             as x (vault_id, record_id, version, bytes)
           cross join lateral (
             select record_id, version, deleted, octet_length(ciphertext),
               case when version = x.version and octet_length(ciphertext) = x.bytes
                 then sha256(ciphertext) end
             from records where vault_id = x.vault_id and record_id = x.record_id offset 0
           ) r",
    types: &[Type::UUID_ARRAY, Type::TEXT_ARRAY, Type::INT8_ARRAY, Type::INT4_ARRAY],
};

macro_rules! insert_batch {
    () => {
        "insert into records as r
           (vault_id, record_id, version, deleted, ciphertext, updated_at)
         select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bool[], $5::bytea[], $6::bigint[])"
    };
}

const WRITTEN_BATCH: &[Type] = &[
    Type::UUID_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT8_ARRAY,
    Type::BOOL_ARRAY,
    Type::BYTEA_ARRAY,
    Type::INT8_ARRAY,
];

/// As [`INSERT`](super::push_txn::INSERT), of records of several vaults.
pub(super) const INSERT_BATCH: Sql = Sql { text: insert_batch!(), types: WRITTEN_BATCH };

/// As [`WRITE`](super::push_txn::WRITE), of records of several vaults.
pub(super) const WRITE_BATCH: Sql =
    Sql { text: concat!(insert_batch!(), rows::on_conflict_update!()), types: WRITTEN_BATCH };

pub(super) const SAVE_BATCH: Sql = Sql {
    text: "update vaults v set clock = x.clock, receipts = x.receipts
           from unnest($1::uuid[], $2::bigint[], $3::bytea[]) as x (vault_id, clock, receipts)
           where v.vault_id = x.vault_id",
    types: &[Type::UUID_ARRAY, Type::INT8_ARRAY, Type::BYTEA_ARRAY],
};

/// Pushes of different vaults on one connection.
pub(super) struct PushBatch<'a> {
    pub(super) connection: Connection,
    pub(super) jobs: &'a [&'a Job],
    pub(super) deadline: Instant,
}

/// What is to be written of the whole group.
#[derive(Default)]
struct BatchWrite<'a> {
    /// The vault of each row.
    vaults: Vec<Uuid>,
    rows: Rows<'a>,
    saves: VaultUpdates,
    /// By each job's place in the group.
    attempts: Vec<Option<PushResult>>,
}

/// What the vaults are to keep, column by column.
#[derive(Default)]
struct VaultUpdates {
    vaults: Vec<Uuid>,
    clocks: Vec<i64>,
    receipts: Vec<Vec<u8>>,
}

impl PushBatch<'_> {
    /// Writes what can be; `None` for each push that is to go alone.
    pub(super) async fn run(self) -> Result<Vec<Option<PushResult>>, DbError> {
        let found = with_deadline(self.deadline, DbError::ConnectionLost, self.look()).await?;
        let writing = self.plan(found);
        if writing.saves.vaults.is_empty() {
            let rolled_back = async {
                let sent = self.connection.send("rollback").await;
                sent.map_err(|error| DbError::of(&error))
            };
            with_deadline(self.deadline, DbError::ConnectionLost, rolled_back).await?;
        } else {
            self.write(&writing).await?;
        }
        let attempts = writing.attempts;
        self.connection.release();
        Ok(attempts)
    }

    /// The first flight: begins, locks, reads. The vaults that it locked, as they stand.
    async fn look(&self) -> Result<HashMap<Uuid, LockedVault>, DbError> {
        let of = |error: Error| DbError::of(&error);
        let connection = &self.connection;
        let ready = tokio::try_join!(biased; connection.ready(&LOCK_BATCH), connection.ready(&RECORD_STATES_BATCH));
        let (lock, heads) = ready.map_err(of)?;
        let vaults: Vec<_> = self.jobs.iter().map(|job| uuid(job.vault.id())).collect();
        let (mut owners, mut ids, mut next, mut lengths) = (vec![], vec![], vec![], vec![]);
        for (job, vault) in self.jobs.iter().zip(&vaults) {
            for operation in job.push.operations() {
                owners.push(*vault);
                ids.push(operation.record_id.as_str());
                next.push(operation.next_version().get());
                lengths.push(rows::length(&operation.ciphertext));
            }
        }
        let lock_values: [&(dyn ToSql + Sync); 1] = [&vaults];
        let heads_values: [&(dyn ToSql + Sync); 4] = [&owners, &ids, &next, &lengths];
        let first = begin(self.deadline, Duration::MAX);
        let (begun, locked, records) = tokio::join!(
            biased;
            connection.send(&first),
            connection.rows(&lock, &lock_values),
            connection.rows(&heads, &heads_values),
        );
        begun.map_err(of)?;
        let locked = locked.map_err(of)?;
        let mut found = locked.iter().map(locked_vault).collect::<Result<HashMap<_, _>, _>>()?;
        for row in &records.map_err(of)? {
            let (id, record) = rows::record(row, 1)?;
            if let Some(found) = found.get_mut(&column(row, 0)?) {
                found.records.insert(id, record);
            }
        }
        Ok(found)
    }

    /// Judges each push by its own vault, as if it were alone.
    fn plan(&self, mut found: HashMap<Uuid, LockedVault>) -> BatchWrite<'_> {
        let mut writing = BatchWrite::default();
        for job in self.jobs {
            let attempt =
                found.remove(&uuid(job.vault.id())).and_then(|found| writing.add(job, found));
            writing.attempts.push(attempt);
        }
        writing
    }

    /// The second flight: writes, remembers, commits.
    async fn write(&self, writing: &BatchWrite<'_>) -> Result<(), DbError> {
        let connection = &self.connection;
        let ready = async {
            let write = if writing.rows.are_new() { &INSERT_BATCH } else { &WRITE_BATCH };
            let (write, save) = (connection.ready(write), connection.ready(&SAVE_BATCH));
            let ready = tokio::try_join!(biased; write, save);
            ready.map_err(|error| DbError::of(&error))
        };
        let (write, save) = with_deadline(self.deadline, DbError::ConnectionLost, ready).await?;
        let Rows { ids, versions, deleted, ciphertexts, updated_at } = &writing.rows;
        let write_values: [&(dyn ToSql + Sync); 6] =
            [&writing.vaults, ids, versions, deleted, ciphertexts, updated_at];
        let VaultUpdates { vaults, clocks, receipts } = &writing.saves;
        let save_values: [&(dyn ToSql + Sync); 3] = [vaults, clocks, receipts];
        let second = async {
            let (written, saved, committed) = tokio::join!(
                biased;
                connection.execute(&write, &write_values),
                connection.execute(&save, &save_values),
                connection.send("commit"),
            );
            let written = written.map_err(|error| DbError::before_commit(&error))?;
            let saved = saved.map_err(|error| DbError::before_commit(&error))?;
            committed.map_err(|error| DbError::of_commit(&error))?;
            Ok((written, saved))
        };
        let counts = with_deadline(self.deadline, DbError::InDoubt, second).await?;
        if counts != (ids.len() as u64, vaults.len() as u64) {
            // Committed all the same: what is there now, each finds out alone.
            let told = "the database wrote other rows than it was told to";
            return Err(DbError::InDoubt(told.to_owned()));
        }
        Ok(())
    }
}

impl<'a> BatchWrite<'a> {
    /// Adds a push that is plainly to be written; `None` for any other.
    fn add(&mut self, job: &'a Job, found: LockedVault) -> Option<PushResult> {
        let digest = BatchDigest::of(&job.push);
        let PushPlan::Write(verdicts) = found.plan(&job.push, &digest) else {
            return None;
        };
        let vault = found.vault?;
        let mut receipts = vault.receipts;
        receipts.remember(&digest, &verdicts);
        let head = self.rows.add(&job.push, &verdicts, first_free(job.now, vault.clock));
        let id = uuid(job.vault.id());
        self.vaults.resize(self.rows.ids.len(), id);
        let clock = head.unwrap_or(vault.clock);
        self.saves.vaults.push(id);
        self.saves.clocks.push(clock.as_millis());
        self.saves.receipts.push(receipts.into_bytes());
        let outcome = PushOutcome::Applied(written(&job.push, &verdicts));
        Some(PushResult { outcome, clock: Some(clock), wrote: head.is_some() })
    }
}

fn locked_vault(row: &Row) -> Result<(Uuid, LockedVault), DbError> {
    Ok((
        column(row, 0)?,
        LockedVault { vault: Some(rows::vault(row, 1)?), records: HashMap::new() },
    ))
}
