//! Random histories, compared with a reference model of the contract.
//!
//! Several devices of two users push and pull at random. Every response must equal the model's, and at the
//! end each device that follows its cursor must have the model's records. `PROPTEST_CASES` sets the number
//! of histories.

#[path = "model/reference.rs"]
mod reference;
#[path = "model/steps.rs"]
mod steps;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use proptest::test_runner::Config;
use proptest_state_machine::{StateMachineTest, prop_state_machine};
use tokio::runtime::Runtime;
use uuid::Uuid;
use vaultsync_protocol::{
    Cursor, DigestedRecord, ManifestEntry, ManifestRequest, Page, Pull, Record, RecordDigest,
    RecordId, Timestamp, Version,
};
use vaultsync_store::{
    ManifestOutcome, PullOutcome, PushOutcome, RecordsOutcome, StoreOptions, Unbounded, Vault,
};

use self::{
    reference::{Answer, DEVICES, EPOCH, PAGE_BYTES_MAX, RECORDS, Request, VaultModel},
    steps::{Expected, Reference, State, Step, USERS},
    support::{Backend, TestStore, batch, known_epoch, operation, records_request},
};

/// The local state of a device: its records by id, and its cursor.
#[derive(Default)]
struct Device {
    records: BTreeMap<String, reference::Record>,
    cursor: Option<i64>,
}

struct System {
    runtime: Runtime,
    store: TestStore,
    vaults: Vec<Vault>,
    devices: Vec<Device>,
}

impl System {
    fn new(backend: Backend) -> Self {
        let options =
            StoreOptions { page_bytes_max: PAGE_BYTES_MAX, ..StoreOptions::new(|| EPOCH) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = runtime.block_on(TestStore::open(backend, options));
        // Every history has its own users: the database may be shared.
        let vault = |_| Vault::of("https://issuer.test", format!("user {}", Uuid::new_v4()));
        let vaults = (0..USERS).map(vault).collect();
        let devices = (0..USERS * DEVICES).map(|_| Device::default()).collect();
        Self { runtime, store, vaults, devices }
    }
}

fn pull(cursor: Option<i64>, limit: usize) -> Pull {
    let cursor = cursor.map(|millis| Cursor::from(Timestamp::from_millis(millis)));
    Pull { cursor, limit, ..Pull::default() }
}

/// The outcome of a push in the model's terms.
fn answer(outcome: PushOutcome) -> Answer {
    match outcome {
        PushOutcome::EpochChanged => Answer::EpochChanged,
        PushOutcome::Applied { results: written, .. } => {
            let pairs = written.into_iter();
            Answer::Applied(
                pairs.map(|one| (one.record_id.to_string(), one.version.get())).collect(),
            )
        }
        PushOutcome::Refused(refused) => {
            let conflicts = refused.conflicts.into_iter().map(|conflict| {
                let record = reference::Record {
                    version: conflict.current_version.get(),
                    ciphertext: conflict.ciphertext.as_bytes().to_vec(),
                    deleted: conflict.deleted,
                    updated_at: conflict.updated_at.map(Timestamp::as_millis),
                };
                (conflict.record_id.to_string(), record)
            });
            Answer::Refused(conflicts.collect(), refused.has_more)
        }
        other => panic!("no limit is set: {other:?}"),
    }
}

/// A record's id, and the record in the model's terms.
fn model_record(record: &Record) -> (String, reference::Record) {
    let model = reference::Record {
        version: record.version.get(),
        ciphertext: record.ciphertext.as_bytes().to_vec(),
        deleted: record.deleted,
        updated_at: Some(record.updated_at.as_millis()),
    };
    (record.record_id.to_string(), model)
}

/// A page in the model's terms.
fn page(page: &Page) -> reference::Page {
    let records = page.records.iter().map(model_record);
    assert!(page.epoch.is_none_or(|epoch| epoch == EPOCH));
    assert_eq!(page.epoch.is_some(), page.head.is_some());
    reference::Page {
        records: records.collect(),
        has_more: page.has_more,
        next_cursor: page.next_cursor.map(Timestamp::as_millis),
        head: page.head.map(Timestamp::as_millis),
    }
}

impl System {
    fn push(&self, request: &Request) -> Answer {
        let operations: Vec<_> = request
            .writes
            .iter()
            .map(|write| operation(&write.id, write.base, &*write.ciphertext, write.deleted))
            .collect();
        let push = batch(&operations, request.epoch.as_deref());
        let vault = &self.vaults[request.user];
        answer(self.runtime.block_on(self.store.push(vault, push, request.now)))
    }

    fn pull(&self, user: usize, pull: &Pull) -> PullOutcome {
        self.runtime.block_on(self.store.pull(&self.vaults[user], pull))
    }

    /// Pulls the next page of a device, which stores its records and cursor.
    fn pull_next(&mut self, user: usize, device: usize, limit: usize) -> reference::Page {
        let index = user * DEVICES + device;
        let outcome = self.pull(user, &pull(self.devices[index].cursor, limit));
        let PullOutcome::Page(pulled) = outcome else { panic!("{outcome:?}") };
        let (page, device) = (page(&pulled), &mut self.devices[index]);
        let advances = page.next_cursor.is_none() || page.next_cursor > device.cursor;
        assert!(advances, "a page with records advances the cursor");
        device.records.extend(page.records.iter().cloned());
        device.cursor = page.next_cursor.or(device.cursor);
        page
    }
}

impl System {
    fn apply(mut self, model: &State, step: &Step) -> Self {
        if matches!(step, Step::Reopen) {
            self.store = self.runtime.block_on(self.store.reopen());
        }
        for expected in &model.expected {
            match expected {
                Expected::Push(request, answer) => assert_eq!(&self.push(request), answer),
                Expected::Pull { user, device, limit, page } => {
                    assert_eq!(&self.pull_next(*user, *device, *limit), page);
                }
                Expected::PullWithEpoch { user, cursor, names_epoch, answer } => {
                    let another = vaultsync_protocol::Epoch::from_bytes([9; 16]);
                    let epoch = Some(known_epoch(if *names_epoch { EPOCH } else { another }));
                    let pulled = match self.pull(*user, &Pull { epoch, ..pull(*cursor, 100) }) {
                        PullOutcome::Page(pulled) => reference::PullAnswer::Page(page(&pulled)),
                        PullOutcome::EpochChanged => reference::PullAnswer::EpochChanged,
                        PullOutcome::CursorAhead => reference::PullAnswer::CursorAhead,
                        outcome @ (PullOutcome::VaultErased | PullOutcome::CursorExpired) => {
                            panic!("nothing is removed: {outcome:?}")
                        }
                    };
                    assert_eq!(&pulled, answer);
                }
            }
        }
        self
    }

    /// Reads these records by id, in as many responses as it takes.
    fn read_by_id(&self, user: usize, ids: &[&str]) -> BTreeMap<String, reference::Record> {
        let (mut found, mut left) = (BTreeMap::new(), ids.to_vec());
        while !left.is_empty() {
            let request = records_request(&left, None);
            let reading = self.store.records(&self.vaults[user], &request);
            let outcome = self.runtime.block_on(reading);
            let RecordsOutcome::Found(response) = outcome else { panic!("{outcome:?}") };
            assert_eq!(response.records.is_empty(), response.missing.len() == left.len());
            left.retain(|id| !response.missing.iter().any(|missing| missing.as_str() == *id));
            for DigestedRecord { record, digest } in response.records {
                assert_eq!(digest, RecordDigest::of(record.ciphertext.as_bytes()));
                left.retain(|id| *id != record.record_id.as_str());
                let (id, record) = model_record(&record);
                found.insert(id, record);
            }
            assert_eq!(response.has_more, !left.is_empty());
        }
        found
    }

    /// The vault's manifest, in pages of `limit`.
    fn manifest(&self, user: usize, limit: usize) -> Vec<ManifestEntry> {
        let (mut entries, mut after) = (Vec::new(), None);
        loop {
            let request = ManifestRequest { after, limit, epoch: None };
            let reading = self.store.store.manifest(&self.vaults[user], &request, Unbounded);
            let read = self.runtime.block_on(reading).expect("a manifest");
            let ManifestOutcome::Manifest(page) = read.0 else { panic!("no epoch was named") };
            entries.extend(page.entries);
            after = page.next;
            if after.is_none() {
                return entries;
            }
        }
    }

    /// The manifest and the usage must agree with the model's records.
    fn check_manifest_and_usage(&self, user: usize, model: &VaultModel) {
        let entry = |(id, record): (&String, &reference::Record)| ManifestEntry {
            record_id: RecordId::new(id).expect(id),
            version: Version::new(record.version).expect("a version"),
            deleted: record.deleted,
            updated_at: Timestamp::from_millis(record.updated_at.expect("a record")),
            digest: RecordDigest::of(&record.ciphertext),
        };
        let expected: Vec<_> = model.records.iter().map(entry).collect();
        for limit in [1, 4, 1000] {
            assert_eq!(self.manifest(user, limit), expected, "pages of {limit}, user {user}");
        }
        let reading = self.store.store.usage(&self.vaults[user]);
        let usage = self.runtime.block_on(reading).expect("the usage");
        let records = || model.records.values();
        let count = |count: usize| Some(i64::try_from(count).expect("a small number"));
        assert_eq!(usage.records, count(records().filter(|record| !record.deleted).count()));
        assert_eq!(usage.tombstones, count(records().filter(|record| record.deleted).count()));
        assert_eq!(usage.bytes, count(records().map(|record| record.ciphertext.len()).sum()));
        assert_eq!(usage.head.map(Timestamp::as_millis), model.clock);
        assert_eq!(usage.epoch, model.clock.map(|_| EPOCH));
    }

    /// Each device follows its cursor to the end. It must then have the model's records, and so must every other
    /// way to read them.
    fn finish(mut self, model: &State) {
        for user in 0..USERS {
            for device in 0..DEVICES {
                // A vault has at most 6 records, so this ends soon even with pages of one.
                while self.pull_next(user, device, 1 + device * 3).has_more {}
                let records = &self.devices[user * DEVICES + device].records;
                assert_eq!(records, &model.vaults[user].records, "device {device} of user {user}");
            }
            let mut ids = RECORDS.to_vec();
            ids.push("none");
            assert_eq!(self.read_by_id(user, &ids), model.vaults[user].records, "user {user}");
            self.check_manifest_and_usage(user, &model.vaults[user]);
        }
    }
}

/// Tests one backend with random histories.
macro_rules! histories {
    ($name:ident, $test:ident, $backend:expr) => {
        struct $name;

        impl StateMachineTest for $name {
            type SystemUnderTest = System;
            type Reference = Reference;

            fn init_test(_: &State) -> System {
                System::new($backend)
            }

            fn apply(system: System, model: &State, step: Step) -> System {
                system.apply(model, &step)
            }

            fn teardown(system: System, model: State) {
                system.finish(&model);
            }
        }

        prop_state_machine! {
            #![proptest_config(Config {
                failure_persistence: None,
                max_shrink_iters: 2_000,
                ..Config::with_cases(cases())
            })]

            #[test]
            fn $test(sequential 1..=40 => $name);
        }
    };
}

histories!(OnSqlite, sqlite_responds_to_any_history_as_the_model_does, Backend::Sqlite);
histories!(OnPostgres, postgres_responds_to_any_history_as_the_model_does, Backend::Postgres);

/// The number of histories: 64, or `PROPTEST_CASES`.
fn cases() -> u32 {
    let configured = std::env::var_os("PROPTEST_CASES").map(|_| Config::default().cases);
    configured.unwrap_or(64)
}
