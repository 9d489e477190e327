//! Where a page of a manifest ends, for every backend.
//!
//! Not here: SQL.

use vaultsync_protocol::{Manifest, ManifestEntry, ManifestRequest};

use crate::{ReadBudget, pull::VaultHead};

/// A page of a manifest that is being read.
pub(crate) struct ManifestPage<'a, R> {
    limit: usize,
    budget: &'a mut R,
    manifest: Manifest,
}

impl<'a, R: ReadBudget> ManifestPage<'a, R> {
    /// Nothing yet, from one snapshot with the vault's row.
    pub(crate) fn new(
        head: Option<VaultHead>,
        request: &ManifestRequest,
        budget: &'a mut R,
    ) -> Self {
        let manifest = Manifest {
            epoch: head.map(|head| head.epoch),
            head: head.map(|head| head.clock),
            ..Manifest::default()
        };
        Self { limit: request.limit, budget, manifest }
    }

    /// Adds the next entry. Returns false if the page ends before it: because of its limit, or because memory
    /// is used up, but never before the first entry.
    pub(crate) fn add(&mut self, entry: ManifestEntry) -> bool {
        let entries = &mut self.manifest.entries;
        let fits = entries.len() < self.limit
            && (self.budget.take(entry.record_id.as_str().len()) || entries.is_empty());
        if fits {
            entries.push(entry);
        } else {
            self.manifest.next = entries.last().map(|last| last.record_id.clone());
        }
        fits
    }

    /// The page.
    pub(crate) fn finish(self) -> Manifest {
        self.manifest
    }
}
