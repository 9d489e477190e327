//! Histories written by hand, in few words.

use std::sync::Arc;

use vaultsync_testkit::history::{
    Counts, Digest, Event, History, InTheWay, Outcome, Promise, Recorder, Request, Seen, Violation,
    Write, Written, check,
};

/// A write of a text on top of a version.
pub(crate) fn write(id: &str, base: impl Into<Option<u64>>, text: &str) -> Write {
    let (digest, base_version) = (Digest::of(text.as_bytes()), base.into());
    Write { record_id: id.into(), base_version, digest, deleted: false }
}

/// A record that holds a text.
pub(crate) fn seen(id: &str, version: u64, text: &str, updated_at: i64) -> Seen {
    let digest = Digest::of(text.as_bytes());
    Seen { record_id: id.into(), version, digest, deleted: false, updated_at }
}

/// A history in the making.
#[derive(Default)]
pub(crate) struct Lines(Recorder);

impl Lines {
    /// Begins a push of ada's phone.
    pub(crate) fn push(&self, operations: &[Write]) -> u64 {
        self.push_of("ada", operations)
    }

    pub(crate) fn push_of(&self, user: &str, operations: &[Write]) -> u64 {
        self.begin(user, "phone", Request::Push { operations: operations.to_vec() })
    }

    /// A push that is answered with those versions before anything else happens.
    pub(crate) fn pushed(&self, operations: &[Write], versions: &[u64]) -> u64 {
        let push = self.push(operations);
        self.acknowledge(push, operations, versions);
        push
    }

    pub(crate) fn acknowledge(&self, push: u64, operations: &[Write], versions: &[u64]) {
        let results = operations.iter().zip(versions).map(|(write, &version)| Written {
            record_id: Arc::clone(&write.record_id),
            version,
            updated_at: None,
        });
        self.0.end(push, Outcome::Acknowledged { results: results.collect() });
    }

    pub(crate) fn conflict(&self, push: u64, shown: &[Seen]) {
        let conflicts = shown.iter().cloned().map(InTheWay::Record).collect();
        self.0.end(push, Outcome::Conflict { conflicts });
    }

    pub(crate) fn end(&self, operation: u64, outcome: Outcome) {
        self.0.end(operation, outcome);
    }

    /// Begins a pull of ada's laptop.
    pub(crate) fn pull(&self, cursor: impl Into<Option<i64>>) -> u64 {
        self.begin("ada", "laptop", Request::Pull { cursor: cursor.into(), limit: 10 })
    }

    pub(crate) fn page(&self, pull: u64, records: &[Seen], has_more: bool) {
        let next_cursor = records.last().map(|last| last.updated_at);
        self.0.end(pull, Outcome::Page { records: records.to_vec(), next_cursor, has_more });
    }

    /// A pull that is answered before anything else happens.
    pub(crate) fn pulled(&self, cursor: impl Into<Option<i64>>, records: &[Seen], has_more: bool) {
        let pull = self.pull(cursor);
        self.page(pull, records, has_more);
    }

    /// What ada's vault holds when all is over.
    pub(crate) fn state(&self, records: &[Seen]) {
        self.state_of("ada", records);
    }

    pub(crate) fn state_of(&self, user: &str, records: &[Seen]) {
        self.0.state(&user.into(), records.to_vec());
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.finish().expect("no file is written")
    }

    pub(crate) fn check(&self) -> Result<Counts, Vec<Violation>> {
        check(&History::new(&self.events()).expect("a history"))
    }

    /// Nothing is broken.
    #[track_caller]
    pub(crate) fn holds(&self) -> Counts {
        match self.check() {
            Ok(counts) => counts,
            Err(violations) => panic!("{violations:#?}"),
        }
    }

    /// That promise is broken, no other one, and it is told like this.
    #[track_caller]
    pub(crate) fn breaks(&self, promise: Promise, what: &str) {
        self.breaks_all(&[promise], what);
    }

    /// Those promises are broken, no other ones, and the first of them is told like this.
    #[track_caller]
    pub(crate) fn breaks_all(&self, promises: &[Promise], what: &str) {
        let violations = self.check().expect_err("a promise is broken");
        let mut broken: Vec<_> = violations.iter().map(|violation| violation.promise).collect();
        broken.dedup();
        assert_eq!(broken, promises, "{violations:#?}");
        let mut of_first = violations.iter().filter(|one| one.promise == promises[0]);
        assert!(of_first.any(|one| one.to_string().contains(what)), "{what}: {violations:#?}");
    }

    pub(crate) fn begin(&self, user: &str, device: &str, request: Request) -> u64 {
        self.0.begin(&user.into(), &device.into(), request)
    }
}
