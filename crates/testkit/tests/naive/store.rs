//! A store in memory that does one statement at a time, by rules that may be wrong.
//!
//! What becomes of a write is judged by the real rule, so that what goes wrong is what is around it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use vaultsync_protocol::{Operation, Version};
use vaultsync_store::{RECEIPTS_MAX, RecordState, WriteDecision, check_version};
use vaultsync_testkit::{
    history::{Digest, InTheWay, Outcome, Seen, Written},
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
    /// Counts starts. What was at work before a crash is cut off.
    start: u64,
}

type Vaults = BTreeMap<usize, Vault>;

#[derive(Clone, Debug, Default)]
struct Vault {
    rows: BTreeMap<String, Row>,
    /// Milliseconds.
    clock: i64,
    receipts: Vec<(Vec<Operation>, Vec<Written>)>,
}

#[derive(Clone, Debug)]
struct Row {
    operation: Operation,
    version: Version,
    /// Microseconds.
    at: i64,
}

/// A push was cut off by a crash.
struct CutOff;

/// A user's vault in it, as a client reaches it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
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
            start: 0,
        }))
    }

    /// What happens around the clients: time goes on, not always forward, and now and then there is
    /// a crash. What was committed in memory alone reaches the disk sometime.
    pub(crate) fn happen(&mut self) {
        self.now += self.random.random_range(1..700);
        match self.random.random_range(0..1000) {
            0 => {
                self.memory = self.disk.clone();
                self.locked.clear();
                self.start += 1;
            }
            1..6 => self.now -= self.random.random_range(0..50_000),
            6..20 => self.disk = self.memory.clone(),
            _ => {}
        }
    }

    /// What a vault holds, in the order of time.
    pub(crate) fn state(&self, user: usize) -> Vec<Seen> {
        let rows = self.memory.get(&user).map(|vault| vault.rows.values()).into_iter().flatten();
        let mut seen: Vec<_> = rows.map(Row::seen).collect();
        seen.sort_by_key(|seen| seen.updated_at);
        seen
    }

    /// A page, read in one statement.
    fn page(&mut self, user: usize, cursor: Option<i64>, limit: usize) -> Outcome {
        self.happen();
        let named = self.rules.pulls_name_the_user;
        let vaults = self.memory.iter().filter(|(of, _)| !named || **of == user);
        let after = cursor.map_or(i64::MIN, |millis| millis * 1000);
        let rows = vaults.flat_map(|(_, vault)| vault.rows.values());
        let mut rows: Vec<_> = rows.filter(|row| row.at > after).collect();
        rows.sort_by_key(|row| row.at);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let records: Vec<_> = rows.into_iter().map(Row::seen).collect();
        let next_cursor = records.last().map(|last| last.updated_at);
        Outcome::Page { records, next_cursor, has_more }
    }

    /// The microseconds of the records of a push that began at `began`.
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
                // As if the clock of the database never stood still: only the cursor is at fault.
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
        if self.rules.commit != Commit::AfterAnswer {
            self.disk = self.memory.clone();
        }
    }
}

impl Client {
    pub(crate) fn new(database: &Arc<Mutex<Database>>, user: usize) -> Self {
        Self { database: Arc::clone(database), user }
    }

    /// One statement, before which others may have their turns; cut off where there was a crash.
    async fn statement<T>(
        &self,
        start: u64,
        run: impl FnOnce(&mut Database) -> T,
    ) -> Result<T, CutOff> {
        step().await;
        let mut database = self.database.lock().unwrap();
        database.happen();
        if database.start == start { Ok(run(&mut database)) } else { Err(CutOff) }
    }

    async fn lock(&self, start: u64) -> Result<(), CutOff> {
        let user = self.user;
        while !self
            .statement(start, |database| {
                let is_free = !database.locked.contains_key(&user);
                database.locked.entry(user).or_insert(start);
                is_free
            })
            .await?
        {}
        Ok(())
    }

    async fn transaction(&self, operations: &[Operation]) -> Result<Outcome, CutOff> {
        let (user, database) = (self.user, &self.database);
        let (start, began, rules) = {
            let database = database.lock().unwrap();
            (database.start, database.now, database.rules)
        };
        if rules.lock == Lock::BeforeReading {
            self.lock(start).await?;
        }
        let answer = self
            .statement(start, |database| {
                let vault = database.memory.entry(user).or_default();
                let receipt = vault.receipts.iter().find(|(before, _)| before == operations);
                receipt.filter(|_| rules.receipts).map(|(_, answer)| answer.clone())
            })
            .await?;
        let outcome = match answer {
            Some(results) => Outcome::Acknowledged { results },
            None => self.judge_and_write(start, began, rules, operations).await?,
        };
        if rules.lock != Lock::Never {
            self.statement(start, |database| database.locked.remove(&user)).await?;
        }
        Ok(outcome)
    }

    async fn judge_and_write(
        &self,
        start: u64,
        began: i64,
        rules: Rules,
        operations: &[Operation],
    ) -> Result<Outcome, CutOff> {
        let user = self.user;
        let (mut rows, mut conflicts, mut results) = (Vec::new(), Vec::new(), Vec::new());
        for operation in operations {
            let found = self
                .statement(start, |database| {
                    let vault = database.memory.entry(user).or_default();
                    vault.rows.get(operation.record_id.as_str()).cloned()
                })
                .await?;
            match verdict(operation, found.as_ref()) {
                WriteDecision::Conflict => {
                    let nothing = || InTheWay::Nothing(operation.record_id.as_str().into());
                    let shown = found.as_ref().map(Row::seen);
                    conflicts.push(shown.map_or_else(nothing, InTheWay::Record));
                }
                WriteDecision::AlreadyApplied(version) => results.push(written(operation, version)),
                WriteDecision::Apply(version) => {
                    results.push(written(operation, version));
                    let mut row = Row { operation: operation.clone(), version, at: 0 };
                    if rules.commit == Commit::EachWrite {
                        self.statement(start, |database| {
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
            self.lock(start).await?;
        }
        if !conflicts.is_empty() {
            return Ok(Outcome::Conflict { conflicts });
        }
        let times =
            self.statement(start, |database| database.times(user, rows.len(), began)).await?;
        for (row, at) in rows.iter_mut().zip(times) {
            row.at = at;
        }
        self.statement(start, |database| {
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

impl Service for Client {
    async fn push(&mut self, operations: &[Operation]) -> Result<Outcome, String> {
        let outcome = self.transaction(operations).await.unwrap_or(Outcome::Unknown);
        step().await;
        let mut database = self.database.lock().unwrap();
        // Answers get lost, whatever they say.
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
    fn seen(&self) -> Seen {
        Seen {
            record_id: self.operation.record_id.as_str().into(),
            version: self.version.get().unsigned_abs(),
            digest: Digest::of(self.operation.ciphertext.as_bytes()),
            deleted: self.operation.deleted,
            updated_at: self.at.div_euclid(1000),
        }
    }
}

fn verdict(operation: &Operation, found: Option<&Row>) -> WriteDecision {
    let head =
        found.map(|row| RecordState { version: row.version, deleted: row.operation.deleted });
    check_version(operation, head, false, || {
        found.is_some_and(|row| row.operation.ciphertext == operation.ciphertext)
    })
}

fn written(operation: &Operation, version: Version) -> Written {
    Written {
        record_id: operation.record_id.as_str().into(),
        version: version.get().unsigned_abs(),
        updated_at: None,
    }
}
