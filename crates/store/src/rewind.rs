//! Which state a record had at a cursor, for every backend: the listing from which a client rewinds a vault.
//!
//! Not here: SQL; which versions are kept (`history`).

use vaultsync_protocol::{
    Cursor, KeptVersion, PastState, PastStates, RecordId, Timestamp, Version,
};

use crate::{ReadBudget, pull::VaultHead};

/// A record as it is now.
#[derive(Clone, Debug)]
pub(crate) struct CurrentRecord {
    pub(crate) record_id: RecordId,
    pub(crate) version: Version,
    pub(crate) updated_at: Timestamp,
    /// The `updated_at` of its first version; `None` if the record is older than this column.
    pub(crate) created_at: Option<Timestamp>,
}

impl CurrentRecord {
    /// Whether the record changed after the cursor.
    pub(crate) fn has_changed(&self, at: Cursor) -> bool {
        self.updated_at > at.timestamp()
    }
}

/// The state that a record had which has changed since. `kept` is its newest kept version whose `updated_at` is
/// not later than the cursor.
///
/// - A record that is known to have been created later did not exist: version 0.
/// - Otherwise it was at `kept`, if that was replaced after the cursor. If it was replaced before, the version that
///   the record had is not kept, and `kept` is the closest one before it.
/// - Without a kept version, nothing is known.
pub(crate) fn past_state(
    record: CurrentRecord,
    kept: Option<KeptVersion>,
    at: Cursor,
) -> PastState {
    let unknown = PastState {
        record_id: record.record_id,
        current_version: record.version,
        version: None,
        deleted: None,
        updated_at: None,
        bytes: None,
        digest: None,
        exact: false,
    };
    if record.created_at.is_some_and(|created_at| created_at > at.timestamp()) {
        return PastState { version: Some(Version::NONE), exact: true, ..unknown };
    }
    match kept {
        None => unknown,
        Some(kept) => PastState {
            version: Some(kept.version),
            deleted: Some(kept.deleted),
            updated_at: Some(kept.updated_at),
            bytes: Some(kept.bytes),
            digest: Some(kept.digest),
            exact: kept.replaced_at > at.timestamp(),
            ..unknown
        },
    }
}

/// A page of states that is being read.
pub(crate) struct StatesPage<'a, R> {
    at: Cursor,
    /// How many records the page may still look at.
    left: usize,
    last: Option<RecordId>,
    budget: &'a mut R,
    states: PastStates,
}

impl<'a, R: ReadBudget> StatesPage<'a, R> {
    /// Nothing yet, from one snapshot with the vault's row.
    pub(crate) fn new(
        head: Option<VaultHead>,
        at: Cursor,
        limit: usize,
        budget: &'a mut R,
    ) -> Self {
        let states = PastStates {
            epoch: head.map(|head| head.epoch),
            head: head.map(|head| head.clock),
            ..PastStates::default()
        };
        Self { at, left: limit, last: None, budget, states }
    }

    /// Looks at the next record. Returns false if the page ends before it: because of its limit, or because memory
    /// is used up, but never before the first record.
    pub(crate) fn look_at(&mut self, record: CurrentRecord, kept: Option<KeptVersion>) -> bool {
        let record_id = record.record_id.clone();
        let fits = self.left > 0
            && (!record.has_changed(self.at)
                || self.budget.take(record_id.as_str().len())
                || self.last.is_none());
        if !fits {
            self.states.next = self.last.take();
            return false;
        }
        self.left -= 1;
        self.last = Some(record_id);
        if record.has_changed(self.at) {
            self.states.entries.push(past_state(record, kept, self.at));
        }
        true
    }

    /// The page.
    pub(crate) fn finish(self) -> PastStates {
        self.states
    }
}

#[cfg(test)]
mod tests {
    use vaultsync_protocol::RecordDigest;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn record(updated_at: i64, created_at: Option<i64>) -> CurrentRecord {
        CurrentRecord {
            record_id: RecordId::new("a").unwrap(),
            version: Version::new(9).unwrap(),
            updated_at: at(updated_at),
            created_at: created_at.map(at),
        }
    }

    fn kept(version: i64, updated_at: i64, replaced_at: i64) -> KeptVersion {
        KeptVersion {
            version: Version::new(version).unwrap(),
            deleted: version % 2 == 0,
            updated_at: at(updated_at),
            replaced_at: at(replaced_at),
            bytes: 5,
            digest: RecordDigest::of(b"hello"),
        }
    }

    /// The version at a cursor, and whether it is exact.
    fn state(
        created_at: Option<i64>,
        kept: Option<KeptVersion>,
        cursor: i64,
    ) -> (Option<i64>, bool) {
        let state = past_state(record(100, created_at), kept, Cursor::from(at(cursor)));
        assert_eq!((state.record_id.as_str(), state.current_version.get()), ("a", 9));
        let known = kept.filter(|kept| state.version == Some(kept.version));
        assert_eq!(state.deleted, known.map(|kept| kept.deleted));
        assert_eq!(state.updated_at, known.map(|kept| kept.updated_at));
        assert_eq!(state.bytes, known.map(|kept| kept.bytes));
        assert_eq!(state.digest, known.map(|kept| kept.digest));
        (state.version.map(Version::get), state.exact)
    }

    #[test]
    fn a_record_changed_if_its_version_is_later_than_the_cursor() {
        let changed = |cursor| record(100, None).has_changed(Cursor::from(at(cursor)));
        assert!(changed(99) && !changed(100) && !changed(101));
    }

    #[test]
    fn a_record_did_not_exist_only_if_it_is_known_to_be_created_later() {
        assert_eq!(state(Some(51), None, 50), (Some(0), true));
        assert_eq!(state(Some(50), None, 50), (None, false), "it had a version that is not kept");
        assert_eq!(state(None, None, 50), (None, false));
        assert_eq!(state(None, Some(kept(3, 40, 60)), 50), (Some(3), true));
    }

    #[test]
    fn a_kept_version_is_exact_if_it_was_replaced_after_the_cursor() {
        assert_eq!(state(Some(1), Some(kept(3, 40, 51)), 50), (Some(3), true));
        assert_eq!(state(Some(1), Some(kept(4, 40, 50)), 50), (Some(4), false));
        assert_eq!(state(Some(1), Some(kept(4, 50, 100)), 50), (Some(4), true));
    }
}
