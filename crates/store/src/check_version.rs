//! The rule that decides what becomes of each write of a push. It stands here once, for every
//! database.
//!
//! Not here: SQL, clocks, what is done with a verdict.

use vaultsync_protocol::{Operation, Version};

/// What the judgement must know of a record as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordState {
    /// Its version.
    pub version: Version,
    /// Whether it is a tombstone.
    pub deleted: bool,
}

/// What becomes of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteDecision {
    /// The record already holds it: a retry, answered with that version.
    AlreadyApplied(Version),
    /// To be written, as that version.
    Apply(Version),
    /// Something else stands there.
    Conflict,
}

/// Judges one write against the record as it stands (`None`: there is no such record); the first
/// row that fits counts.
///
/// | the record | verdict |
/// | --- | --- |
/// | holds this write: the next version, same ciphertext, same `deleted` | `AlreadyApplied` |
/// | is unknown, and the client knows the epoch and gives a base version | `Conflict` |
/// | is unknown | `Apply`, as version 1 |
/// | is at the base version | `Apply`, as the next version |
/// | anything else | `Conflict` |
///
/// `holds_ciphertext` tells whether the record's ciphertext is the write's; it is asked only where
/// the answer depends on it, so that a backend need not fetch what no verdict needs.
pub fn check_version(
    operation: &Operation,
    head: Option<RecordState>,
    client_knows_epoch: bool,
    holds_ciphertext: impl FnOnce() -> bool,
) -> WriteDecision {
    let next = operation.next_version();
    match head {
        Some(head)
            if head.version == next && head.deleted == operation.deleted && holds_ciphertext() =>
        {
            WriteDecision::AlreadyApplied(next)
        }
        None if client_knows_epoch && operation.base_version.is_some() => WriteDecision::Conflict,
        None => WriteDecision::Apply(Version::FIRST),
        Some(head) if operation.base_version == Some(head.version) => WriteDecision::Apply(next),
        Some(_) => WriteDecision::Conflict,
    }
}

/// Judges one write of a batch that has a receipt: answered as it was then, with one exception.
///
/// A batch can be applied once only, so that its bytes tell a retry from a new push, but for this: an
/// insert may have had a base version above 1, and the record may have reached that version since. The
/// same bytes may then be a new write on top of it, and to answer them as before would drop it. Whether
/// they are cannot be told, so the client is shown the record and decides.
pub fn check_remembered(
    operation: &Operation,
    answered: Version,
    head: Option<RecordState>,
) -> WriteDecision {
    let base = operation.base_version.unwrap_or(Version::NONE);
    let was_ahead = answered == Version::FIRST && base > Version::FIRST;
    if was_ahead && head.is_some_and(|head| head.version >= base) {
        WriteDecision::Conflict
    } else {
        WriteDecision::AlreadyApplied(answered)
    }
}

#[cfg(test)]
mod tests {
    use vaultsync_protocol::{Ciphertext, RecordId};

    use super::*;

    fn version(number: i64) -> Version {
        Version::new(number).unwrap()
    }

    /// Judges a live write at `base` against a record at `(version, deleted, same ciphertext)`.
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
        let head =
            record.map(|(number, deleted, _)| RecordState { version: version(number), deleted });
        let same = record.is_some_and(|(_, _, same)| same);
        let verdict = check_version(&operation, head, client_knows_epoch, || same);
        assert_eq!(verdict, expected, "base {base:?}, record {record:?}");
    }

    #[test]
    fn an_unknown_record_is_inserted_as_version_1() {
        check(None, None, false, WriteDecision::Apply(version(1)));
        check(None, None, true, WriteDecision::Apply(version(1)));
        check(Some(0), None, false, WriteDecision::Apply(version(1)));
        check(Some(7), None, false, WriteDecision::Apply(version(1)));
    }

    #[test]
    fn a_client_that_knows_the_epoch_never_inserts_behind_its_own_back() {
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
    fn a_record_that_holds_the_write_is_a_retry() {
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
    fn a_remembered_write_is_a_conflict_only_where_its_base_version_has_come_true() {
        let check = |base: i64, answered: i64, current: i64, expected: WriteDecision| {
            let operation = Operation {
                record_id: RecordId::new("a").unwrap(),
                base_version: Some(version(base)),
                ciphertext: Ciphertext::from_bytes(vec![1]),
                deleted: false,
            };
            let head = RecordState { version: version(current), deleted: false };
            let verdict = check_remembered(&operation, version(answered), Some(head));
            assert_eq!(verdict, expected, "base {base}, answered {answered}, now {current}");
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
