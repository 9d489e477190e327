//! How events become a [`History`], where they make one.
//!
//! Not here: whether a server may have done so.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Event, InTheWay, Outcome, Request, Seen, Write,
    index::{
        self, Attempt, Batch, BatchIndex, Content, History, NEVER, Operation, Page, Position, Pull,
        PushOutcome, RecordIndex, RecordName, Sighting, UserIndex,
    },
};

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

/// A history in the making.
#[derive(Default)]
pub(super) struct Indexer {
    history: History,
    users: HashMap<Arc<str>, UserIndex>,
    records: HashMap<(UserIndex, Arc<str>), RecordIndex>,
    batches: HashMap<(UserIndex, Vec<Operation>), BatchIndex>,
    open: HashMap<u64, Open>,
    ended: HashSet<u64>,
    read: HashSet<UserIndex>,
}

impl Indexer {
    pub(super) fn add(&mut self, position: Position, event: &Event) -> Result<(), Malformed> {
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
                let shown = conflicts.iter().map(|conflict| match conflict {
                    InTheWay::Record(seen) => {
                        let seen = self.sighting(user, seen);
                        index::InTheWay { record: seen.record, seen: Some(seen) }
                    }
                    InTheWay::Nothing(id) => {
                        index::InTheWay { record: self.record(user, id), seen: None }
                    }
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

    pub(super) fn finish(mut self) -> Result<History, Malformed> {
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
