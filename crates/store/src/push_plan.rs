//! The decision on a push, made once for every database and for batched pushes alike.
//!
//! A backend locks the vault, loads its [`VaultState`] and a [`LoadedRecord`] for each operation, calls
//! [`PushPlan::decide`], and carries out the plan. The plan is a pure function of what was loaded: a
//! backend decides nothing about *whether* to write. To change what a push does, change this file.
//!
//! Not here: SQL, locks, the clock, and reading the conflicting ciphertexts.

use vaultsync_protocol::{Epoch, Operation, Push, RecordId, Timestamp, Version, Written};

use crate::{
    PushOutcome, RecordState, WriteDecision,
    check_version::{check_remembered, check_version},
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
}

impl VaultState {
    /// The state of a vault that this push creates. Its clock is before every time that a push can
    /// assign.
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self { clock: Timestamp::from_millis(i64::MIN), epoch, receipts: Receipts::default() }
    }
}

/// A record that an operation names, as loaded under the vault's lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadedRecord {
    pub(crate) state: RecordState,
    /// Length of its ciphertext.
    pub(crate) ciphertext_bytes: usize,
    /// Whether its ciphertext is the operation's. A backend compares them only if the record is at the
    /// operation's next version, and returns false otherwise: no other decision depends on it.
    pub(crate) has_same_ciphertext: bool,
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
    /// In the push's order: all that conflict, or as many as fit in a page, and at least one.
    pub(crate) record_ids: Vec<&'a RecordId>,
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
}

/// A record's new row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordWrite<'a> {
    pub(crate) operation: &'a Operation,
    /// Version 1 inserts the record; any other replaces the version before it.
    pub(crate) version: Version,
    pub(crate) updated_at: Timestamp,
}

/// What [`PushPlan::decide`] depends on besides the push and the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PushContext {
    pub(crate) now: Timestamp,
    /// Bytes of ciphertext that a list of conflicts may hold.
    pub(crate) page_bytes_max: usize,
    /// The epoch of the vault if this push creates it.
    pub(crate) new_epoch: Epoch,
}

impl<'a> PushPlan<'a> {
    /// Decides what becomes of `push`, in this order:
    ///
    /// 1. If the push names an epoch that is not the vault's, it is refused.
    /// 2. If it has no operations, nothing is to be done.
    /// 3. If the vault has its receipt, it returns what it returned before, or the conflicts of
    ///    [`check_remembered`].
    /// 4. If any operation conflicts by [`check_version`], nothing is written.
    /// 5. Otherwise every record that does not hold its write yet is written. Each gets a millisecond
    ///    of its own, later than any that the vault has assigned.
    ///
    /// `vault` is `None` if it does not exist yet; `records` has an entry for each operation, in their
    /// order, `None` if there is no such record.
    pub(crate) fn decide(
        push: &'a Push,
        vault: Option<VaultState>,
        records: &[Option<LoadedRecord>],
        context: PushContext,
    ) -> Self {
        let names_epoch =
            |vault: &VaultState| push.epoch().is_none_or(|known| known.names(vault.epoch));
        if push.epoch().is_some() {
            match &vault {
                None => return Self::Return(PushOutcome::EpochChanged),
                Some(vault) if !names_epoch(vault) => {
                    return Self::Confirm(PushOutcome::EpochChanged);
                }
                Some(_) => {}
            }
        }
        if push.operations().is_empty() {
            return Self::Return(PushOutcome::Applied(Vec::new()));
        }
        let digest = BatchDigest::of(push);
        let results = vault.as_ref().and_then(|vault| vault.receipts.results(push, &digest));
        let decisions = match &results {
            Some(results) => decide_remembered(push, results, records),
            None => decide_each(push, records),
        };
        if decisions.contains(&WriteDecision::Conflict) {
            let page_bytes_max = context.page_bytes_max;
            return Self::Refuse(Conflicts::select(push, &decisions, records, page_bytes_max));
        }
        if let Some(results) = results {
            return Self::Confirm(PushOutcome::Applied(results));
        }
        let vault = vault.unwrap_or_else(|| VaultState::new(context.new_epoch));
        Self::Write(Writes::new(push, &decisions, vault, &digest, context.now))
    }
}

fn decide_each(push: &Push, records: &[Option<LoadedRecord>]) -> Vec<WriteDecision> {
    let knows_epoch = push.epoch().is_some();
    let pairs = push.operations().iter().zip(records);
    pairs
        .map(|(operation, record)| {
            let state = record.map(|record| record.state);
            let same = || record.is_some_and(|record| record.has_same_ciphertext);
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
    /// The conflicting records that fit in a page: it ends before it exceeds `bytes_max`, but never
    /// before its first record.
    fn select(
        push: &'a Push,
        decisions: &[WriteDecision],
        records: &[Option<LoadedRecord>],
        bytes_max: usize,
    ) -> Self {
        let (mut record_ids, mut ciphertext_bytes) = (Vec::new(), Vec::new());
        let (mut bytes, mut has_more) = (0, false);
        let each = push.operations().iter().zip(decisions).zip(records);
        for ((operation, _), record) in
            each.filter(|((_, decision), _)| **decision == WriteDecision::Conflict)
        {
            let record_bytes = record.map_or(0, |record| record.ciphertext_bytes);
            bytes += record_bytes;
            has_more = bytes > bytes_max && !record_ids.is_empty();
            if has_more {
                break;
            }
            record_ids.push(&operation.record_id);
            ciphertext_bytes.push(record_bytes);
        }
        Self { record_ids, ciphertext_bytes, has_more }
    }
}

impl<'a> Writes<'a> {
    fn new(
        push: &'a Push,
        decisions: &[WriteDecision],
        mut vault: VaultState,
        digest: &BatchDigest,
        now: Timestamp,
    ) -> Self {
        let mut next = now.min(NOW_MAX).max(vault.clock.plus_millis(1));
        let (mut records, mut results) = (Vec::new(), Vec::with_capacity(decisions.len()));
        for (operation, decision) in push.operations().iter().zip(decisions) {
            let version = match *decision {
                WriteDecision::AlreadyApplied(version) => version,
                WriteDecision::Apply(version) => {
                    records.push(RecordWrite { operation, version, updated_at: next });
                    vault.clock = next;
                    next = next.plus_millis(1);
                    version
                }
                WriteDecision::Conflict => continue,
            };
            results.push(Written { record_id: operation.record_id.clone(), version });
        }
        vault.receipts.add(digest, decisions);
        Self { records, vault, results }
    }

    /// The vault's new head, if any record is written.
    pub(crate) fn new_head(&self) -> Option<VaultHead> {
        let VaultState { epoch, clock, .. } = self.vault;
        (!self.records.is_empty()).then_some(VaultHead { epoch, clock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch::from_bytes([7; 16]);
    const CONTEXT: PushContext = PushContext {
        now: Timestamp::from_millis(1_000),
        page_bytes_max: 10,
        new_epoch: Epoch::from_bytes([8; 16]),
    };

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
        Some(LoadedRecord { state, ciphertext_bytes, has_same_ciphertext: false })
    }

    /// The plan in short: what is written as `id@version at time`, or which records conflict.
    #[track_caller]
    fn check(
        push: &Push,
        vault: Option<VaultState>,
        records: &[Option<LoadedRecord>],
        expected: &str,
    ) {
        let plan = match PushPlan::decide(push, vault, records, CONTEXT) {
            PushPlan::Return(PushOutcome::Applied(results)) if results.is_empty() => {
                "return nothing".to_owned()
            }
            PushPlan::Return(outcome) => format!("return {outcome:?}"),
            PushPlan::Confirm(PushOutcome::Applied(results)) => {
                let results: Vec<_> = results
                    .iter()
                    .map(|written| format!("{}@{}", written.record_id, written.version))
                    .collect();
                format!("confirm {}", results.join(" "))
            }
            PushPlan::Confirm(outcome) => format!("confirm {outcome:?}"),
            PushPlan::Refuse(Conflicts { record_ids, has_more, .. }) => {
                let ids: Vec<_> = record_ids.iter().map(ToString::to_string).collect();
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
        match PushPlan::decide(push, vault, records, CONTEXT) {
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
        let context = PushContext { now: Timestamp::from_millis(i64::MAX), ..CONTEXT };
        let PushPlan::Write(writes) = PushPlan::decide(&push, None, &[None], context) else {
            panic!("not written")
        };
        assert_eq!(writes.vault.clock, NOW_MAX);
    }

    #[test]
    fn a_record_that_holds_its_write_is_not_written_again() {
        let both = push(&[("a", 0, "1"), ("b", 0, "1")], None);
        let held = record(1, 1).map(|record| LoadedRecord { has_same_ciphertext: true, ..record });
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
}
