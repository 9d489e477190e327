//! What a vault takes up, from its row, for every backend.

use vaultsync_protocol::{Epoch, Timestamp, Usage};

use crate::Counters;

/// A vault's row, as far as its usage depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountedVault {
    pub(crate) epoch: Epoch,
    pub(crate) head: Timestamp,
    /// `None` if the vault was not counted yet.
    pub(crate) counters: Option<Counters>,
    /// Bytes of ciphertext in its kept versions.
    pub(crate) history_bytes: i64,
}

/// What a vault takes up.
pub(crate) fn usage(vault: Option<CountedVault>) -> Usage {
    let Some(CountedVault { epoch, head, counters, history_bytes }) = vault else {
        return Usage::NONE;
    };
    Usage {
        records: counters.map(|counters| counters.live_records),
        tombstones: counters.map(|counters| counters.record_rows - counters.live_records),
        bytes: counters.map(|counters| counters.bytes),
        history_bytes,
        epoch: Some(epoch),
        head: Some(head),
    }
}
