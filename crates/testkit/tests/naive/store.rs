//! An in-memory store that runs one statement at a time, by rules that may be wrong.
//!
//! The version check of a write is the real one, so that only the code around it is at fault.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use vaultsync_protocol::{Operation, Version};
use vaultsync_store::{RECEIPTS_MAX, RecordState, WriteDecision, check_version};
use vaultsync_testkit::{
    history::{ConflictEntry, Digest, Outcome, RecordView, WriteResult},
    workload::Service,
};

use crate::{
    rules::{Commit, Lock, Rules, Times},
    scheduler::step,
};

/// A database that may crash, and a wall clock that may step back.
#[derive(Debug)]
pub(crate) struct Database {
    rules: Rules,
    random: StdRng,
    memory: Vaults,
    disk: Vaults,
    locked: HashMap<usize, u64>,
    /// Microseconds.
    now: i64,
    /// Number of crashes so far. Pushes that began before a crash are aborted.
    crashes: u64,
}

type Vaults = BTreeMap<usize, Vault>;

#[derive(Clone, Debug, Default)]
struct Vault {
    rows: BTreeMap<String, Row>,
    /// Milliseconds.
    clock: i64,
    receipts: Vec<(Vec<Operation>, Vec<WriteResult>)>,
}

#[derive(Clone, Debug)]
struct Row {
    operation: Operation,
    version: Version,
    /// Microseconds.
    at: i64,
}

/// A push was aborted by a crash.
struct Crashed;

/// A user's vault in the database, as a client reaches it.
#[derive(Clone, Debug)]
pub(crate) struct NaiveService {
    database: Arc<Mutex<Database>>,
    user: usize,
}

impl Database {
    pub(crate) fn new(rules: Rules, seed: u64) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            rules,
            random: StdRng::seed_from_u64(seed),
            memory: Vaults::new(),
            disk: Vaults::new(),
            locked: HashMap::new(),
            now: 1_000_000_000,
            crashes: 0,
        }))
    }

    /// Simulates the environment: time passes, sometimes backwards, the memory is synced to disk at some
    /// time, and sometimes there is a crash.
    pub(crate) fn simulate(&mut self) {
        self.now += self.random.random_range(1..700);
        match self.random.random_range(0..1000) {
            0 => {
                self.memory = self.disk.clone();
                self.locked.clear();
                self.crashes += 1;
            }
            1..6 => self.now -= self.random.random_range(0..50_000),
            6..20 => self.disk = self.memory.clone(),
            _ => {}
        }
    }

    /// The records of a vault, in the order of their times.
    pub(crate) fn state(&self, user: usize) -> Vec<RecordView> {
        let rows = self.memory.get(&user).map(|vault| vault.rows.values()).into_iter().flatten();
        let mut records: Vec<_> = rows.map(Row::view).collect();
        records.sort_by_key(|record| record.updated_at);
        records
    }

    /// A page, read in one statement.
    fn page(&mut self, user: usize, cursor: Option<i64>, limit: usize) -> Outcome {
        self.simulate();
        let filters = self.rules.pulls_filter_by_user;
        let vaults = self.memory.iter().filter(|(of, _)| !filters || **of == user);
        let after = cursor.map_or(i64::MIN, |millis| millis * 1000);
        let rows = vaults.flat_map(|(_, vault)| vault.rows.values());
        let mut rows: Vec<_> = rows.filter(|row| row.at > after).collect();
        rows.sort_by_key(|row| row.at);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let records: Vec<_> = rows.into_iter().map(Row::view).collect();
        let next_cursor = records.last().map(|last| last.updated_at);
        Outcome::Page { records, next_cursor, has_more }
    }

    /// The times of the records of a push that began at `began`, all in microseconds.
    fn times(&mut self, user: usize, count: usize, began: i64) -> Vec<i64> {
        let millis = self.now / 1000;
        let vault = self.memory.entry(user).or_default();
        let each = |first: i64| (first..).take(count).map(|millis| millis * 1000).collect();
        match self.rules.times {
            Times::Clock => {
                let first = millis.max(vault.clock + 1);
                vault.clock = first + i64::try_from(count).unwrap() - 1;
                each(first)
            }
            Times::Now => each(millis),
            Times::Transaction => vec![began / 1000 * 1000; count],
            Times::Micros => {
                // The database's clock always advances, so that only the cursor is at fault.
                vault.clock = vault.clock.max(self.now);
                let first = vault.clock + 1;
                vault.clock += i64::try_from(count).unwrap();
                (first..).take(count).collect()
            }
        }
    }

    fn write(&mut self, user: usize, rows: &[Row]) {
        let vault = self.memory.entry(user).or_default();
        for row in rows {
            vault.rows.insert(row.operation.record_id.as_str().to_owned(), row.clone());
        }
        if self.rules.commit != Commit::AfterResponse {
            self.disk = self.memory.clone();
        }
    }
}

impl NaiveService {
    pub(crate) fn new(database: &Arc<Mutex<Database>>, user: usize) -> Self {
        Self { database: Arc::clone(database), user }
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

    async fn lock(&self, crashes: u64) -> Result<(), Crashed> {
        let user = self.user;
        while !self
            .statement(crashes, |database| {
                let is_free = !database.locked.contains_key(&user);
                database.locked.entry(user).or_insert(crashes);
                is_free
            })
            .await?
        {}
        Ok(())
    }

    async fn transaction(&self, operations: &[Operation]) -> Result<Outcome, Crashed> {
        let (user, database) = (self.user, &self.database);
        let (crashes, began, rules) = {
            let database = database.lock().unwrap();
            (database.crashes, database.now, database.rules)
        };
        if rules.lock == Lock::BeforeReading {
            self.lock(crashes).await?;
        }
        let receipt = self
            .statement(crashes, |database| {
                let vault = database.memory.entry(user).or_default();
                let receipt = vault.receipts.iter().find(|(before, _)| before == operations);
                receipt.filter(|_| rules.receipts).map(|(_, results)| results.clone())
            })
            .await?;
        let outcome = match receipt {
            Some(results) => Outcome::Acknowledged { results },
            None => self.check_and_write(crashes, began, rules, operations).await?,
        };
        if rules.lock != Lock::Never {
            self.statement(crashes, |database| database.locked.remove(&user)).await?;
        }
        Ok(outcome)
    }

    async fn check_and_write(
        &self,
        crashes: u64,
        began: i64,
        rules: Rules,
        operations: &[Operation],
    ) -> Result<Outcome, Crashed> {
        let user = self.user;
        let (mut rows, mut conflicts, mut results) = (Vec::new(), Vec::new(), Vec::new());
        for operation in operations {
            let found = self
                .statement(crashes, |database| {
                    let vault = database.memory.entry(user).or_default();
                    vault.rows.get(operation.record_id.as_str()).cloned()
                })
                .await?;
            match decide(operation, found.as_ref()) {
                WriteDecision::Conflict => {
                    let missing = || ConflictEntry::Missing(operation.record_id.as_str().into());
                    let record = found.as_ref().map(Row::view);
                    conflicts.push(record.map_or_else(missing, ConflictEntry::Record));
                }
                WriteDecision::AlreadyApplied(version) => results.push(result(operation, version)),
                WriteDecision::Apply(version) => {
                    results.push(result(operation, version));
                    let mut row = Row { operation: operation.clone(), version, at: 0 };
                    if rules.commit == Commit::EachWrite {
                        self.statement(crashes, |database| {
                            row.at = database.times(user, 1, began)[0];
                            database.write(user, std::slice::from_ref(&row));
                        })
                        .await?;
                    } else {
                        rows.push(row);
                    }
                }
            }
        }
        if rules.lock == Lock::AfterReading {
            self.lock(crashes).await?;
        }
        if !conflicts.is_empty() {
            return Ok(Outcome::Conflict { conflicts });
        }
        let times =
            self.statement(crashes, |database| database.times(user, rows.len(), began)).await?;
        for (row, at) in rows.iter_mut().zip(times) {
            row.at = at;
        }
        self.statement(crashes, |database| {
            let vault = database.memory.entry(user).or_default();
            vault.receipts.push((operations.to_vec(), results.clone()));
            let over = vault.receipts.len().saturating_sub(RECEIPTS_MAX);
            vault.receipts.drain(..over);
            database.write(user, &rows);
        })
        .await?;
        Ok(Outcome::Acknowledged { results })
    }
}

impl Service for NaiveService {
    async fn push(&mut self, operations: &[Operation]) -> Result<Outcome, String> {
        let outcome = self.transaction(operations).await.unwrap_or(Outcome::Unknown);
        step().await;
        let mut database = self.database.lock().unwrap();
        // Any response may be lost.
        Ok(if database.random.random_ratio(1, 20) { Outcome::Unknown } else { outcome })
    }

    async fn pull(
        &mut self,
        cursor: Option<i64>,
        limit: usize,
        _: bool,
    ) -> Result<Outcome, String> {
        step().await;
        let page = self.database.lock().unwrap().page(self.user, cursor, limit);
        step().await;
        Ok(page)
    }

    async fn pause(&mut self) {
        step().await;
    }
}

impl Row {
    fn view(&self) -> RecordView {
        RecordView {
            record_id: self.operation.record_id.as_str().into(),
            version: self.version.get().unsigned_abs(),
            digest: Digest::of(self.operation.ciphertext.as_bytes()),
            deleted: self.operation.deleted,
            updated_at: self.at.div_euclid(1000),
        }
    }
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
