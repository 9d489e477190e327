//! What a vault holds, counted in its row by the pushes that change it.

use vaultsync_protocol::Operation;

use crate::push_plan::LoadedRecord;

/// Counters of a vault. They equal a full count of its records after every push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records that are no tombstones.
    pub live_records: i64,
    /// Records and tombstones.
    pub record_rows: i64,
    /// Bytes of ciphertext, tombstones included.
    pub bytes: i64,
}

impl Counters {
    /// Counts a write that replaces `before`.
    pub(crate) fn replace(&mut self, before: Option<LoadedRecord>, operation: &Operation) {
        let was_live = before.is_some_and(|record| !record.state.deleted);
        self.live_records += i64::from(!operation.deleted) - i64::from(was_live);
        self.record_rows += i64::from(before.is_none());
        let bytes = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        let bytes_before = before.map_or(0, |record| bytes(record.ciphertext_bytes));
        self.bytes += bytes(operation.ciphertext.len()) - bytes_before;
    }
}
