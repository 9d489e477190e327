//! What every database does alike to read a page.

use vaultsync_protocol::{Cursor, Epoch, Page, Pull, Record, Timestamp};

use crate::PullOutcome;

/// What a pull must know of a vault beside its records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VaultHead {
    pub(crate) epoch: Epoch,
    /// The vault's clock, which is the last `updated_at` it has handed out.
    pub(crate) clock: Timestamp,
}

/// The outcome where the vault's row alone tells it, which for most pulls it does: no record can be later
/// than the clock. `None` where records have to be read.
pub(crate) fn without_records(pull: &Pull, vault: Option<VaultHead>) -> Option<PullOutcome> {
    let cursor = pull.cursor.map(Cursor::timestamp);
    if let Some(known) = &pull.epoch {
        match vault {
            Some(vault) if known.names(vault.epoch) => {
                if cursor > Some(vault.clock) {
                    return Some(PullOutcome::CursorAhead);
                }
            }
            _ => return Some(PullOutcome::EpochChanged),
        }
    }
    let has_later = vault.is_some_and(|vault| cursor < Some(vault.clock));
    (!has_later).then(|| page(vault, Vec::new(), false))
}

/// A page of these records, as read in one snapshot with the vault's row.
pub(crate) fn page(vault: Option<VaultHead>, records: Vec<Record>, has_more: bool) -> PullOutcome {
    PullOutcome::Page(Page {
        next_cursor: records.last().map(|record| record.updated_at),
        records,
        has_more,
        epoch: vault.map(|vault| vault.epoch),
        head: vault.map(|vault| vault.clock),
    })
}
