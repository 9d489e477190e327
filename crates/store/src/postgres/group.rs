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
    connect::{Connection, Sql, begin, flight},
    failure::Failure,
    push::{Attempt, Found, Judgement},
    rows::{self, Rows, column, uuid},
};
use crate::{
    PushOutcome,
    push::{first_free, written},
    receipts::BatchDigest,
};

/// Locks those of the vaults that are there and that nobody else has locked. Nobody is waited for, so that
/// there is no order in which two groups could wait for each other.
pub(super) const LOCK_EACH: Sql = Sql {
    text: "select v.* from unnest($1::uuid[]) as x (vault_id) cross join lateral (
             select vault_id, clock, epoch, receipts from vaults
             where vault_id = x.vault_id for no key update skip locked
           ) v",
    types: &[Type::UUID_ARRAY],
};

/// As [`HEADS`](super::push::HEADS), of records of several vaults.
pub(super) const HEADS_EACH: Sql = Sql {
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

macro_rules! insert_each {
    () => {
        "insert into records as r
           (vault_id, record_id, version, deleted, ciphertext, updated_at)
         select * from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bool[], $5::bytea[], $6::bigint[])"
    };
}

const WRITTEN_EACH: &[Type] = &[
    Type::UUID_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT8_ARRAY,
    Type::BOOL_ARRAY,
    Type::BYTEA_ARRAY,
    Type::INT8_ARRAY,
];

/// As [`INSERT`](super::push::INSERT), of records of several vaults.
pub(super) const INSERT_EACH: Sql = Sql { text: insert_each!(), types: WRITTEN_EACH };

/// As [`WRITE`](super::push::WRITE), of records of several vaults.
pub(super) const WRITE_EACH: Sql =
    Sql { text: concat!(insert_each!(), rows::on_conflict_update!()), types: WRITTEN_EACH };

pub(super) const SAVE_EACH: Sql = Sql {
    text: "update vaults v set clock = x.clock, receipts = x.receipts
           from unnest($1::uuid[], $2::bigint[], $3::bytea[]) as x (vault_id, clock, receipts)
           where v.vault_id = x.vault_id",
    types: &[Type::UUID_ARRAY, Type::INT8_ARRAY, Type::BYTEA_ARRAY],
};

/// Pushes of different vaults on one connection.
pub(super) struct Group<'a> {
    pub(super) connection: Connection,
    pub(super) jobs: &'a [&'a Job],
    pub(super) deadline: Instant,
}

/// What is to be written of the whole group.
#[derive(Default)]
struct Writing<'a> {
    /// The vault of each row.
    vaults: Vec<Uuid>,
    rows: Rows<'a>,
    saves: Saves,
    /// By each job's place in the group.
    attempts: Vec<Option<Attempt>>,
}

/// What the vaults are to keep, column by column.
#[derive(Default)]
struct Saves {
    vaults: Vec<Uuid>,
    clocks: Vec<i64>,
    receipts: Vec<Vec<u8>>,
}

impl Group<'_> {
    /// Writes what can be; `None` for each push that is to go alone.
    pub(super) async fn run(self) -> Result<Vec<Option<Attempt>>, Failure> {
        let found = flight(self.deadline, Failure::Broken, self.look()).await?;
        let writing = self.judge(found);
        if writing.saves.vaults.is_empty() {
            let rolled_back = async {
                let sent = self.connection.send("rollback").await;
                sent.map_err(|error| Failure::of(&error))
            };
            flight(self.deadline, Failure::Broken, rolled_back).await?;
        } else {
            self.write(&writing).await?;
        }
        let attempts = writing.attempts;
        self.connection.keep();
        Ok(attempts)
    }

    /// The first flight: begins, locks, reads. The vaults that it locked, as they stand.
    async fn look(&self) -> Result<HashMap<Uuid, Found>, Failure> {
        let of = |error: Error| Failure::of(&error);
        let connection = &self.connection;
        let ready =
            tokio::try_join!(biased; connection.ready(&LOCK_EACH), connection.ready(&HEADS_EACH));
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
    fn judge(&self, mut found: HashMap<Uuid, Found>) -> Writing<'_> {
        let mut writing = Writing::default();
        for job in self.jobs {
            let attempt =
                found.remove(&uuid(job.vault.id())).and_then(|found| writing.add(job, found));
            writing.attempts.push(attempt);
        }
        writing
    }

    /// The second flight: writes, remembers, commits.
    async fn write(&self, writing: &Writing<'_>) -> Result<(), Failure> {
        let connection = &self.connection;
        let ready = async {
            let write = if writing.rows.are_new() { &INSERT_EACH } else { &WRITE_EACH };
            let (write, save) = (connection.ready(write), connection.ready(&SAVE_EACH));
            let ready = tokio::try_join!(biased; write, save);
            ready.map_err(|error| Failure::of(&error))
        };
        let (write, save) = flight(self.deadline, Failure::Broken, ready).await?;
        let Rows { ids, versions, deleted, ciphertexts, updated_at } = &writing.rows;
        let write_values: [&(dyn ToSql + Sync); 6] =
            [&writing.vaults, ids, versions, deleted, ciphertexts, updated_at];
        let Saves { vaults, clocks, receipts } = &writing.saves;
        let save_values: [&(dyn ToSql + Sync); 3] = [vaults, clocks, receipts];
        let second = async {
            let (written, saved, committed) = tokio::join!(
                biased;
                connection.execute(&write, &write_values),
                connection.execute(&save, &save_values),
                connection.send("commit"),
            );
            let written = written.map_err(|error| Failure::before_commit(&error))?;
            let saved = saved.map_err(|error| Failure::before_commit(&error))?;
            committed.map_err(|error| Failure::of_commit(&error))?;
            Ok((written, saved))
        };
        let counts = flight(self.deadline, Failure::InDoubt, second).await?;
        if counts != (ids.len() as u64, vaults.len() as u64) {
            // Committed all the same: what is there now, each finds out alone.
            let told = "the database wrote other rows than it was told to";
            return Err(Failure::InDoubt(told.to_owned()));
        }
        Ok(())
    }
}

impl<'a> Writing<'a> {
    /// Adds a push that is plainly to be written; `None` for any other.
    fn add(&mut self, job: &'a Job, found: Found) -> Option<Attempt> {
        let digest = BatchDigest::of(&job.push);
        let Judgement::Write(verdicts) = found.judge(&job.push, &digest) else {
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
        Some(Attempt { outcome, clock: Some(clock), wrote: head.is_some() })
    }
}

fn locked_vault(row: &Row) -> Result<(Uuid, Found), Failure> {
    Ok((column(row, 0)?, Found { vault: Some(rows::vault(row, 1)?), records: HashMap::new() }))
}
