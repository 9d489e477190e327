//! Where a page of a record's kept versions ends, for every backend.
//!
//! Not here: SQL; which versions are kept (`history`); the states at a cursor (`rewind`).

use vaultsync_protocol::{KeptVersion, RecordHistory, RecordId};

use crate::{ReadBudget, pull::VaultHead};

/// A page of the kept versions of a record that is being read.
pub(crate) struct HistoryPage<'a, R> {
    limit: usize,
    budget: &'a mut R,
    history: RecordHistory,
}

impl<'a, R: ReadBudget> HistoryPage<'a, R> {
    /// Nothing yet, from one snapshot with the vault's row.
    pub(crate) fn new(
        head: Option<VaultHead>,
        record_id: &RecordId,
        limit: usize,
        budget: &'a mut R,
    ) -> Self {
        let history = RecordHistory {
            record_id: record_id.clone(),
            versions: Vec::new(),
            next: None,
            epoch: head.map(|head| head.epoch),
            head: head.map(|head| head.clock),
        };
        Self { limit, budget, history }
    }

    /// Adds the next version. Returns false if the page ends before it: because of its limit, or because memory
    /// is used up, but never before the first version.
    pub(crate) fn add(&mut self, version: KeptVersion) -> bool {
        let versions = &mut self.history.versions;
        let fits = versions.len() < self.limit && (self.budget.take(0) || versions.is_empty());
        if fits {
            versions.push(version);
        } else {
            self.history.next = versions.last().map(|last| last.version);
        }
        fits
    }

    /// The page.
    pub(crate) fn finish(self) -> RecordHistory {
        self.history
    }
}
