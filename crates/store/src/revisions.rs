//! Pages of a vault's kept versions with their ciphertexts, for exports: what is asked for, and where a page ends,
//! for every backend.
//!
//! Not here: SQL; which versions are kept (`history`); the parts of a history that clients ask for
//! (`vaultsync_protocol::history`).

use vaultsync_protocol::{KnownEpoch, RecordId, RecordVersion, Timestamp, Version};

use crate::{ReadBudget, pull::VaultHead};

/// Maximum number of versions in one page: what a statement reads at most.
pub(crate) const PAGE_VERSIONS_MAX: i64 = 1000;

/// Request for a page of a vault's kept versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevisionsRequest {
    /// Epoch of the history that the client expects to read, if it is known.
    pub epoch: Option<KnownEpoch>,
    /// The last version of the page before; `None` for the first page.
    pub after: Option<VersionKey>,
}

/// A record's id and one of its versions.
pub type VersionKey = (RecordId, Version);

/// One page of a vault's kept versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revisions {
    /// The versions in the order of record ids and versions. There are none only if no version follows.
    pub versions: Vec<RecordVersion>,
    /// The vault's clock when they were read; `None` if nothing was ever pushed.
    pub head: Option<Timestamp>,
}

/// Outcome of a read of a vault's kept versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevisionsOutcome {
    /// One page.
    Page(Revisions),
    /// The client names another epoch than the vault's.
    EpochChanged,
    /// The client names an epoch of the vault that was erased.
    VaultErased,
}

impl RevisionsRequest {
    /// The request for the page after one; `None` after the last page.
    #[must_use]
    pub fn after_page(self, page: &Revisions) -> Option<Self> {
        let last = page.versions.last()?;
        Some(Self { after: Some((last.record_id.clone(), last.version)), ..self })
    }

    /// The key after which the page begins. Every key is later than the default.
    pub(crate) fn after(&self) -> (&str, i64) {
        self.after
            .as_ref()
            .map_or(("", 0), |(record_id, version)| (record_id.as_str(), version.get()))
    }
}

/// A page that is being read.
pub(crate) struct RevisionsPage<'a, R> {
    budget: &'a mut R,
    bytes: usize,
    bytes_max: usize,
    page: Revisions,
}

impl<'a, R: ReadBudget> RevisionsPage<'a, R> {
    /// Nothing yet, from one snapshot with the vault's row. `bytes_max` limits the ciphertext.
    pub(crate) fn new(head: Option<VaultHead>, bytes_max: usize, budget: &'a mut R) -> Self {
        let page = Revisions { versions: Vec::new(), head: head.map(|head| head.clock) };
        Self { budget, bytes: 0, bytes_max, page }
    }

    /// Takes room for the next version. If there is none the page ends before it. The first version has room in
    /// any case.
    pub(crate) fn take(&mut self, ciphertext_bytes: usize) -> bool {
        self.bytes += ciphertext_bytes;
        let fits = self.budget.take(ciphertext_bytes) && self.bytes <= self.bytes_max;
        fits || self.page.versions.is_empty()
    }

    /// Adds a version for which there was room.
    pub(crate) fn add(&mut self, version: RecordVersion) {
        self.page.versions.push(version);
    }

    /// The page.
    pub(crate) fn finish(self) -> RevisionsOutcome {
        RevisionsOutcome::Page(self.page)
    }
}
