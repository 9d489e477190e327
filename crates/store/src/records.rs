//! Where the response to a read of records by id is cut, for every backend.
//!
//! Not here: SQL.

use vaultsync_protocol::{DigestedRecord, FoundRecords, RecordId};

use crate::{ReadBudget, pull::VaultHead};

/// What was found so far, in the order of the request.
pub(crate) struct Lookup<'a, R> {
    budget: &'a mut R,
    bytes: usize,
    bytes_max: usize,
    found: FoundRecords,
}

impl<'a, R: ReadBudget> Lookup<'a, R> {
    /// Nothing yet, from one snapshot with the vault's row. `bytes_max` limits the ciphertext.
    pub(crate) fn new(head: Option<VaultHead>, bytes_max: usize, budget: &'a mut R) -> Self {
        let found = FoundRecords {
            epoch: head.map(|head| head.epoch),
            head: head.map(|head| head.clock),
            ..FoundRecords::default()
        };
        Self { budget, bytes: 0, bytes_max, found }
    }

    /// Takes room for the next record. If there is none the response is cut before it. The first record has
    /// room in any case.
    pub(crate) fn take(&mut self, ciphertext_bytes: usize) -> bool {
        self.bytes += ciphertext_bytes;
        let fits = self.budget.take(ciphertext_bytes) && self.bytes <= self.bytes_max;
        let has_room = fits || self.found.records.is_empty();
        self.found.has_more |= !has_room;
        has_room
    }

    /// Adds a record for which there was room.
    pub(crate) fn add(&mut self, record: DigestedRecord) {
        self.found.records.push(record);
    }

    /// Adds an id without a record.
    pub(crate) fn add_missing(&mut self, record_id: RecordId) {
        self.found.missing.push(record_id);
    }

    /// Cuts the response before the next id.
    pub(crate) fn cut(&mut self) {
        self.found.has_more = true;
    }

    /// The response.
    pub(crate) fn finish(self) -> FoundRecords {
        self.found
    }
}
