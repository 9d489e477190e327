//! A history in a form that can be asked: names are numbers, begins and ends are paired, and pushes
//! of one body are attempts of one batch.
//!
//! Not here: any judgement, beyond that lines make a history at all.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{Digest, Event, InTheWay, Outcome, Request, Seen, Write};

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
    Conflict(Vec<Sighting>),
    Refused,
    Unknown,
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

/// Why events are no history, whatever a server did.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A number is begun twice.
    #[error("operation {0} begins twice")]
    BeginsTwice(u64),
    /// An end has no begin, or there is another one already.
    #[error("operation {0} ends without having begun, or twice")]
    EndsAlone(u64),
    /// An outcome does not fit its request.
    #[error("operation {0} ends as what was asked cannot end")]
    EndsOddly(u64),
    /// Nobody has read what the vault of a user holds in the end.
    #[error("there is no final state of {0}")]
    NoState(Arc<str>),
    /// A final state has one record twice.
    #[error("the final state of {0} has {1} twice")]
    StateTwice(Arc<str>, Arc<str>),
}

enum Open {
    Push(usize),
    Pull(usize),
}

#[derive(Default)]
struct Indexer {
    history: History,
    users: HashMap<Arc<str>, UserIndex>,
    records: HashMap<(UserIndex, Arc<str>), RecordIndex>,
    batches: HashMap<(UserIndex, Vec<Operation>), BatchIndex>,
    open: HashMap<u64, Open>,
    ended: HashSet<u64>,
    read: HashSet<UserIndex>,
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
            shown.iter().map(move |seen| (Some(attempt.number), seen))
        });
        let pages = self.pulls.iter().flat_map(|pull| {
            let shown = pull.page.as_ref().map_or(&[][..], |page| &page.records);
            shown.iter().map(move |seen| (Some(pull.number), seen))
        });
        let finals = self.finals.iter().flatten().map(|seen| (None, seen));
        conflicts.chain(pages).chain(finals)
    }
}

impl Indexer {
    fn add(&mut self, position: Position, event: &Event) -> Result<(), Malformed> {
        match event {
            Event::Begin { operation, user, device, request } => {
                if self.open.contains_key(operation) || self.ended.contains(operation) {
                    return Err(Malformed::BeginsTwice(*operation));
                }
                let user = self.user(user);
                let open = match request {
                    Request::Push { operations } => {
                        self.push(position, *operation, user, operations)
                    }
                    Request::Pull { cursor, limit } => {
                        self.history.pulls.push(Pull {
                            number: *operation,
                            user,
                            device: Arc::clone(device),
                            begin: position,
                            end: NEVER,
                            cursor: *cursor,
                            limit: *limit,
                            page: None,
                        });
                        Open::Pull(self.history.pulls.len() - 1)
                    }
                };
                self.open.insert(*operation, open);
                Ok(())
            }
            Event::End { operation, outcome } => self.end(position, *operation, outcome),
            Event::State { user, records } => {
                let index = self.user(user);
                self.read.insert(index);
                for seen in records {
                    let sighting = self.sighting(index, seen);
                    if self.history.finals[sighting.record].replace(sighting).is_some() {
                        let id = Arc::clone(&seen.record_id);
                        return Err(Malformed::StateTwice(Arc::clone(user), id));
                    }
                }
                Ok(())
            }
        }
    }

    fn push(
        &mut self,
        begin: Position,
        number: u64,
        user: UserIndex,
        operations: &[Write],
    ) -> Open {
        let operations: Vec<_> = operations
            .iter()
            .map(|write| Operation {
                record: self.record(user, &write.record_id),
                base: write.base_version,
                content: Content { digest: write.digest, deleted: write.deleted },
            })
            .collect();
        let history = &mut self.history;
        let batch =
            *self.batches.entry((user, operations)).or_insert_with_key(|(_, operations)| {
                let operations = operations.clone();
                history.batches.push(Batch { user, operations, attempts: vec![], possible: false });
                history.batches.len() - 1
            });
        let attempt = history.attempts.len();
        history.batches[batch].attempts.push(attempt);
        let outcome = PushOutcome::Unknown;
        history.attempts.push(Attempt { number, batch, begin, end: NEVER, outcome });
        Open::Push(attempt)
    }

    fn end(&mut self, end: Position, number: u64, outcome: &Outcome) -> Result<(), Malformed> {
        let open = self.open.remove(&number).ok_or(Malformed::EndsAlone(number))?;
        self.ended.insert(number);
        match open {
            Open::Push(index) => {
                let batch = self.history.attempts[index].batch;
                let told = self.told(batch, outcome).ok_or(Malformed::EndsOddly(number))?;
                let attempt = &mut self.history.attempts[index];
                attempt.outcome = told;
                attempt.end = end;
            }
            Open::Pull(index) => {
                let user = self.history.pulls[index].user;
                let page = match outcome {
                    Outcome::Page { records, next_cursor, has_more } => Some(Page {
                        records: records.iter().map(|seen| self.sighting(user, seen)).collect(),
                        next_cursor: *next_cursor,
                        has_more: *has_more,
                    }),
                    Outcome::Refused | Outcome::Unknown => None,
                    _ => return Err(Malformed::EndsOddly(number)),
                };
                let pull = &mut self.history.pulls[index];
                pull.page = page;
                pull.end = end;
            }
        }
        Ok(())
    }

    /// What the push of a batch was told; `None` where no server can have said so.
    fn told(&mut self, batch: BatchIndex, outcome: &Outcome) -> Option<PushOutcome> {
        match outcome {
            Outcome::Acknowledged { results } => {
                let batch = &self.history.batches[batch];
                let fits = results.len() == batch.operations.len()
                    && results.iter().zip(&batch.operations).all(|(result, operation)| {
                        result.record_id == *self.history.record_id(operation.record)
                    });
                let versions = results.iter().map(|result| (result.version, result.updated_at));
                fits.then(|| PushOutcome::Acknowledged(versions.collect()))
            }
            Outcome::Conflict { conflicts } => {
                let user = self.history.batches[batch].user;
                let shown = conflicts.iter().filter_map(|conflict| match conflict {
                    InTheWay::Record(seen) => Some(self.sighting(user, seen)),
                    InTheWay::Nothing => None,
                });
                Some(PushOutcome::Conflict(shown.collect()))
            }
            Outcome::Refused => Some(PushOutcome::Refused),
            Outcome::Unknown => Some(PushOutcome::Unknown),
            Outcome::Page { .. } => None,
        }
    }

    fn user(&mut self, name: &Arc<str>) -> UserIndex {
        if let Some(&user) = self.users.get(name) {
            return user;
        }
        let user = self.history.users.len();
        self.history.users.push(Arc::clone(name));
        self.users.insert(Arc::clone(name), user);
        user
    }

    fn record(&mut self, user: UserIndex, id: &Arc<str>) -> RecordIndex {
        let history = &mut self.history;
        *self.records.entry((user, Arc::clone(id))).or_insert_with(|| {
            history.records.push(RecordName { user, id: Arc::clone(id) });
            history.finals.push(None);
            history.records.len() - 1
        })
    }

    fn sighting(&mut self, user: UserIndex, seen: &Seen) -> Sighting {
        Sighting {
            record: self.record(user, &seen.record_id),
            version: seen.version,
            content: Content { digest: seen.digest, deleted: seen.deleted },
            at: seen.updated_at,
        }
    }

    fn finish(mut self) -> Result<History, Malformed> {
        for (user, name) in self.history.users.iter().enumerate() {
            if !self.read.contains(&user) {
                return Err(Malformed::NoState(Arc::clone(name)));
            }
        }
        for batch in &mut self.history.batches {
            batch.possible = batch.attempts.iter().any(|&attempt| {
                let outcome = &self.history.attempts[attempt].outcome;
                matches!(outcome, PushOutcome::Acknowledged(_) | PushOutcome::Unknown)
            });
        }
        Ok(self.history)
    }
}
