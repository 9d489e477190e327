//! A vault of the store as a client reaches it: pushes run one statement at a time, by rules that may be wrong.
//!
//! The version check of a write is the real one, so that only the code around it is at fault.

use std::sync::{Arc, Mutex};

use rand::RngExt as _;
use vaultsync_protocol::{Guard, Operation, Version};
use vaultsync_store::{RECEIPTS_MAX, RecordState, WriteDecision, check_version};
use vaultsync_testkit::{
    history::{ConflictEntry, Outcome, WriteResult},
    workload::{PullRequest, PushRequest, Service},
};

use crate::{
    rules::{Commit, Guards, Lock, Rules},
    scheduler::step,
    store::{Database, Row, VaultKey},
};

/// A push was aborted by a crash.
struct Crashed;

/// A vault in the database, as a client reaches it.
#[derive(Clone, Debug)]
pub(crate) struct NaiveService {
    database: Arc<Mutex<Database>>,
    vault: VaultKey,
}

/// What a push does not change while it runs.
#[derive(Clone, Copy)]
struct Transaction<'a> {
    vault: VaultKey,
    push: PushRequest<'a>,
    rules: Rules,
    crashes: u64,
    /// By the wall clock, in microseconds.
    began: i64,
}

impl NaiveService {
    pub(crate) fn new(database: &Arc<Mutex<Database>>, vault: VaultKey) -> Self {
        let vault = database.lock().unwrap().reached(vault);
        Self { database: Arc::clone(database), vault }
    }

    /// Runs one statement, before which other tasks may run. It is aborted if there was a crash.
    async fn statement<T>(
        &self,
        crashes: u64,
        run: impl FnOnce(&mut Database) -> T,
    ) -> Result<T, Crashed> {
        step().await;
        let mut database = self.database.lock().unwrap();
        database.simulate();
        if database.crashes == crashes { Ok(run(&mut database)) } else { Err(Crashed) }
    }

    async fn lock(
        &self,
        Transaction { vault, crashes, .. }: Transaction<'_>,
    ) -> Result<(), Crashed> {
        while !self
            .statement(crashes, |database| {
                let is_free = !database.locked.contains_key(&vault);
                database.locked.entry(vault).or_insert(crashes);
                is_free
            })
            .await?
        {}
        Ok(())
    }

    async fn transaction(&self, push: PushRequest<'_>) -> Result<Outcome, Crashed> {
        let txn = {
            let database = self.database.lock().unwrap();
            let (crashes, began, rules) = (database.crashes, database.now, database.rules);
            Transaction { vault: self.vault, push, rules, crashes, began }
        };
        let Transaction { vault, rules, crashes, .. } = txn;
        let mut failed_guards = Vec::new();
        if rules.guards == Guards::BeforeLock {
            failed_guards = self.failed_guards(txn).await?;
        }
        if rules.lock == Lock::BeforeReading {
            self.lock(txn).await?;
        }
        let is_erased =
            self.statement(crashes, |database| database.is_erased(vault, push.epoch)).await?;
        let outcome = if is_erased {
            Outcome::VaultErased
        } else if let Some(results) = self.remembered(txn).await? {
            Outcome::Acknowledged { results }
        } else {
            if rules.guards == Guards::UnderLock {
                failed_guards = self.failed_guards(txn).await?;
            }
            self.check_and_write(txn, failed_guards).await?
        };
        if rules.lock != Lock::Never {
            self.statement(crashes, |database| database.locked.remove(&vault)).await?;
        }
        Ok(outcome)
    }

    /// What the push returned before, if it has a receipt.
    async fn remembered(
        &self,
        Transaction { vault, push, rules, crashes, .. }: Transaction<'_>,
    ) -> Result<Option<Vec<WriteResult>>, Crashed> {
        self.statement(crashes, |database| {
            let vault = database.memory.entry(vault).or_default();
            let mut receipts = vault.receipts.iter();
            let receipt = receipts.find(|((operations, guards), _)| {
                operations == push.operations && guards == push.guards
            });
            receipt.filter(|_| rules.receipts).map(|(_, results)| results.clone())
        })
        .await
    }

    async fn find(
        &self,
        Transaction { vault, crashes, .. }: Transaction<'_>,
        id: &str,
    ) -> Result<Option<Row>, Crashed> {
        self.statement(crashes, |database| {
            database.memory.entry(vault).or_default().rows.get(id).cloned()
        })
        .await
    }

    async fn failed_guards(&self, txn: Transaction<'_>) -> Result<Vec<ConflictEntry>, Crashed> {
        let mut failed = Vec::new();
        for Guard { record_id, version } in txn.push.guards {
            let found = self.find(txn, record_id.as_str()).await?;
            if *version != found.as_ref().map_or(Version::NONE, |row| row.version) {
                failed.push(conflict(record_id.as_str(), found.as_ref()));
            }
        }
        Ok(failed)
    }

    async fn check_and_write(
        &self,
        txn: Transaction<'_>,
        mut conflicts: Vec<ConflictEntry>,
    ) -> Result<Outcome, Crashed> {
        let Transaction { vault, push, rules, crashes, began } = txn;
        let (mut rows, mut results, mut is_new) = (Vec::new(), Vec::new(), false);
        for operation in push.operations {
            let found = self.find(txn, operation.record_id.as_str()).await?;
            let decision = decide(operation, found.as_ref());
            is_new |= !matches!(decision, WriteDecision::AlreadyApplied(_));
            match decision {
                WriteDecision::Conflict => {
                    conflicts.push(conflict(operation.record_id.as_str(), found.as_ref()));
                }
                WriteDecision::AlreadyApplied(version) => results.push(result(operation, version)),
                WriteDecision::Apply(version) => {
                    results.push(result(operation, version));
                    let mut row = Row { operation: operation.clone(), version, at: 0 };
                    if rules.commit == Commit::EachWrite {
                        self.statement(crashes, |database| {
                            row.at = database.times(vault, 1, began)[0];
                            database.write(vault, std::slice::from_ref(&row));
                        })
                        .await?;
                    } else {
                        rows.push(row);
                    }
                }
            }
        }
        if rules.lock == Lock::AfterReading {
            self.lock(txn).await?;
        }
        // Guards are not checked if the records hold all writes already.
        if is_new && !conflicts.is_empty() {
            return Ok(Outcome::Conflict { conflicts });
        }
        let times =
            self.statement(crashes, |database| database.times(vault, rows.len(), began)).await?;
        for (row, at) in rows.iter_mut().zip(times) {
            row.at = at;
        }
        self.statement(crashes, |database| {
            let receipts = &mut database.memory.entry(vault).or_default().receipts;
            let batch = (push.operations.to_vec(), push.guards.to_vec());
            receipts.push((batch, results.clone()));
            let over = receipts.len().saturating_sub(RECEIPTS_MAX);
            receipts.drain(..over);
            database.write(vault, &rows);
        })
        .await?;
        Ok(Outcome::Acknowledged { results })
    }
}

impl Service for NaiveService {
    async fn push(&mut self, push: PushRequest<'_>) -> Result<Outcome, String> {
        let outcome = self.transaction(push).await.unwrap_or(Outcome::Unknown);
        step().await;
        let mut database = self.database.lock().unwrap();
        // Any response may be lost.
        Ok(if database.random.random_ratio(1, 20) { Outcome::Unknown } else { outcome })
    }

    async fn pull(&mut self, pull: PullRequest<'_>) -> Result<Outcome, String> {
        step().await;
        let outcome = {
            let mut database = self.database.lock().unwrap();
            if database.is_erased(self.vault, pull.epoch) {
                Outcome::VaultErased
            } else {
                database.page(self.vault, pull.cursor, pull.limit)
            }
        };
        step().await;
        Ok(outcome)
    }

    /// One statement, which waits for the lock of a push.
    async fn erase(&mut self, epoch: &str) -> Result<Outcome, String> {
        loop {
            step().await;
            let mut database = self.database.lock().unwrap();
            if !database.locked.contains_key(&self.vault) {
                database.erase(self.vault, epoch);
                break;
            }
            // Time passes, and a crash releases the lock.
            database.simulate();
        }
        step().await;
        Ok(Outcome::Erased)
    }

    async fn pause(&mut self) {
        step().await;
    }
}

fn conflict(id: &str, found: Option<&Row>) -> ConflictEntry {
    found.map_or_else(|| ConflictEntry::Missing(id.into()), |row| ConflictEntry::Record(row.view()))
}

fn decide(operation: &Operation, found: Option<&Row>) -> WriteDecision {
    let state =
        found.map(|row| RecordState { version: row.version, deleted: row.operation.deleted });
    check_version(operation, state, false, || {
        found.is_some_and(|row| row.operation.ciphertext == operation.ciphertext)
    })
}

fn result(operation: &Operation, version: Version) -> WriteResult {
    WriteResult {
        record_id: operation.record_id.as_str().into(),
        version: version.get().unsigned_abs(),
        updated_at: None,
    }
}
