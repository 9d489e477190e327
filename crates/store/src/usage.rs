//! What a vault takes up, from its row, for every backend.

use vaultsync_protocol::{Epoch, Timestamp, Usage};

use crate::Counters;

/// What a vault takes up, from the epoch, head and counters of its row. The counters are `None` if it was not
/// counted yet.
pub(crate) fn usage(row: Option<(Epoch, Timestamp, Option<Counters>)>) -> Usage {
    let Some((epoch, head, counters)) = row else { return Usage::NONE };
    Usage {
        records: counters.map(|counters| counters.live_records),
        tombstones: counters.map(|counters| counters.record_rows - counters.live_records),
        bytes: counters.map(|counters| counters.bytes),
        epoch: Some(epoch),
        head: Some(head),
    }
}
