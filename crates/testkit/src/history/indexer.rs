//! Builds a [`History`] from events, if they make one.
//!
//! Not here: the checks.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    ConflictEntry, Event, Outcome, RecordView, Request, Write,
    index::{
        self, Attempt, Batch, BatchIndex, Content, History, NEVER, Observation, Operation, Page,
        Position, Pull, PushOutcome, RecordIndex, RecordName, UserIndex,
    },
};

/// Events that are no history, whatever the server did.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Two begins have the same number.
    #[error("operation {0} begins twice")]
    BeginsTwice(u64),
    /// An end has no begin, or there is another end already.
    #[error("operation {0} ends without a begin, or twice")]
    EndsAlone(u64),
    /// An outcome does not fit its request.
    #[error("operation {0} has an outcome that does not fit its request")]
    EndsOddly(u64),
    /// The final state of a user's vault was not recorded.
    #[error("there is no final state of {0}")]
    NoState(Arc<str>),
    /// A final state contains a record twice.
    #[error("the final state of {0} contains {1} twice")]
    StateTwice(Arc<str>, Arc<str>),
}

enum Open {
    Push(usize),
    Pull(usize),
}

/// A history that is being built.
#[derive(Default)]
pub(super) struct Indexer {
    history: History,
    users: HashMap<Arc<str>, UserIndex>,
    records: HashMap<(UserIndex, Arc<str>), RecordIndex>,
    batches: HashMap<(UserIndex, Vec<Operation>), BatchIndex>,
    open: HashMap<u64, Open>,
    ended: HashSet<u64>,
    users_with_state: HashSet<UserIndex>,
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
            Event::State { user, records } => self.state(user, records),
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
                let outcome =
                    self.push_outcome(batch, outcome).ok_or(Malformed::EndsOddly(number))?;
                let attempt = &mut self.history.attempts[index];
                attempt.outcome = outcome;
                attempt.end = end;
            }
            Open::Pull(index) => {
                let user = self.history.pulls[index].user;
                let page = match outcome {
                    Outcome::Page { records, next_cursor, has_more } => Some(Page {
                        records: records.iter().map(|view| self.observation(user, view)).collect(),
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

    fn state(&mut self, user: &Arc<str>, records: &[RecordView]) -> Result<(), Malformed> {
        let index = self.user(user);
        self.users_with_state.insert(index);
        for view in records {
            let observed = self.observation(index, view);
            if self.history.finals[observed.record].replace(observed).is_some() {
                let id = Arc::clone(&view.record_id);
                return Err(Malformed::StateTwice(Arc::clone(user), id));
            }
        }
        Ok(())
    }

    /// The outcome of a push of a batch; `None` if no server can have returned it.
    fn push_outcome(&mut self, batch: BatchIndex, outcome: &Outcome) -> Option<PushOutcome> {
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
                let entries = conflicts.iter().map(|conflict| match conflict {
                    ConflictEntry::Record(view) => {
                        let observed = self.observation(user, view);
                        index::ConflictEntry { record: observed.record, observed: Some(observed) }
                    }
                    ConflictEntry::Missing(id) => {
                        index::ConflictEntry { record: self.record(user, id), observed: None }
                    }
                });
                Some(PushOutcome::Conflict(entries.collect()))
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

    fn observation(&mut self, user: UserIndex, view: &RecordView) -> Observation {
        Observation {
            record: self.record(user, &view.record_id),
            version: view.version,
            content: Content { digest: view.digest, deleted: view.deleted },
            updated_at: view.updated_at,
        }
    }

    pub(super) fn finish(mut self) -> Result<History, Malformed> {
        for (user, name) in self.history.users.iter().enumerate() {
            if !self.users_with_state.contains(&user) {
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
