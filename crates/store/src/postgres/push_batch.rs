//! One push each of several vaults, in one transaction: two round trips and one commit for all.
//!
//! A batch holds only what is plainly to be written. A push runs alone afterwards if its vault is locked
//! or new, if it conflicts, or if it is a remembered retry. So no push of a batch waits for another
//! one's vault, and a conflict or an error of one does not affect another's outcome.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;
use vaultsync_protocol::{Epoch, RecordId};

use super::{
    Job,
    connection::{Connection, Sql},
    db_error::DbError,
    push_txn::{LockedVault, PushResult},
    record_writes::on_kept_conflict,
    round_trips::{Call, Write, lock_and_read, roll_back, write_and_commit},
    rows::{self, RecordColumns, column, uuid},
};
use crate::{
    StoreOptions,
    push_plan::{PushContext, PushPlan},
};

/// Locks those of the vaults that exist and that no other transaction has locked. It waits for no lock,
/// so two batches cannot deadlock.
pub(super) const LOCK_BATCH: Sql = Sql {
    text: "select v.* from unnest($1::uuid[]) as x (vault_id) cross join lateral (
             select vault_id, clock, epoch, receipts, live_records, record_rows, bytes, history_bytes,
               purged_at, erasure
             from vaults
             where vault_id = x.vault_id and erasure = 0 for no key update skip locked
           ) v",
    types: &[Type::UUID_ARRAY],
};

/// As [`RECORD_STATES`](super::push_txn::RECORD_STATES), for records of several vaults.
pub(super) const RECORD_STATES_BATCH: Sql = Sql {
    text: concat!(
        "select x.vault_id, r.*
           from unnest($1::uuid[], $2::text[]) as x (vault_id, record_id)
           cross join lateral (
             select record_id, version, deleted, octet_length(ciphertext), ",
        rows::record_digest!(),
        ", written_at from records where vault_id = x.vault_id and record_id = x.record_id offset 0
           ) r"
    ),
    types: &[Type::UUID_ARRAY, Type::TEXT_ARRAY],
};

macro_rules! insert_batch {
    () => {
        "insert into records as r
           (vault_id, record_id, version, deleted, ciphertext, updated_at, digest, created_at, written_at)
         select vault_id, record_id, version, deleted, ciphertext, updated_at, digest, updated_at, written_at
         from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bool[], $5::bytea[], $6::bigint[],
             $7::bytea[], $8::bigint[])
           as x (vault_id, record_id, version, deleted, ciphertext, updated_at, digest, written_at)"
    };
}

const RECORD_TYPES_BATCH: &[Type] = &[
    Type::UUID_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT8_ARRAY,
    Type::BOOL_ARRAY,
    Type::BYTEA_ARRAY,
    Type::INT8_ARRAY,
    Type::BYTEA_ARRAY,
    Type::INT8_ARRAY,
];

/// Writes records that do not exist, as [`record_writes`](super::record_writes) does for one vault.
pub(super) const INSERT_BATCH: Sql = Sql { text: insert_batch!(), types: RECORD_TYPES_BATCH };

/// Writes records, existing ones included, likewise.
pub(super) const WRITE_BATCH: Sql =
    Sql { text: concat!(insert_batch!(), rows::on_conflict_update!()), types: RECORD_TYPES_BATCH };

pub(super) const UPDATE_VAULTS_BATCH: Sql = Sql {
    text: "update vaults v set clock = x.clock, receipts = x.receipts, live_records = x.live_records,
             record_rows = x.record_rows, bytes = x.bytes, history_bytes = x.history_bytes
           from unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[],
               $7::bigint[])
             as x (vault_id, clock, receipts, live_records, record_rows, bytes, history_bytes)
           where v.vault_id = x.vault_id",
    types: &[
        Type::UUID_ARRAY,
        Type::INT8_ARRAY,
        Type::BYTEA_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
    ],
};

/// As [`KEEP`](super::record_writes::KEEP), for records of several vaults.
pub(super) const KEEP_BATCH: Sql = Sql {
    text: concat!(
        "insert into revisions (vault_id, record_id, version, deleted, ciphertext, digest, updated_at,
           replaced_at, replaced_wall)
         select r.*, x.replaced_at, x.replaced_wall
         from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[])
           as x (vault_id, record_id, replaced_at, replaced_wall)
         cross join lateral (
           select vault_id, record_id, version, deleted, ciphertext, ",
        rows::record_digest!(),
        ", updated_at from records where vault_id = x.vault_id and record_id = x.record_id offset 0
         ) r",
        on_kept_conflict!()
    ),
    types: &[Type::UUID_ARRAY, Type::TEXT_ARRAY, Type::INT8_ARRAY, Type::INT8_ARRAY],
};

/// Pushes of different vaults on one connection.
pub(super) struct PushBatch<'a> {
    pub(super) connection: Connection,
    pub(super) jobs: &'a [&'a Job],
    pub(super) deadline: Instant,
    pub(super) options: StoreOptions,
}

/// What the whole batch writes.
#[derive(Default)]
struct BatchWrite<'a> {
    /// The vault of each record.
    vaults: Vec<Uuid>,
    /// The time of its push.
    written_at: Vec<i64>,
    records: RecordColumns<'a>,
    /// The vault of each kept version, and when it is replaced by the wall clock.
    kept_vaults: Vec<Uuid>,
    replaced_wall: Vec<i64>,
    updates: VaultUpdates,
    /// In the order of the jobs.
    results: Vec<Option<PushResult>>,
}

/// The vaults' new rows, by columns.
#[derive(Default)]
struct VaultUpdates {
    vaults: Vec<Uuid>,
    clocks: Vec<i64>,
    receipts: Vec<Vec<u8>>,
    live_records: Vec<Option<i64>>,
    record_rows: Vec<Option<i64>>,
    bytes: Vec<Option<i64>>,
    history_bytes: Vec<i64>,
}

impl PushBatch<'_> {
    /// Writes the pushes that plainly write, in the order of the jobs. `None` for each push that must
    /// run alone.
    pub(super) async fn run(self) -> Result<Vec<Option<PushResult>>, DbError> {
        let locked = self.lock_and_read().await?;
        let write = self.plan(locked);
        if write.updates.vaults.is_empty() {
            roll_back(&self.connection, self.deadline).await?;
        } else {
            self.write(&write).await?;
        }
        let results = write.results;
        self.connection.release();
        Ok(results)
    }

    /// The vaults that the first round trip locked.
    async fn lock_and_read(&self) -> Result<HashMap<Uuid, LockedVault>, DbError> {
        let vaults: Vec<_> = self.jobs.iter().map(|job| uuid(job.vault.id())).collect();
        let (mut owners, mut ids) = (vec![], vec![]);
        for (job, vault) in self.jobs.iter().zip(&vaults) {
            ids.extend(job.push.record_ids().map(RecordId::as_str));
            owners.resize(ids.len(), *vault);
        }
        let lock = Call { sql: &LOCK_BATCH, values: &[&vaults] };
        let read = Call { sql: &RECORD_STATES_BATCH, values: &[&owners, &ids] };
        let (locked, records) =
            lock_and_read(&self.connection, self.deadline, Duration::MAX, lock, read).await?;
        let mut locked = locked.iter().map(locked_vault).collect::<Result<HashMap<_, _>, _>>()?;
        for row in &records {
            let (id, record) = rows::record(row, 1)?;
            if let Some(vault) = locked.get_mut(&column(row, 0)?) {
                vault.records.insert(id, record);
            }
        }
        Ok(locked)
    }

    /// Plans each push with its own vault, as if it were alone.
    fn plan(&self, mut locked: HashMap<Uuid, LockedVault>) -> BatchWrite<'_> {
        let mut write = BatchWrite::default();
        for job in self.jobs {
            let vault = locked.remove(&uuid(job.vault.id()));
            let result = vault.and_then(|vault| write.add(job, vault, self.options));
            write.results.push(result);
        }
        write
    }

    async fn write(&self, write: &BatchWrite<'_>) -> Result<(), DbError> {
        let RecordColumns { ids, versions, deleted, ciphertexts, updated_at, digests, kept } =
            &write.records;
        let (owners, written_at) = (&write.vaults, &write.written_at);
        let keep = Write {
            call: Call {
                sql: &KEEP_BATCH,
                values: &[&write.kept_vaults, &kept.ids, &kept.replaced_at, &write.replaced_wall],
            },
            rows: kept.ids.len() as u64,
        };
        let VaultUpdates {
            vaults,
            clocks,
            receipts,
            live_records,
            record_rows,
            bytes,
            history_bytes,
        } = &write.updates;
        let records = Write {
            call: Call {
                sql: if write.records.are_new() { &INSERT_BATCH } else { &WRITE_BATCH },
                values: &[
                    owners,
                    ids,
                    versions,
                    deleted,
                    ciphertexts,
                    updated_at,
                    digests,
                    written_at,
                ],
            },
            rows: ids.len() as u64,
        };
        let updates = Write {
            call: Call {
                sql: &UPDATE_VAULTS_BATCH,
                values: &[
                    vaults,
                    clocks,
                    receipts,
                    live_records,
                    record_rows,
                    bytes,
                    history_bytes,
                ],
            },
            rows: vaults.len() as u64,
        };
        write_and_commit(&self.connection, self.deadline, &[keep, records, updates]).await
    }
}

impl<'a> BatchWrite<'a> {
    /// Adds a push if it plainly writes; otherwise returns `None`.
    fn add(
        &mut self,
        job: &'a Job,
        locked: LockedVault,
        options: StoreOptions,
    ) -> Option<PushResult> {
        // The vault exists, so what a new one depends on is not used.
        let new_epoch = Epoch::from_bytes([0; 16]);
        let context = PushContext { now: job.now, new_epoch, named_vaults: None, options };
        let records = rows::in_order(&job.push, &locked.records);
        let PushPlan::Write(mut writes) =
            PushPlan::decide(&job.push, locked.vault, &records, context)
        else {
            return None;
        };
        let vault = uuid(job.vault.id());
        self.records.add(&writes.records);
        self.vaults.resize(self.records.ids.len(), vault);
        self.written_at.resize(self.records.ids.len(), job.now.as_millis());
        self.kept_vaults.resize(self.records.kept.ids.len(), vault);
        self.replaced_wall.resize(self.records.kept.ids.len(), job.now.as_millis());
        self.updates.vaults.push(vault);
        self.updates.clocks.push(writes.vault.clock.as_millis());
        let [live_records, record_rows, bytes] = rows::counter_values(writes.vault.counters);
        self.updates.live_records.push(live_records);
        self.updates.record_rows.push(record_rows);
        self.updates.bytes.push(bytes);
        self.updates.history_bytes.push(writes.vault.history_bytes);
        self.updates.receipts.push(std::mem::take(&mut writes.vault.receipts).into_bytes());
        Some(PushResult::written(writes))
    }
}

fn locked_vault(row: &Row) -> Result<(Uuid, LockedVault), DbError> {
    let vault = Some(rows::vault(row, 1)?);
    Ok((column(row, 0)?, LockedVault { vault, records: HashMap::new() }))
}
