//! A builder of short histories.

use std::sync::Arc;

use vaultsync_testkit::history::{
    ConflictEntry, Counts, Digest, Event, GuardView, History, Outcome, Promise, RecordView,
    Recorder, Request, VaultLabel, Violation, Write, WriteResult, check,
};

/// A write of a text on a base version.
pub(crate) fn write(id: &str, base: impl Into<Option<u64>>, text: &str) -> Write {
    let (digest, base_version) = (Digest::of(text.as_bytes()), base.into());
    Write { record_id: id.into(), base_version, digest, deleted: false }
}

/// A record with a text as its content.
pub(crate) fn view(id: &str, version: u64, text: &str, updated_at: i64) -> RecordView {
    let digest = Digest::of(text.as_bytes());
    RecordView { record_id: id.into(), version, digest, deleted: false, updated_at }
}

/// A push with guards on `(id, version)`.
pub(crate) fn push(operations: &[Write], guards: &[(&str, u64)], epoch: Option<&str>) -> Request {
    let guards = guards.iter();
    let guards = guards.map(|&(id, version)| GuardView { record_id: id.into(), version });
    Request::Push {
        operations: operations.to_vec(),
        guards: guards.collect(),
        epoch: epoch.map(Into::into),
    }
}

pub(crate) fn pull(cursor: Option<i64>, epoch: Option<&str>) -> Request {
    Request::Pull { cursor, limit: 10, epoch: epoch.map(Into::into) }
}

/// A history that is being built.
#[derive(Default)]
pub(crate) struct Builder(Recorder);

impl Builder {
    /// Begins a push by ada's phone.
    pub(crate) fn begin_push(&self, operations: &[Write]) -> u64 {
        self.begin_push_by("ada", operations)
    }

    pub(crate) fn begin_push_by(&self, user: &str, operations: &[Write]) -> u64 {
        self.begin(user, "phone", push(operations, &[], None))
    }

    /// Adds a push that is acknowledged with these versions before anything else happens.
    pub(crate) fn push(&self, operations: &[Write], versions: &[u64]) -> u64 {
        let push = self.begin_push(operations);
        self.acknowledge(push, operations, versions);
        push
    }

    pub(crate) fn acknowledge(&self, push: u64, operations: &[Write], versions: &[u64]) {
        let results = operations.iter().zip(versions).map(|(write, &version)| WriteResult {
            record_id: Arc::clone(&write.record_id),
            version,
            updated_at: None,
        });
        self.0.end(push, Outcome::Acknowledged { results: results.collect() });
    }

    pub(crate) fn conflict(&self, push: u64, records: &[RecordView]) {
        let conflicts = records.iter().cloned().map(ConflictEntry::Record).collect();
        self.0.end(push, Outcome::Conflict { conflicts });
    }

    pub(crate) fn end(&self, operation: u64, outcome: Outcome) {
        self.0.end(operation, outcome);
    }

    /// Begins a pull by ada's laptop.
    pub(crate) fn begin_pull(&self, cursor: impl Into<Option<i64>>) -> u64 {
        self.begin("ada", "laptop", pull(cursor.into(), None))
    }

    pub(crate) fn page(&self, pull: u64, records: &[RecordView], has_more: bool) {
        let next_cursor = records.last().map(|last| last.updated_at);
        let records = records.to_vec();
        self.0.end(pull, Outcome::Page { records, next_cursor, has_more, epoch: None });
    }

    /// Adds a pull that is answered before anything else happens.
    pub(crate) fn pull(
        &self,
        cursor: impl Into<Option<i64>>,
        records: &[RecordView],
        has_more: bool,
    ) {
        let pull = self.begin_pull(cursor);
        self.page(pull, records, has_more);
    }

    /// Adds the final state of ada's vault.
    pub(crate) fn state(&self, records: &[RecordView]) {
        self.state_of("ada", records);
    }

    pub(crate) fn state_of(&self, vault: impl Into<VaultLabel>, records: &[RecordView]) {
        self.0.state(&vault.into(), records.to_vec());
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.finish().expect("no file is written")
    }

    pub(crate) fn check(&self) -> Result<Counts, Vec<Violation>> {
        check(&History::new(&self.events()).expect("a history"))
    }

    /// Asserts that the history breaks no promise.
    #[track_caller]
    pub(crate) fn is_valid(&self) -> Counts {
        match self.check() {
            Ok(counts) => counts,
            Err(violations) => panic!("{violations:#?}"),
        }
    }

    /// Asserts that the history breaks this promise and no other, with a violation that contains `what`.
    #[track_caller]
    pub(crate) fn breaks(&self, promise: Promise, what: &str) {
        self.breaks_all(&[promise], what);
    }

    /// Asserts that the history breaks these promises and no others, and that a violation of the first
    /// contains `what`.
    #[track_caller]
    pub(crate) fn breaks_all(&self, promises: &[Promise], what: &str) {
        let violations = self.check().expect_err("a promise is broken");
        let mut broken: Vec<_> = violations.iter().map(|violation| violation.promise).collect();
        broken.dedup();
        assert_eq!(broken, promises, "{violations:#?}");
        let mut of_first = violations.iter().filter(|one| one.promise == promises[0]);
        assert!(of_first.any(|one| one.to_string().contains(what)), "{what}: {violations:#?}");
    }

    pub(crate) fn begin(
        &self,
        vault: impl Into<VaultLabel>,
        device: &str,
        request: Request,
    ) -> u64 {
        self.0.begin(&vault.into(), &device.into(), request)
    }
}
