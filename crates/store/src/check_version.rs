//! The version check: what a push does to one record. It stands here once, for every database.
//!
//! Not here: SQL, clocks, what a whole batch comes to (`push_plan.rs`).

use vaultsync_protocol::{Operation, Version};

/// The stored state of a record, as far as the version check depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordState {
    /// Its version.
    pub version: Version,
    /// Whether it is a tombstone.
    pub deleted: bool,
}

/// What a push does to one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteDecision {
    /// Nothing: the record already holds this write, as that version. The operation is a retry.
    AlreadyApplied(Version),
    /// The record is written, as that version.
    Apply(Version),
    /// The record holds something else, so the push is refused.
    Conflict,
}

impl WriteDecision {
    /// Whether the operation is no retry.
    pub(crate) const fn is_new(&self) -> bool {
        !matches!(self, Self::AlreadyApplied(_))
    }
}

/// Checks one operation against the record's state (`None`: no such record). The first row that
/// matches decides:
///
/// | the record | decision |
/// | --- | --- |
/// | holds this write: the next version, same ciphertext, same `deleted` | `AlreadyApplied` |
/// | does not exist, and the push names the epoch and a base version | `Conflict` |
/// | does not exist | `Apply`, as version 1 |
/// | is at the base version | `Apply`, as the next version |
/// | anything else | `Conflict` |
///
/// `has_same_ciphertext` returns whether the record's ciphertext is the operation's. It is called only
/// if the decision depends on it, so that a backend need not read a ciphertext for nothing.
pub fn check_version(
    operation: &Operation,
    record: Option<RecordState>,
    client_knows_epoch: bool,
    has_same_ciphertext: impl FnOnce() -> bool,
) -> WriteDecision {
    let next = operation.next_version();
    match record {
        Some(record)
            if record.version == next
                && record.deleted == operation.deleted
                && has_same_ciphertext() =>
        {
            WriteDecision::AlreadyApplied(next)
        }
        None if client_knows_epoch && operation.base_version.is_some() => WriteDecision::Conflict,
        None => WriteDecision::Apply(Version::FIRST),
        Some(record) if operation.base_version == Some(record.version) => {
            WriteDecision::Apply(next)
        }
        Some(_) => WriteDecision::Conflict,
    }
}

/// Checks one operation of a batch that has a receipt, which returned `version` for it: it is already
/// applied, with one exception.
///
/// Versions only grow, so a batch can be applied once only and its bytes identify it. But an operation
/// with a base version above 1 may have inserted a record as version 1, and the record may have reached
/// that base version since. The same bytes may then be a retry or a new write on top of that version.
/// The server cannot know which: answering as before would drop a new write, and writing would
/// overwrite what a retrying client has not seen. So it is a conflict, for as long as the receipt is kept.
pub(crate) fn check_remembered(
    operation: &Operation,
    version: Version,
    record: Option<RecordState>,
) -> WriteDecision {
    let base = operation.base_version.unwrap_or(Version::NONE);
    let inserted_below_base = version == Version::FIRST && base > Version::FIRST;
    if inserted_below_base && record.is_some_and(|record| record.version >= base) {
        WriteDecision::Conflict
    } else {
        WriteDecision::AlreadyApplied(version)
    }
}

#[cfg(test)]
mod tests {
    use vaultsync_protocol::{Ciphertext, RecordId};

    use super::*;

    fn version(number: i64) -> Version {
        Version::new(number).unwrap()
    }

    /// Checks a live write at `base` against a record at `(version, deleted, same ciphertext)`.
    fn check(
        base: Option<i64>,
        record: Option<(i64, bool, bool)>,
        client_knows_epoch: bool,
        expected: WriteDecision,
    ) {
        let operation = Operation {
            record_id: RecordId::new("a").unwrap(),
            base_version: base.map(version),
            ciphertext: Ciphertext::from_bytes(vec![1]),
            deleted: false,
        };
        let state =
            record.map(|(number, deleted, _)| RecordState { version: version(number), deleted });
        let same = record.is_some_and(|(_, _, same)| same);
        let decision = check_version(&operation, state, client_knows_epoch, || same);
        assert_eq!(decision, expected, "base {base:?}, record {record:?}");
    }

    #[test]
    fn a_record_that_does_not_exist_is_inserted_as_version_1() {
        check(None, None, false, WriteDecision::Apply(version(1)));
        check(None, None, true, WriteDecision::Apply(version(1)));
        check(Some(0), None, false, WriteDecision::Apply(version(1)));
        check(Some(7), None, false, WriteDecision::Apply(version(1)));
    }

    #[test]
    fn a_base_version_on_a_missing_record_conflicts_if_the_client_knows_the_epoch() {
        check(Some(0), None, true, WriteDecision::Conflict);
        check(Some(7), None, true, WriteDecision::Conflict);
    }

    #[test]
    fn a_record_at_the_base_version_is_written() {
        for epoch in [false, true] {
            check(Some(1), Some((1, false, false)), epoch, WriteDecision::Apply(version(2)));
            check(Some(7), Some((7, true, true)), epoch, WriteDecision::Apply(version(8)));
        }
    }

    #[test]
    fn a_write_that_the_record_already_holds_is_a_retry() {
        for epoch in [false, true] {
            check(None, Some((1, false, true)), epoch, WriteDecision::AlreadyApplied(version(1)));
            check(
                Some(0),
                Some((1, false, true)),
                epoch,
                WriteDecision::AlreadyApplied(version(1)),
            );
            check(
                Some(7),
                Some((8, false, true)),
                epoch,
                WriteDecision::AlreadyApplied(version(8)),
            );
        }
    }

    #[test]
    fn a_remembered_insert_conflicts_once_the_record_reaches_its_base_version() {
        let check = |base: i64, answered: i64, current: i64, expected: WriteDecision| {
            let operation = Operation {
                record_id: RecordId::new("a").unwrap(),
                base_version: Some(version(base)),
                ciphertext: Ciphertext::from_bytes(vec![1]),
                deleted: false,
            };
            let record = RecordState { version: version(current), deleted: false };
            let decision = check_remembered(&operation, version(answered), Some(record));
            assert_eq!(decision, expected, "base {base}, answered {answered}, now {current}");
        };
        check(5, 1, 4, WriteDecision::AlreadyApplied(version(1)));
        check(5, 1, 5, WriteDecision::Conflict);
        check(5, 1, 9, WriteDecision::Conflict);
        check(2, 1, 2, WriteDecision::Conflict);
        check(1, 1, 1, WriteDecision::AlreadyApplied(version(1)));
        check(1, 1, 7, WriteDecision::AlreadyApplied(version(1)));
        check(0, 1, 7, WriteDecision::AlreadyApplied(version(1)));
        check(5, 6, 6, WriteDecision::AlreadyApplied(version(6)));
        check(5, 6, 9, WriteDecision::AlreadyApplied(version(6)));
    }

    #[test]
    fn anything_else_is_a_conflict() {
        for epoch in [false, true] {
            check(None, Some((1, false, false)), epoch, WriteDecision::Conflict);
            check(None, Some((1, true, true)), epoch, WriteDecision::Conflict);
            check(None, Some((2, false, true)), epoch, WriteDecision::Conflict);
            check(Some(0), Some((1, false, false)), epoch, WriteDecision::Conflict);
            check(Some(1), Some((2, false, false)), epoch, WriteDecision::Conflict);
            check(Some(1), Some((2, true, true)), epoch, WriteDecision::Conflict);
            check(Some(1), Some((3, false, true)), epoch, WriteDecision::Conflict);
            check(Some(2), Some((1, false, true)), epoch, WriteDecision::Conflict);
        }
    }
}
