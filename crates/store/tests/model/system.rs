//! The store under test, spoken to in the model's terms.

use std::collections::HashSet;

use serde_json::json;
use tokio::runtime::Runtime;
use uuid::Uuid;
use vaultsync_protocol::{Epoch, KnownEpoch, Page, Pull, Push, Record, Timestamp, VaultName};
use vaultsync_store::{
    EraseOutcome, GcOptions, HistoryOptions, PullOutcome, PushOutcome, Removed, StoreOptions, Vault,
};

use crate::{
    follower::{Follower, Kind},
    maintenance::{self, Gc, GcCounts},
    record::{HISTORY_BYTES_MAX, RecordView},
    reference::{
        self, Answer, EpochName, PAGE_BYTES_MAX, PullAnswer, PullRequest, Request, Usage,
        VAULTS_PER_USER_MAX,
    },
    steps::{Expected, State, Step, VAULTS},
    support::{Backend, TestStore, batch_with, operation},
};

/// Followers of each vault.
pub(crate) const FOLLOWERS: [Kind; 2] = [Kind::WithSince, Kind::CursorOnly];

pub(crate) struct System {
    pub(crate) runtime: Runtime,
    pub(crate) store: TestStore,
    pub(crate) vaults: Vec<Vault>,
    /// The epochs of each vault, in the order in which it had them.
    pub(crate) epochs: Vec<Vec<Epoch>>,
    pub(crate) followers: Vec<[Follower; FOLLOWERS.len()]>,
}

impl System {
    pub(crate) fn new(backend: Backend, state: &State) -> Self {
        let history = HistoryOptions { bytes_max: HISTORY_BYTES_MAX, ..HistoryOptions::default() };
        let options = StoreOptions {
            page_bytes_max: PAGE_BYTES_MAX,
            vaults_per_user_max: VAULTS_PER_USER_MAX,
            history,
            quotas: state.quotas,
            ..StoreOptions::new(|| Epoch::new(Uuid::new_v4()))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = runtime.block_on(TestStore::open(backend, options));
        // Every history has its own users: the database may be shared.
        let history = Uuid::new_v4();
        let vault = |(user, name): (usize, Option<&str>)| {
            let vault = Vault::of("https://issuer.test", format!("user {user} of {history}"));
            match name {
                None => vault,
                Some(name) => vault.named(VaultName::new(name).expect("a name")),
            }
        };
        Self {
            runtime,
            store,
            vaults: VAULTS.into_iter().map(vault).collect(),
            epochs: vec![Vec::new(); VAULTS.len()],
            followers: VAULTS.map(|_| FOLLOWERS.map(Follower::new)).into(),
        }
    }

    /// Carries out a step, and compares each response with the model's.
    pub(crate) fn apply(mut self, model: &State, step: &Step) -> Self {
        if matches!(step, Step::Reopen(_)) {
            self.store.options.quotas = model.quotas;
            self.store = self.runtime.block_on(self.store.reopen());
        }
        for expected in &model.expected {
            self.check(model, expected);
        }
        for vault in model.changed() {
            self.check_usage(vault, &model.vaults[vault]);
        }
        self
    }

    fn check(&mut self, model: &State, expected: &Expected) {
        match expected {
            Expected::Push(request, answer) => {
                assert_eq!(&self.push(request), answer);
                self.learn_epoch(request.vault, model.vaults[request.vault].epochs);
            }
            Expected::Follow { vault, follower, limit } => {
                self.follow(model, *vault, *follower, *limit);
            }
            Expected::Pull { vault, request } => {
                assert_eq!(self.pull(*vault, request), model.vaults[*vault].pull(request));
            }
            Expected::States { vault, at } => {
                self.check_states(*vault, &model.vaults[*vault], *at);
            }
            Expected::Gc(gc, counts) => {
                let found = self.gc(*gc);
                // The other database may have vaults of a history that failed.
                if matches!(self.store.backend, Backend::Sqlite) {
                    assert_eq!(&found, counts);
                }
            }
            Expected::Erase { vault, epoch, is_erased } => {
                assert_eq!(self.erase(*vault, *epoch), *is_erased);
            }
            Expected::FinishErasures { finished } => {
                assert_eq!(self.finish_erasures(), *finished);
            }
        }
    }

    /// The text by which a request names an epoch.
    fn epoch_text(&self, vault: usize, name: EpochName) -> String {
        match name {
            EpochName::Own(number) => self.epochs[vault][number].to_string(),
            EpochName::Of { vault, epoch } => self.epochs[vault][epoch].to_string(),
            EpochName::Unknown => "another".to_owned(),
        }
    }

    pub(crate) fn known_epoch(&self, vault: usize, name: EpochName) -> KnownEpoch {
        KnownEpoch::new(&self.epoch_text(vault, name)).expect("a short text")
    }

    /// Reads the vault's epoch if the model says that it is a new one.
    fn learn_epoch(&mut self, vault: usize, epochs: usize) {
        if self.epochs[vault].len() < epochs {
            let outcome = self.pull_outcome(vault, &PullRequest { limit: 1, ..<_>::default() });
            let PullOutcome::Page(page) = outcome else { panic!("{outcome:?}") };
            self.epochs[vault].push(page.epoch.expect("the vault exists"));
            let all: Vec<_> = self.epochs.iter().flatten().collect();
            let different: HashSet<_> = all.iter().map(ToString::to_string).collect();
            assert_eq!(different.len(), all.len(), "no epoch comes twice");
        }
    }

    pub(crate) fn push(&self, request: &Request) -> Answer {
        let epoch = request.epoch.map(|name| self.epoch_text(request.vault, name));
        let push = push_of(request, epoch.as_deref());
        let vault = &self.vaults[request.vault];
        answer(self.runtime.block_on(self.store.push(vault, push, request.now)))
    }

    fn pull_outcome(&self, vault: usize, request: &PullRequest) -> PullOutcome {
        let cursor = |millis: Option<i64>| millis.map(|at| Timestamp::from_millis(at).into());
        let pull = Pull {
            cursor: cursor(request.cursor),
            limit: request.limit,
            epoch: request.epoch.map(|name| self.known_epoch(vault, name)),
            since: cursor(request.since),
            ..Pull::default()
        };
        self.runtime.block_on(self.store.pull(&self.vaults[vault], &pull))
    }

    pub(crate) fn pull(&self, vault: usize, request: &PullRequest) -> PullAnswer {
        match self.pull_outcome(vault, request) {
            PullOutcome::Page(page) => PullAnswer::Page(self.page(vault, &page)),
            PullOutcome::EpochChanged => PullAnswer::EpochChanged,
            PullOutcome::VaultErased => PullAnswer::VaultErased,
            PullOutcome::CursorAhead => PullAnswer::CursorAhead,
            PullOutcome::CursorExpired => PullAnswer::CursorExpired,
        }
    }

    /// A page in the model's terms.
    fn page(&self, vault: usize, page: &Page) -> reference::Page {
        reference::Page {
            records: page.records.iter().map(view).collect(),
            has_more: page.has_more,
            next_cursor: page.next_cursor.map(Timestamp::as_millis),
            epoch: self.epoch_number(vault, page.epoch),
            head: page.head.map(Timestamp::as_millis),
        }
    }

    /// The number of an epoch that a response names.
    pub(crate) fn epoch_number(&self, vault: usize, epoch: Option<Epoch>) -> Option<usize> {
        let number = |epoch| self.epochs[vault].iter().position(|known| *known == epoch);
        epoch.map(|epoch| number(epoch).expect("an epoch of the vault"))
    }

    /// A follower reads its next page. Returns whether there is more.
    pub(crate) fn follow(
        &mut self,
        model: &State,
        vault: usize,
        follower: usize,
        limit: usize,
    ) -> bool {
        let request = self.followers[vault][follower].request(limit);
        let answer = self.pull(vault, &request);
        assert_eq!(answer, model.vaults[vault].pull(&request), "vault {vault}");
        self.followers[vault][follower].take(answer)
    }

    fn gc(&self, gc: Gc) -> GcCounts {
        let days = |days: i64| usize::try_from(days).expect("a small number");
        let options = GcOptions {
            history_days: days(gc.history_days),
            tombstone_days: days(gc.tombstone_days),
            now: Timestamp::from_millis(gc.now),
            dry_run: gc.dry_run,
        };
        let report = self.runtime.block_on(self.store.store.gc(options)).expect("gc does not fail");
        let count = |number: i64| usize::try_from(number).expect("a small number");
        let removed = |removed: Removed| maintenance::Removed {
            rows: count(removed.rows),
            bytes: count(removed.bytes),
        };
        GcCounts { tombstones: removed(report.tombstones), versions: removed(report.versions) }
    }

    /// Returns whether the epoch is erased.
    pub(crate) fn erase(&self, vault: usize, epoch: Option<EpochName>) -> bool {
        let known = self.known_epoch(vault, epoch.unwrap_or(EpochName::Unknown));
        let erasing =
            self.store.store.erase(&self.vaults[vault], &known, Timestamp::from_millis(0));
        match self.runtime.block_on(erasing).expect("an outcome") {
            EraseOutcome::Erased => true,
            EraseOutcome::EpochChanged => false,
        }
    }

    /// Returns how many vaults were erased completely.
    pub(crate) fn finish_erasures(&self) -> usize {
        let finishing = self.store.store.finish_erasures(Timestamp::from_millis(0));
        self.runtime.block_on(finishing).expect("it is erased")
    }
}

/// The push that a client would send.
fn push_of(request: &Request, epoch: Option<&str>) -> Push {
    let writes = request.batch.writes.iter();
    let operations: Vec<_> = writes
        .map(|write| operation(&write.id, write.base, &*write.ciphertext, write.deleted))
        .collect();
    let guards = request.batch.guards.iter();
    let guards = guards.map(|(id, version)| json!({ "recordId": id, "version": version }));
    let guards: Vec<_> = guards.collect();
    let since = request.since.map(|since| Timestamp::from_millis(since).to_string());
    batch_with(&operations, json!({ "guards": guards, "epoch": epoch, "since": since }))
}

/// The outcome of a push in the model's terms.
fn answer(outcome: PushOutcome) -> Answer {
    match outcome {
        PushOutcome::Applied { results, head_change } => Answer::Applied {
            versions: results
                .into_iter()
                .map(|one| (one.record_id.to_string(), one.version.get()))
                .collect(),
            head_change: head_change.map(|change| {
                (change.head_before.map(Timestamp::as_millis), change.head.as_millis())
            }),
        },
        PushOutcome::Refused(refused) => {
            let conflicts = refused.conflicts.into_iter().map(|conflict| {
                let record = RecordView {
                    version: conflict.current_version.get(),
                    ciphertext: conflict.ciphertext.as_bytes().to_vec(),
                    deleted: conflict.deleted,
                    updated_at: conflict.updated_at.map(Timestamp::as_millis),
                };
                (conflict.record_id.to_string(), record, conflict.guard)
            });
            Answer::Refused { conflicts: conflicts.collect(), has_more: refused.has_more }
        }
        PushOutcome::EpochChanged => Answer::EpochChanged,
        PushOutcome::VaultErased => Answer::VaultErased,
        PushOutcome::Erasing => Answer::Erasing,
        PushOutcome::TooManyVaults => Answer::TooManyVaults,
        PushOutcome::CursorExpired => Answer::CursorExpired,
        PushOutcome::QuotaExceeded(exceeded) => {
            let counters = exceeded.usage;
            let usage = Usage {
                records: counters.live_records,
                tombstones: counters.record_rows - counters.live_records,
                bytes: counters.bytes,
            };
            Answer::QuotaExceeded { usage, operations: exceeded.operations }
        }
    }
}

/// A record's id, and the record in the model's terms.
pub(crate) fn view(record: &Record) -> (String, RecordView) {
    let view = RecordView {
        version: record.version.get(),
        ciphertext: record.ciphertext.as_bytes().to_vec(),
        deleted: record.deleted,
        updated_at: Some(record.updated_at.as_millis()),
    };
    (record.record_id.to_string(), view)
}
