//! A history in indexed form: names are numbers, begins and ends are paired, and pushes with the same body
//! are attempts of one batch.
//!
//! Not here: how it is built from events, see [`indexer`](super::indexer); the checks.

use std::sync::Arc;

use super::{
    Digest, Event, VaultLabel,
    epochs::Epochs,
    indexer::{Indexer, Malformed},
};

/// Position of an event in the history; [`NEVER`] for a missing end.
pub(super) type Position = usize;

pub(super) const NEVER: Position = Position::MAX;

/// Indices of the epochs of vaults, of records in them, and of batches.
pub(super) type VaultIndex = usize;
pub(super) type RecordIndex = usize;
pub(super) type BatchIndex = usize;

/// A history that can be checked.
#[derive(Debug, Default)]
pub struct History {
    /// Each epoch of each vault: an erased vault begins anew, as another one.
    pub(super) vaults: Vec<VaultEpoch>,
    pub(super) records: Vec<RecordName>,
    pub(super) batches: Vec<Batch>,
    /// In the order of their begins.
    pub(super) attempts: Vec<Attempt>,
    /// In the order of their begins.
    pub(super) pulls: Vec<Pull>,
    /// The final state of each record; `None` if there is no such record, or its epoch was erased.
    pub(super) finals: Vec<Option<Observation>>,
}

/// One epoch of a vault.
#[derive(Debug)]
pub(super) struct VaultEpoch {
    pub(super) label: VaultLabel,
    /// How many epochs of the vault were erased before.
    pub(super) number: usize,
    /// `None` if it was not erased.
    pub(super) erasure: Option<Erasure>,
}

/// The erasure of an epoch.
#[derive(Clone, Debug)]
pub(super) struct Erasure {
    /// The request that was acknowledged first.
    pub(super) operation: u64,
    /// The erased epoch.
    pub(super) epoch: Arc<str>,
    /// No request to erase it was sent before this.
    pub(super) begin: Position,
    /// From here on a client knew that it is erased.
    pub(super) acknowledged: Position,
}

/// A record and its vault: the same id in two vaults names two records.
#[derive(Debug)]
pub(super) struct RecordName {
    pub(super) vault: VaultIndex,
    pub(super) id: Arc<str>,
}

/// What a write stores in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub(super) digest: Digest,
    pub(super) deleted: bool,
}

/// One write of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Operation {
    pub(super) record: RecordIndex,
    pub(super) base: Option<u64>,
    pub(super) content: Content,
}

impl Operation {
    /// The version that this write makes of a record at its base version.
    pub(super) fn next_version(&self) -> u64 {
        self.base.unwrap_or(0).saturating_add(1)
    }

    /// Whether the write can have made a version: the next one, or version 1 if there was no record.
    pub(super) fn may_make(&self, version: u64) -> bool {
        version == self.next_version() || version == 1
    }
}

/// A condition of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Guard {
    pub(super) record: RecordIndex,
    /// 0 if there must be no such record.
    pub(super) version: u64,
}

/// All pushes with the same body.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) vault: VaultIndex,
    pub(super) operations: Vec<Operation>,
    pub(super) guards: Vec<Guard>,
    pub(super) attempts: Vec<usize>,
    /// Whether it may have been applied: an attempt was acknowledged or has an unknown outcome.
    pub(super) possible: bool,
}

/// One push.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) number: u64,
    pub(super) batch: BatchIndex,
    pub(super) begin: Position,
    pub(super) end: Position,
    pub(super) outcome: PushOutcome,
}

impl Attempt {
    /// Whether the server may have applied the push at this attempt.
    pub(super) fn may_apply(&self) -> bool {
        matches!(self.outcome, PushOutcome::Acknowledged(_) | PushOutcome::Unknown)
    }
}

#[derive(Debug)]
pub(super) enum PushOutcome {
    /// The version of each write, and its `updated_at` if the server returned it.
    Acknowledged(Vec<(u64, Option<i64>)>),
    Conflict(Vec<ConflictEntry>),
    Refused,
    VaultErased,
    Unknown,
}

/// An entry of a conflict response.
#[derive(Debug)]
pub(super) struct ConflictEntry {
    pub(super) record: RecordIndex,
    /// `None` if the response says that there is no such record.
    pub(super) observed: Option<Observation>,
}

impl ConflictEntry {
    pub(super) fn version(&self) -> u64 {
        self.observed.map_or(0, |observed| observed.version)
    }
}

/// One pull.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) number: u64,
    pub(super) vault: VaultIndex,
    pub(super) device: Arc<str>,
    pub(super) begin: Position,
    pub(super) end: Position,
    pub(super) cursor: Option<i64>,
    pub(super) limit: usize,
    pub(super) page: Option<Page>,
    pub(super) is_erased: bool,
}

#[derive(Debug)]
pub(super) struct Page {
    pub(super) records: Vec<Observation>,
    pub(super) next_cursor: Option<i64>,
    pub(super) has_more: bool,
}

/// A record as a response or the final state showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) record: RecordIndex,
    pub(super) version: u64,
    pub(super) content: Content,
    pub(super) updated_at: i64,
}

impl History {
    /// Indexes the events of a recorder or a file.
    pub fn new(events: &[Event]) -> Result<Self, Malformed> {
        let mut indexer = Indexer::new(Epochs::of(events)?);
        for (position, event) in events.iter().enumerate() {
            indexer.add(position, event)?;
        }
        indexer.finish()
    }

    /// The id by which clients know a record.
    pub(super) fn record_id(&self, record: RecordIndex) -> &Arc<str> {
        &self.records[record].id
    }

    pub(super) fn vault_of(&self, record: RecordIndex) -> VaultIndex {
        self.records[record].vault
    }

    /// Whether the record's epoch was erased, so that its final state is not known.
    pub(super) fn is_erased(&self, record: RecordIndex) -> bool {
        self.vaults[self.vault_of(record)].erasure.is_some()
    }

    /// Every observed record, with the operation that returned it; `None` for the final state.
    pub(super) fn observations(&self) -> impl Iterator<Item = (Option<u64>, &Observation)> {
        let conflicts = self.attempts.iter().flat_map(|attempt| {
            let entries = match &attempt.outcome {
                PushOutcome::Conflict(entries) => entries.as_slice(),
                _ => &[],
            };
            let observed = entries.iter().filter_map(|entry| entry.observed.as_ref());
            observed.map(|observed| (Some(attempt.number), observed))
        });
        let pages = self.pulls.iter().flat_map(|pull| {
            let records = pull.page.as_ref().map_or(&[][..], |page| &page.records);
            records.iter().map(|observed| (Some(pull.number), observed))
        });
        let finals = self.finals.iter().flatten().map(|observed| (None, observed));
        conflicts.chain(pages).chain(finals)
    }
}
