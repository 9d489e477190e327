//! What a vault's row alone decides about a pull, for every backend.
//!
//! Not here: SQL, reading records.

use vaultsync_protocol::{Cursor, Epoch, KnownEpoch, Page, Pull, Record, Timestamp};

use crate::PullOutcome;

/// A vault's row, as far as a pull depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VaultHead {
    /// Name of the vault's history.
    pub epoch: Epoch,
    /// The vault's head: the latest `updated_at` that it has assigned.
    pub clock: Timestamp,
    /// The `updated_at` of the newest tombstone that was purged, if one was.
    pub(crate) purged_at: Option<Timestamp>,
}

/// Whether a client that knows an epoch expects another history than the vault's.
pub(crate) fn is_another_epoch(known: Option<&KnownEpoch>, vault: Option<VaultHead>) -> bool {
    known.is_some_and(|known| !vault.is_some_and(|vault| known.names(vault.epoch)))
}

/// The outcome, if the vault's row alone decides it, as it does for most pulls: no record is later than
/// the head. `None` if records must be read.
pub(crate) fn without_records(pull: &Pull, vault: Option<VaultHead>) -> Option<PullOutcome> {
    let cursor = pull.cursor.map(Cursor::timestamp);
    if is_another_epoch(pull.epoch.as_ref(), vault) {
        return Some(PullOutcome::EpochChanged);
    }
    if pull.epoch.is_some() && cursor > vault.map(|vault| vault.clock) {
        return Some(PullOutcome::CursorAhead);
    }
    if let (Some(since), Some(cursor)) = (pull.since, cursor) {
        // What is purged was seen by a client that began its last complete pull after it, or has passed it in
        // this one.
        let seen = since.timestamp().max(cursor);
        if vault.and_then(|vault| vault.purged_at) > Some(seen) {
            return Some(PullOutcome::CursorExpired);
        }
    }
    let has_later = vault.is_some_and(|vault| cursor < Some(vault.clock));
    (!has_later).then(|| page(vault, Vec::new(), false))
}

/// A page of these records, read from one snapshot with the vault's row.
pub(crate) fn page(vault: Option<VaultHead>, records: Vec<Record>, has_more: bool) -> PullOutcome {
    PullOutcome::Page(Page {
        next_cursor: records.last().map(|record| record.updated_at),
        records,
        has_more,
        epoch: vault.map(|vault| vault.epoch),
        head: vault.map(|vault| vault.clock),
    })
}

/// How many rows a backend reads for a page of an ordered listing: one more than its limit, to know whether there are further ones.
pub(crate) fn rows_max(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1
}
