//! The decision on a push, made once for every database and for batched pushes alike.
//!
//! A backend locks the vault, loads its [`VaultState`] and a [`LoadedRecord`] for each operation and guard,
//! calls [`PushPlan::decide`], and carries out the plan. The plan is a pure function of what was loaded: a
//! backend decides nothing about *whether* to write. To change what a push does, change this file.
//!
//! Not here: SQL, locks, the clock, and reading the conflicting ciphertexts.

use vaultsync_protocol::{
    Epoch, HeadChange, Operation, Push, RecordDigest, RecordId, Timestamp, Version, Written,
};

use crate::{
    PushOutcome, RecordState, StoreOptions, WriteDecision,
    check_version::{check_remembered, check_version},
    counters::Counters,
    pull::VaultHead,
    receipts::{BatchDigest, Receipts},
};

/// 9000-01-01T00:00:00Z. A machine whose clock is later than this is broken. A vault's clock that
/// followed it would reach the last year that RFC 3339 can write, and could never go back.
const NOW_MAX: Timestamp = Timestamp::from_millis(221_845_392_000_000);

/// A vault's row, as loaded under its lock.
#[derive(Clone, Debug)]
pub(crate) struct VaultState {
    /// The latest `updated_at` that the vault has assigned.
    pub(crate) clock: Timestamp,
    pub(crate) epoch: Epoch,
    pub(crate) receipts: Receipts,
    /// `None` if the vault is older than the counters and was not counted yet.
    pub(crate) counters: Option<Counters>,
    /// Bytes of ciphertext in its kept versions.
    pub(crate) history_bytes: i64,
    /// The `updated_at` of the newest tombstone that was purged, if one was.
    pub(crate) purged_at: Option<Timestamp>,
    pub(crate) erasure: Erasure,
}

/// Whether a vault was erased. Its row stays, because a client that names no epoch may still have a cursor: the
/// clock must not go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Erasure {
    /// It is in use.
    None,
    /// It was erased, and its rows are being removed.
    Running,
    /// It was erased, and nothing but its row is left. The next push begins a new history.
    Done,
}

impl Erasure {
    /// The number in the database.
    pub(crate) const fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Running),
            2 => Some(Self::Done),
            _ => None,
        }
    }
}

impl VaultState {
    /// The clock of a vault to which nothing was ever pushed: before every time that a push can assign.
    pub(crate) const BEFORE_ALL: Timestamp = Timestamp::from_millis(i64::MIN);

    /// The state of a vault that this push creates.
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            clock: Self::BEFORE_ALL,
            epoch,
            receipts: Receipts::default(),
            counters: Some(Counters::default()),
            history_bytes: 0,
            purged_at: None,
            erasure: Erasure::None,
        }
    }

    /// Whether a push would create the vault, or begin anew with one that was erased.
    pub(crate) fn is_new(vault: Option<&Self>) -> bool {
        vault.is_none_or(|vault| vault.erasure == Erasure::Done)
    }
}

/// A record that an operation or a guard names, as loaded under the vault's lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadedRecord {
    pub(crate) state: RecordState,
    /// Length of its ciphertext.
    pub(crate) ciphertext_bytes: usize,
    /// Digest of its ciphertext.
    pub(crate) digest: RecordDigest,
    /// When it was written, by the clock of the server; `None` if it is older than this column.
    pub(crate) written_at: Option<Timestamp>,
}

/// What a backend does with a push.
#[derive(Debug)]
pub(crate) enum PushPlan<'a> {
    /// Write nothing and return this, which relies on no earlier push.
    Return(PushOutcome),
    /// Write nothing, and return this once all earlier pushes of the vault are as durable as a commit of
    /// this one would be: it relies on them.
    Confirm(PushOutcome),
    /// As `Confirm`, with these records as they are.
    Refuse(Conflicts<'a>),
    /// Write all of this in one transaction.
    Write(Writes<'a>),
}

/// The records that a refused push returns.
#[derive(Debug)]
pub(crate) struct Conflicts<'a> {
    /// Those of the guards, and then those of the operations, in the push's order: all that conflict, or as
    /// many as fit in a page, and at least one.
    pub(crate) record_ids: Vec<&'a RecordId>,
    /// How many of them are guards'.
    pub(crate) guards: usize,
    /// The length of the ciphertext of each, to reserve memory before it is read.
    pub(crate) ciphertext_bytes: Vec<usize>,
    /// Whether more records conflict than these.
    pub(crate) has_more: bool,
}

/// What a push writes.
#[derive(Debug)]
pub(crate) struct Writes<'a> {
    /// Empty if the records held every write already.
    pub(crate) records: Vec<RecordWrite<'a>>,
    /// The vault's row after the push. Stored even if no record is written: the receipt is new.
    pub(crate) vault: VaultState,
    /// What the push returns once this is committed.
    pub(crate) results: Vec<Written>,
    /// How the push moves the vault's head, if any record is written.
    pub(crate) head_change: Option<HeadChange>,
}

/// A record's new row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordWrite<'a> {
    pub(crate) operation: &'a Operation,
    /// Version 1 inserts the record; any other replaces the version before it.
    pub(crate) version: Version,
    pub(crate) updated_at: Timestamp,
    /// Digest of the operation's ciphertext.
    pub(crate) digest: RecordDigest,
    /// Whether the version that it replaces is kept: it is copied before it is overwritten.
    pub(crate) keeps_replaced: bool,
}

/// What [`PushPlan::decide`] depends on besides the push and the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PushContext {
    pub(crate) now: Timestamp,
    /// The epoch of the vault if this push creates it.
    pub(crate) new_epoch: Epoch,
    /// How many named vaults the user has, if this push would create another one.
    pub(crate) named_vaults: Option<usize>,
    pub(crate) options: StoreOptions,
}

impl<'a> PushPlan<'a> {
    /// Decides what becomes of `push`, in this order:
    ///
    /// 1. If the push names an epoch that is not the vault's, it is refused. An erased vault has none.
    /// 2. If it has no operations, nothing is to be done.
    /// 3. While an erased vault's rows are being removed, it is refused. Then the vault is as good as new.
    /// 4. If the vault has its receipt, it returns what it returned before, or the conflicts of
    ///    [`check_remembered`].
    /// 5. If tombstones were purged that the client may not have seen, it is refused: it could bring back what
    ///    was deleted.
    /// 6. If any operation conflicts by [`check_version`], or a guard's record is at another version,
    ///    nothing is written. Guards are not checked if the records hold every write already: the push is
    ///    then a retry, and its guards held when it was applied.
    /// 7. If it would create a named vault and the user has the most that a user may have, or the vault would
    ///    hold more than its quotas, it is refused.
    /// 8. Otherwise every record that does not hold its write yet is written. Each gets a millisecond
    ///    of its own, later than any that the vault has assigned. The version that it replaces is kept if
    ///    [`HistoryOptions::keeps`](crate::HistoryOptions) says so.
    ///
    /// `vault` is `None` if it does not exist yet; `records` has an entry for each of
    /// [`Push::record_ids`], in their order, `None` if there is no such record.
    pub(crate) fn decide(
        push: &'a Push,
        vault: Option<VaultState>,
        records: &[Option<LoadedRecord>],
        context: PushContext,
    ) -> Self {
        if let Some(known) = push.epoch() {
            match &vault {
                None => return Self::Return(PushOutcome::EpochChanged),
                Some(vault) if vault.erasure == Erasure::None && known.names(vault.epoch) => {}
                Some(_) => return Self::Confirm(PushOutcome::EpochChanged),
            }
        }
        let (records, guarded) = records.split_at(push.operations().len());
        if push.operations().is_empty() {
            let applied = PushOutcome::Applied { results: Vec::new(), head_change: None };
            return Self::Return(applied);
        }
        let (vault, erased) = match vault {
            Some(vault) if vault.erasure == Erasure::Running => {
                return Self::Return(PushOutcome::Erasing);
            }
            Some(vault) if vault.erasure == Erasure::Done => (None, Some(vault)),
            vault => (vault, None),
        };
        let digest = BatchDigest::of(push);
        let results = vault.as_ref().and_then(|vault| vault.receipts.results(push, &digest));
        let purged_at = vault.as_ref().and_then(|vault| vault.purged_at);
        if results.is_none()
            && push.since().is_some_and(|since| purged_at > Some(since.timestamp()))
        {
            return Self::Confirm(PushOutcome::CursorExpired);
        }
        let decisions = match &results {
            Some(results) => decide_remembered(push, results, records),
            None => decide_each(push, records),
        };
        let is_retry = results.is_some() || !decisions.iter().any(WriteDecision::is_new);
        let guards = if is_retry { Vec::new() } else { failed_guards(push, guarded) };
        let conflicts = Conflicts::new(guards, conflicting(push, &decisions, records));
        if !conflicts.is_empty() {
            return Self::Refuse(conflicts.cut(context.options.page_bytes_max));
        }
        if let Some(results) = results {
            return Self::Confirm(PushOutcome::Applied { results, head_change: None });
        }
        if context.named_vaults.is_some_and(|vaults| vaults >= context.options.vaults_per_user_max)
        {
            return Self::Return(PushOutcome::TooManyVaults);
        }
        let head_before = vault.as_ref().map(|vault| vault.clock);
        let mut vault = vault.unwrap_or_else(|| {
            let clock = erased.map_or(VaultState::BEFORE_ALL, |vault| vault.clock);
            VaultState { clock, ..VaultState::new(context.new_epoch) }
        });
        // A vault that was not counted yet has no quotas: after an upgrade, for a short while.
        if let Some(usage) = vault.counters
            && let Err(exceeded) = context.options.quotas.check(push, &decisions, records, usage)
        {
            return Self::Return(PushOutcome::QuotaExceeded(exceeded));
        }
        vault.receipts.add(&digest, &decisions);
        Self::Write(Writes::new(push, &decisions, records, vault, head_before, &context))
    }
}

/// A record that conflicts, and the length of its ciphertext.
type Conflicting<'a> = (&'a RecordId, usize);

fn ciphertext_bytes(record: Option<LoadedRecord>) -> usize {
    record.map_or(0, |record| record.ciphertext_bytes)
}

/// The records of the guards that do not hold.
fn failed_guards<'a>(push: &'a Push, records: &[Option<LoadedRecord>]) -> Vec<Conflicting<'a>> {
    let pairs = push.guards().iter().zip(records.iter().copied());
    let failed = pairs.filter(|(guard, record)| {
        guard.version != record.map_or(Version::NONE, |record| record.state.version)
    });
    failed.map(|(guard, record)| (&guard.record_id, ciphertext_bytes(record))).collect()
}

/// The records of the operations that conflict.
fn conflicting<'a>(
    push: &'a Push,
    decisions: &[WriteDecision],
    records: &[Option<LoadedRecord>],
) -> Vec<Conflicting<'a>> {
    let each = push.operations().iter().zip(decisions).zip(records.iter().copied());
    each.filter(|((_, decision), _)| **decision == WriteDecision::Conflict)
        .map(|((operation, _), record)| (&operation.record_id, ciphertext_bytes(record)))
        .collect()
}

fn decide_each(push: &Push, records: &[Option<LoadedRecord>]) -> Vec<WriteDecision> {
    let knows_epoch = push.epoch().is_some();
    let pairs = push.operations().iter().zip(records);
    pairs
        .map(|(operation, record)| {
            let state = record.map(|record| record.state);
            let digest = || RecordDigest::of(operation.ciphertext.as_bytes());
            let same = || record.is_some_and(|record| record.digest == digest());
            check_version(operation, state, knows_epoch, same)
        })
        .collect()
}

fn decide_remembered(
    push: &Push,
    results: &[Written],
    records: &[Option<LoadedRecord>],
) -> Vec<WriteDecision> {
    let each = push.operations().iter().zip(results).zip(records);
    each.map(|((operation, written), record)| {
        check_remembered(operation, written.version, record.map(|record| record.state))
    })
    .collect()
}

impl<'a> Conflicts<'a> {
    /// Each record with the length of its ciphertext.
    pub(crate) fn with_bytes(&self) -> impl Iterator<Item = (&'a RecordId, usize)> {
        self.record_ids.iter().copied().zip(self.ciphertext_bytes.iter().copied())
    }

    fn new(guards: Vec<Conflicting<'a>>, operations: Vec<Conflicting<'a>>) -> Self {
        let count = guards.len();
        let (record_ids, ciphertext_bytes) = guards.into_iter().chain(operations).unzip();
        Self { record_ids, guards: count, ciphertext_bytes, has_more: false }
    }

    fn is_empty(&self) -> bool {
        self.record_ids.is_empty()
    }

    /// The first conflicts that fit in a page: it ends before it exceeds `bytes_max`, but never before its
    /// first record.
    fn cut(mut self, bytes_max: usize) -> Self {
        let mut bytes = 0;
        let fits = self.ciphertext_bytes.iter().take_while(|one| {
            bytes += **one;
            bytes <= bytes_max
        });
        let count = fits.count().max(1);
        self.has_more = count < self.record_ids.len();
        self.record_ids.truncate(count);
        self.ciphertext_bytes.truncate(count);
        self.guards = self.guards.min(count);
        self
    }
}

impl<'a> Writes<'a> {
    fn new(
        push: &'a Push,
        decisions: &[WriteDecision],
        loaded: &[Option<LoadedRecord>],
        mut vault: VaultState,
        head_before: Option<Timestamp>,
        context: &PushContext,
    ) -> Self {
        let (now, history) = (context.now, &context.options.history);
        let mut next = now.min(NOW_MAX).max(vault.clock.plus_millis(1));
        let (mut records, mut results) = (Vec::new(), Vec::with_capacity(decisions.len()));
        for ((operation, decision), before) in push.operations().iter().zip(decisions).zip(loaded) {
            let version = match *decision {
                WriteDecision::AlreadyApplied(version) => version,
                WriteDecision::Apply(version) => {
                    let digest = RecordDigest::of(operation.ciphertext.as_bytes());
                    let keeps_replaced = before.is_some_and(|before| {
                        let id = &operation.record_id;
                        history.keeps(id, before.written_at, now, vault.history_bytes)
                    });
                    if keeps_replaced {
                        let bytes = before.map_or(0, |before| before.ciphertext_bytes);
                        vault.history_bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
                    }
                    let updated_at = next;
                    records.push(RecordWrite {
                        operation,
                        version,
                        updated_at,
                        digest,
                        keeps_replaced,
                    });
                    if let Some(counters) = &mut vault.counters {
                        counters.replace(*before, operation);
                    }
                    vault.clock = next;
                    next = next.plus_millis(1);
                    version
                }
                WriteDecision::Conflict => continue,
            };
            results.push(Written { record_id: operation.record_id.clone(), version });
        }
        let head_change =
            (!records.is_empty()).then_some(HeadChange { head_before, head: vault.clock });
        Self { records, vault, results, head_change }
    }

    /// The vault's new head, if any record is written.
    pub(crate) fn new_head(&self) -> Option<VaultHead> {
        let VaultState { epoch, clock, purged_at, .. } = self.vault;
        self.head_change.map(|_| VaultHead { epoch, clock, purged_at })
    }

    /// What the push returns once this is committed.
    pub(crate) fn into_outcome(self) -> PushOutcome {
        PushOutcome::Applied { results: self.results, head_change: self.head_change }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch::from_bytes([7; 16]);

    fn context() -> PushContext {
        let new_epoch = || Epoch::from_bytes([8; 16]);
        PushContext {
            now: Timestamp::from_millis(1_000),
            new_epoch: new_epoch(),
            named_vaults: None,
            options: StoreOptions { page_bytes_max: 10, ..StoreOptions::new(new_epoch) },
        }
    }

    /// A push of `(id, base version, ciphertext)`.
    fn push(operations: &[(&str, i64, &str)], epoch: Option<Epoch>) -> Push {
        let operations: Vec<_> = operations
            .iter()
            .map(|(id, base, text)| {
                let ciphertext = base64_simd::STANDARD.encode_to_string(text);
                format!(
                    r#"{{"recordId":"{id}","baseVersion":{base},"ciphertext":"{ciphertext}","deleted":false}}"#
                )
            })
            .collect();
        let epoch = epoch.map_or("null".to_owned(), |epoch| format!("\"{epoch}\""));
        let body = format!(r#"{{"operations":[{}],"epoch":{epoch}}}"#, operations.join(","));
        Push::from_json(body.as_bytes(), 1024).unwrap()
    }

    fn vault(clock: i64) -> VaultState {
        VaultState { clock: Timestamp::from_millis(clock), ..VaultState::new(EPOCH) }
    }

    /// A live record whose ciphertext is not the operation's.
    #[expect(clippy::unnecessary_wraps, reason = "a record that is not there is `None`")]
    fn record(version: i64, ciphertext_bytes: usize) -> Option<LoadedRecord> {
        let state = RecordState { version: Version::new(version).unwrap(), deleted: false };
        let digest = RecordDigest::of(b"another");
        let written_at = Some(Timestamp::from_millis(900));
        Some(LoadedRecord { state, ciphertext_bytes, digest, written_at })
    }

    /// The plan in short: what is written as `id@version at time`, or which records conflict.
    #[track_caller]
    fn check(
        push: &Push,
        vault: Option<VaultState>,
        records: &[Option<LoadedRecord>],
        expected: &str,
    ) {
        let vault_clock = vault.as_ref().map(|vault| vault.clock.as_millis());
        let plan = match PushPlan::decide(push, vault, records, context()) {
            PushPlan::Return(PushOutcome::Applied { results, .. }) if results.is_empty() => {
                "return nothing".to_owned()
            }
            PushPlan::Return(outcome) => format!("return {outcome:?}"),
            PushPlan::Confirm(PushOutcome::Applied { results, .. }) => {
                let results: Vec<_> = results
                    .iter()
                    .map(|written| format!("{}@{}", written.record_id, written.version))
                    .collect();
                format!("confirm {}", results.join(" "))
            }
            PushPlan::Confirm(outcome) => format!("confirm {outcome:?}"),
            PushPlan::Refuse(Conflicts { record_ids, guards, has_more, .. }) => {
                let ids: Vec<_> = (record_ids.iter().enumerate())
                    .map(|(index, id)| {
                        format!("{}{id}", if index < guards { "guard " } else { "" })
                    })
                    .collect();
                format!("refuse {}{}", ids.join(" "), if has_more { " and more" } else { "" })
            }
            PushPlan::Write(writes) => {
                let rows: Vec<_> = writes
                    .records
                    .iter()
                    .map(|row| {
                        let id = &row.operation.record_id;
                        format!("{id}@{} at {}", row.version, row.updated_at.as_millis())
                    })
                    .collect();
                let heads = writes.head_change.map(|HeadChange { head_before, head }| {
                    (head_before.map(Timestamp::as_millis), head.as_millis())
                });
                let before = vault_clock;
                let expected = (!rows.is_empty()).then(|| (before, writes.vault.clock.as_millis()));
                assert_eq!(heads, expected, "how the head moves");
                format!("write {}; clock {}", rows.join(", "), writes.vault.clock.as_millis())
            }
        };
        assert_eq!(plan.trim_end(), expected);
    }

    /// The vault's state after a push that was written.
    fn written(
        push: &Push,
        vault: Option<VaultState>,
        records: &[Option<LoadedRecord>],
    ) -> VaultState {
        match PushPlan::decide(push, vault, records, context()) {
            PushPlan::Write(writes) => writes.vault,
            plan => panic!("{plan:?}"),
        }
    }

    #[test]
    fn each_record_written_gets_a_later_millisecond() {
        let both = push(&[("a", 0, "1"), ("b", 3, "1")], None);
        check(&both, None, &[None, None], "write a@1 at 1000, b@1 at 1001; clock 1001");
        check(
            &both,
            Some(vault(5)),
            &[None, record(3, 1)],
            "write a@1 at 1000, b@4 at 1001; clock 1001",
        );
        check(
            &both,
            Some(vault(2_000)),
            &[None, None],
            "write a@1 at 2001, b@1 at 2002; clock 2002",
        );
    }

    #[test]
    fn a_broken_clock_is_not_followed() {
        let push = push(&[("a", 0, "1")], None);
        let context = PushContext { now: Timestamp::from_millis(i64::MAX), ..context() };
        let PushPlan::Write(writes) = PushPlan::decide(&push, None, &[None], context) else {
            panic!("not written")
        };
        assert_eq!(writes.vault.clock, NOW_MAX);
    }

    #[test]
    fn a_record_that_holds_its_write_is_not_written_again() {
        let both = push(&[("a", 0, "1"), ("b", 0, "1")], None);
        let digest = RecordDigest::of(b"1");
        let held = record(1, 1).map(|record| LoadedRecord { digest, ..record });
        check(&both, Some(vault(5)), &[held, None], "write b@1 at 1000; clock 1000");
        let state = written(&both, Some(vault(5)), &[held, held]);
        assert_eq!(state.clock.as_millis(), 5, "the clock stands still");
        check(&both, Some(state), &[record(9, 1), record(9, 1)], "confirm a@1 b@1");
    }

    #[test]
    fn another_epoch_is_refused_before_anything_else() {
        let other = Epoch::from_bytes([9; 16]);
        for operations in [&[][..], &[("a", 0, "1")]] {
            let records = vec![None; operations.len()];
            let named = push(operations, Some(other));
            check(&named, Some(vault(5)), &records, "confirm EpochChanged");
            check(&named, None, &records, "return EpochChanged");
        }
        check(&push(&[], None), None, &[], "return nothing");
        check(&push(&[], Some(EPOCH)), Some(vault(5)), &[], "return nothing");
        let named = push(&[("a", 0, "1")], Some(EPOCH));
        check(&named, Some(vault(5)), &[None], "refuse a");
    }

    #[test]
    fn conflicts_end_before_they_exceed_a_page_but_not_before_the_first() {
        let three = push(&[("a", 0, "1"), ("b", 0, "1"), ("c", 0, "1")], None);
        let state = || Some(vault(5));
        check(&three, state(), &[record(2, 4), None, record(2, 6)], "refuse a c");
        check(&three, state(), &[record(2, 4), None, record(2, 7)], "refuse a and more");
        check(&three, state(), &[record(2, 99), record(2, 0), None], "refuse a and more");
        check(&three, state(), &[record(2, 99), None, None], "refuse a");
    }

    #[test]
    fn a_remembered_batch_is_never_decided_as_a_new_one() {
        let ahead = push(&[("a", 5, "1"), ("b", 0, "1")], None);
        let state = written(&ahead, None, &[None, None]);
        let after = |version| [record(version, 1), record(9, 1)];
        for version in [1, 4] {
            check(&ahead, Some(state.clone()), &after(version), "confirm a@1 b@1");
        }
        // Again and again, for as long as the receipt is kept: base version 5 would match at 5.
        for version in [5, 5, 6] {
            check(&ahead, Some(state.clone()), &after(version), "refuse a");
        }
    }
    /// A push with guards, of `(id, version)`.
    fn guarded(operations: &[(&str, i64, &str)], guards: &[(&str, i64)]) -> Push {
        let operations: Vec<_> = push(operations, None)
            .operations()
            .iter()
            .map(|one| {
                let (id, base) = (&one.record_id, one.base_version.map_or(0, Version::get));
                let ciphertext = base64_simd::STANDARD.encode_to_string(one.ciphertext.as_bytes());
                format!(
                    r#"{{"recordId":"{id}","baseVersion":{base},"ciphertext":"{ciphertext}","deleted":false}}"#
                )
            })
            .collect();
        let guards: Vec<_> = guards
            .iter()
            .map(|(id, version)| format!(r#"{{"recordId":"{id}","version":{version}}}"#))
            .collect();
        let (operations, guards) = (operations.join(","), guards.join(","));
        let body = format!(r#"{{"operations":[{operations}],"guards":[{guards}]}}"#);
        Push::from_json(body.as_bytes(), 1024).unwrap()
    }

    #[test]
    fn a_push_is_applied_only_if_its_guards_hold() {
        let one = guarded(&[("a", 0, "1")], &[("k", 3)]);
        let state = || Some(vault(5));
        check(&one, state(), &[None, record(3, 1)], "write a@1 at 1000; clock 1000");
        check(&one, state(), &[None, record(4, 1)], "refuse guard k");
        check(&one, state(), &[None, None], "refuse guard k");
        check(&one, state(), &[record(2, 1), record(2, 1)], "refuse guard k a");
        let absent = guarded(&[("a", 0, "1")], &[("k", 0)]);
        check(&absent, None, &[None, None], "write a@1 at 1000; clock 1000");
        check(&absent, state(), &[None, record(1, 1)], "refuse guard k");
        let tombstone = record(1, 0).map(|record| LoadedRecord {
            state: RecordState { deleted: true, ..record.state },
            ..record
        });
        check(&absent, state(), &[None, tombstone], "refuse guard k");
    }

    #[test]
    fn conflicting_guards_come_first_in_a_page_of_conflicts() {
        let two = guarded(&[("a", 0, "1"), ("b", 0, "1")], &[("k", 3), ("l", 3)]);
        let check = |a, k, l, expected| {
            let records = [record(2, a), None, record(2, k), record(2, l)];
            check(&two, Some(vault(5)), &records, expected);
        };
        check(4, 2, 4, "refuse guard k guard l a");
        check(5, 2, 4, "refuse guard k guard l and more");
        check(0, 9, 9, "refuse guard k and more");
        check(0, 99, 0, "refuse guard k and more");
    }

    #[test]
    fn guards_of_a_retry_are_not_checked() {
        let one = guarded(&[("a", 0, "1")], &[("k", 3)]);
        let state = written(&one, Some(vault(5)), &[None, record(3, 1)]);
        check(&one, Some(state), &[record(9, 1), record(4, 1)], "confirm a@1");
        let held =
            record(1, 1).map(|record| LoadedRecord { digest: RecordDigest::of(b"1"), ..record });
        check(&one, Some(vault(5)), &[held, record(4, 1)], "write ; clock 5");
    }

    #[test]
    fn batches_with_other_guards_have_other_receipts() {
        let state = written(&guarded(&[("a", 0, "1")], &[("k", 3)]), None, &[None, record(3, 1)]);
        let after = || Some(state.clone());
        for other in [&[][..], &[("k", 4)], &[("l", 3)], &[("k", 3), ("l", 0)]] {
            let other = guarded(&[("a", 0, "1")], other);
            let records = vec![record(9, 1); 1 + other.guards().len()];
            assert!(matches!(
                PushPlan::decide(&other, after(), &records, context()),
                PushPlan::Refuse(_)
            ));
        }
    }

    #[test]
    fn a_user_has_a_limited_number_of_named_vaults() {
        let one = push(&[("a", 0, "1")], None);
        let decide = |named_vaults| {
            PushPlan::decide(&one, None, &[None], PushContext { named_vaults, ..context() })
        };
        assert!(matches!(decide(Some(15)), PushPlan::Write(_)));
        assert!(matches!(decide(Some(16)), PushPlan::Return(PushOutcome::TooManyVaults)));
        let decide = |named_vaults| {
            let options = StoreOptions { vaults_per_user_max: 0, ..context().options };
            let context = PushContext { named_vaults, options, ..context() };
            PushPlan::decide(&one, None, &[None], context)
        };
        assert!(matches!(decide(None), PushPlan::Write(_)), "the default vault is never refused");
        assert!(matches!(decide(Some(0)), PushPlan::Return(PushOutcome::TooManyVaults)));
    }

    #[test]
    fn counters_follow_the_writes() {
        let both = push(&[("a", 0, "123"), ("b", 2, "45")], None);
        let counters = Counters { live_records: 7, record_rows: 9, bytes: 100 };
        let before = VaultState { counters: Some(counters), ..vault(5) };
        let after = written(&both, Some(before), &[None, record(2, 10)]).counters;
        let expected = Counters { live_records: 8, record_rows: 10, bytes: 95 };
        assert_eq!(after, Some(expected));
        let uncounted = VaultState { counters: None, ..vault(5) };
        assert_eq!(written(&both, Some(uncounted), &[None, record(2, 10)]).counters, None);
    }
}
