//! The data of a store in memory, by rules that may be wrong.
//!
//! Not here: what a client reaches (`service.rs`).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use vaultsync_protocol::{Guard, Operation, Version};
use vaultsync_testkit::history::{Digest, Outcome, RecordView, WriteResult};

use crate::rules::{Commit, Erasure, Names, Rules, Times};

/// A database that may crash, and a wall clock that may step back.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) rules: Rules,
    pub(crate) random: StdRng,
    pub(crate) memory: Vaults,
    disk: Vaults,
    pub(crate) locked: HashMap<VaultKey, u64>,
    /// Microseconds.
    pub(crate) now: i64,
    /// Number of crashes so far. Pushes that began before a crash are aborted.
    pub(crate) crashes: u64,
}

/// A user, and the name of a vault; empty for the default one.
pub(crate) type VaultKey = (usize, &'static str);

type Vaults = BTreeMap<VaultKey, Vault>;

/// What makes two pushes the same.
pub(crate) type Batch = (Vec<Operation>, Vec<Guard>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Vault {
    pub(crate) rows: BTreeMap<String, Row>,
    /// Milliseconds.
    clock: i64,
    pub(crate) receipts: Vec<(Batch, Vec<WriteResult>)>,
    /// `None` before the first push, and after an erasure.
    epoch: Option<String>,
    erased: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) operation: Operation,
    pub(crate) version: Version,
    /// Microseconds.
    pub(crate) at: i64,
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

    /// The vault that requests for a vault reach.
    pub(crate) fn reached(&self, vault: VaultKey) -> VaultKey {
        if self.rules.names == Names::None { (vault.0, "") } else { vault }
    }

    /// The records of a vault, in the order of their times.
    pub(crate) fn state(&self, vault: VaultKey) -> Vec<RecordView> {
        let vault = self.reached(vault);
        let rows = self.memory.get(&vault).map(|vault| vault.rows.values()).into_iter().flatten();
        let mut records: Vec<_> = rows.map(Row::view).collect();
        records.sort_by_key(|record| record.updated_at);
        records
    }

    /// A page, read in one statement.
    pub(crate) fn page(&mut self, key: VaultKey, cursor: Option<i64>, limit: usize) -> Outcome {
        self.simulate();
        let rules = self.rules;
        let vaults = self.memory.iter().filter(|(of, _)| {
            let is_name = rules.names == Names::NotPulls || of.1 == key.1;
            !rules.pulls_filter_by_user || is_name && of.0 == key.0
        });
        let after = cursor.map_or(i64::MIN, |millis| millis * 1000);
        let rows = vaults.flat_map(|(_, vault)| vault.rows.values());
        let mut rows: Vec<_> = rows.filter(|row| row.at > after).collect();
        rows.sort_by_key(|row| row.at);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let records: Vec<_> = rows.into_iter().map(Row::view).collect();
        let next_cursor = records.last().map(|last| last.updated_at);
        let epoch = self.memory.get(&key).and_then(|vault| vault.epoch.as_deref());
        Outcome::Page { records, next_cursor, has_more, epoch: epoch.map(Into::into) }
    }

    /// Whether a request names an epoch that the vault remembers as erased.
    pub(crate) fn is_erased(&self, key: VaultKey, epoch: Option<&str>) -> bool {
        let vault = self.memory.get(&key);
        epoch.is_some_and(|epoch| vault.is_some_and(|vault| vault.erased.contains(epoch)))
    }

    /// Erases the vault if it has this epoch.
    pub(crate) fn erase(&mut self, key: VaultKey, epoch: &str) {
        self.simulate();
        let rule = self.rules.erasure;
        let Some(vault) = self.memory.get_mut(&key) else { return };
        if vault.epoch.as_deref() != Some(epoch) {
            return;
        }
        vault.epoch = None;
        vault.receipts.clear();
        if rule != Erasure::LeavesRecords {
            vault.rows.clear();
        }
        if rule != Erasure::Forgotten {
            vault.erased.insert(epoch.to_owned());
        }
        if rule == Erasure::ClockBeginsAgain {
            vault.clock = 0;
        }
        if rule != Erasure::AfterResponse {
            self.sync(key);
        }
    }

    /// Writes a vault to disk.
    fn sync(&mut self, key: VaultKey) {
        let vault = self.memory.get(&key).cloned();
        self.disk.extend(vault.map(|vault| (key, vault)));
    }

    /// The times of the records of a push that began at `began`, all in microseconds.
    pub(crate) fn times(&mut self, key: VaultKey, count: usize, began: i64) -> Vec<i64> {
        let millis = self.now / 1000;
        let vault = self.memory.entry(key).or_default();
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

    pub(crate) fn write(&mut self, key: VaultKey, rows: &[Row]) {
        let number = self.random.random::<u64>();
        let vault = self.memory.entry(key).or_default();
        if !rows.is_empty() {
            vault.epoch.get_or_insert_with(|| format!("{number:016x}"));
        }
        for row in rows {
            vault.rows.insert(row.operation.record_id.as_str().to_owned(), row.clone());
        }
        if self.rules.commit != Commit::AfterResponse {
            self.sync(key);
        }
    }
}

impl Row {
    pub(crate) fn view(&self) -> RecordView {
        RecordView {
            record_id: self.operation.record_id.as_str().into(),
            version: self.version.get().unsigned_abs(),
            digest: Digest::of(self.operation.ciphertext.as_bytes()),
            deleted: self.operation.deleted,
            updated_at: self.at.div_euclid(1000),
        }
    }
}
