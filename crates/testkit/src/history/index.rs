//! A history in a form that can be asked: names are numbers, begins and ends are paired, and pushes
//! of one body are attempts of one batch.
//!
//! Not here: how it is made from events, see [`indexer`](super::indexer); any judgement.

use std::sync::Arc;

use super::{
    Digest, Event,
    indexer::{Indexer, Malformed},
};

/// Where an event stands in the history; [`NEVER`] for an end that is not there.
pub(super) type Position = usize;

pub(super) const NEVER: Position = Position::MAX;

/// A user, a record of a user, and a batch, each by its number.
pub(super) type UserIndex = usize;
pub(super) type RecordIndex = usize;
pub(super) type BatchIndex = usize;

/// A history that can be checked.
#[derive(Debug, Default)]
pub struct History {
    pub(super) users: Vec<Arc<str>>,
    pub(super) records: Vec<RecordName>,
    pub(super) batches: Vec<Batch>,
    /// In the order of their begins.
    pub(super) attempts: Vec<Attempt>,
    /// In the order of their begins.
    pub(super) pulls: Vec<Pull>,
    /// What each record is in the end; records that are not there are `None`.
    pub(super) finals: Vec<Option<Sighting>>,
}

/// A record belongs to a user: the same id in two vaults is two records.
#[derive(Debug)]
pub(super) struct RecordName {
    pub(super) user: UserIndex,
    pub(super) id: Arc<str>,
}

/// What a write leaves in a record.
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

    /// Whether it can have made that version: the next one, or the first where there was no record.
    pub(super) fn may_make(&self, version: u64) -> bool {
        version == self.next_version() || version == 1
    }
}

/// The pushes of one body.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) user: UserIndex,
    pub(super) operations: Vec<Operation>,
    pub(super) attempts: Vec<usize>,
    /// Whether it may have been applied: some attempt was acknowledged, or is of unknown outcome.
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

#[derive(Debug)]
pub(super) enum PushOutcome {
    /// Version and, where it was told, time of each write.
    Acknowledged(Vec<(u64, Option<i64>)>),
    Conflict(Vec<InTheWay>),
    Refused,
    Unknown,
}

/// What was shown in the way of a push.
#[derive(Debug)]
pub(super) struct InTheWay {
    pub(super) record: RecordIndex,
    /// `None`: that there is no such record.
    pub(super) seen: Option<Sighting>,
}

impl InTheWay {
    pub(super) fn version(&self) -> u64 {
        self.seen.map_or(0, |seen| seen.version)
    }
}

/// One pull.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) number: u64,
    pub(super) user: UserIndex,
    pub(super) device: Arc<str>,
    pub(super) begin: Position,
    pub(super) end: Position,
    pub(super) cursor: Option<i64>,
    pub(super) limit: usize,
    pub(super) page: Option<Page>,
}

#[derive(Debug)]
pub(super) struct Page {
    pub(super) records: Vec<Sighting>,
    pub(super) next_cursor: Option<i64>,
    pub(super) has_more: bool,
}

/// A record as somebody was shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) record: RecordIndex,
    pub(super) version: u64,
    pub(super) content: Content,
    pub(super) at: i64,
}

impl History {
    /// Takes the events of a recorder or a file.
    pub fn new(events: &[Event]) -> Result<Self, Malformed> {
        let mut indexer = Indexer::default();
        for (position, event) in events.iter().enumerate() {
            indexer.add(position, event)?;
        }
        indexer.finish()
    }

    /// What people call a record.
    pub(super) fn record_id(&self, record: RecordIndex) -> &Arc<str> {
        &self.records[record].id
    }

    pub(super) fn user_of(&self, record: RecordIndex) -> UserIndex {
        self.records[record].user
    }

    /// Everything that anybody was shown, and by which operation; the final state by none.
    pub(super) fn sightings(&self) -> impl Iterator<Item = (Option<u64>, &Sighting)> {
        let conflicts = self.attempts.iter().flat_map(|attempt| {
            let shown = match &attempt.outcome {
                PushOutcome::Conflict(shown) => shown.as_slice(),
                _ => &[],
            };
            shown.iter().filter_map(move |shown| Some((Some(attempt.number), shown.seen.as_ref()?)))
        });
        let pages = self.pulls.iter().flat_map(|pull| {
            let shown = pull.page.as_ref().map_or(&[][..], |page| &page.records);
            shown.iter().map(move |seen| (Some(pull.number), seen))
        });
        let finals = self.finals.iter().flatten().map(|seen| (None, seen));
        conflicts.chain(pages).chain(finals)
    }
}
