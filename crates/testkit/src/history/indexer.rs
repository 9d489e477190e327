//! Builds a [`History`] from events, if they make one.
//!
//! Not here: the checks.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    ConflictEntry, Event, GuardView, Outcome, RecordView, Request, VaultLabel, Write,
    epochs::Epochs,
    index::{
        self, Attempt, Batch, BatchIndex, Content, Guard, History, NEVER, Observation, Operation,
        Page, Position, Pull, PushOutcome, RecordIndex, RecordName, VaultEpoch, VaultIndex,
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
    /// The final state of a vault was not recorded.
    #[error("there is no final state of {0}")]
    NoState(VaultLabel),
    /// A final state contains a record twice.
    #[error("the final state of {0} contains {1} twice")]
    StateTwice(VaultLabel, Arc<str>),
    /// It is not known whether an epoch was erased.
    #[error("operation {0} erases an epoch, and no request to do so was acknowledged")]
    UndecidedErasure(u64),
    /// A push names no epoch, and the vault may have been erased before it was applied or after.
    #[error("operation {0} pushes without an epoch during an erasure")]
    AmbiguousPush(u64),
}

enum Open {
    Push(usize),
    Pull(usize),
    Erase,
}

/// A history that is being built.
#[derive(Default)]
pub(super) struct Indexer {
    history: History,
    epochs: Epochs,
    vaults: HashMap<(VaultLabel, usize), VaultIndex>,
    records: HashMap<(VaultIndex, Arc<str>), RecordIndex>,
    batches: HashMap<(VaultIndex, Vec<Operation>, Vec<Guard>), BatchIndex>,
    open: HashMap<u64, Open>,
    ended: HashSet<u64>,
    vaults_with_state: HashSet<VaultIndex>,
}

impl Indexer {
    pub(super) fn new(epochs: Epochs) -> Self {
        Self { epochs, ..Self::default() }
    }

    pub(super) fn add(&mut self, position: Position, event: &Event) -> Result<(), Malformed> {
        match event {
            Event::Begin { operation, vault, device, request } => {
                if self.open.contains_key(operation) || self.ended.contains(operation) {
                    return Err(Malformed::BeginsTwice(*operation));
                }
                let epoch = self.epochs.number(vault, position, *operation, request)?;
                let vault = self.vault(vault, epoch);
                let open = match request {
                    Request::Push { operations, guards, .. } => {
                        self.push(position, *operation, vault, operations, guards)
                    }
                    Request::Erase { .. } => Open::Erase,
                    Request::Pull { cursor, limit, .. } => {
                        self.history.pulls.push(Pull {
                            number: *operation,
                            vault,
                            device: Arc::clone(device),
                            begin: position,
                            end: NEVER,
                            cursor: *cursor,
                            limit: *limit,
                            page: None,
                            is_erased: false,
                        });
                        Open::Pull(self.history.pulls.len() - 1)
                    }
                };
                self.open.insert(*operation, open);
                Ok(())
            }
            Event::End { operation, outcome } => self.end(position, *operation, outcome),
            Event::State { vault, records } => self.state(vault, records),
        }
    }

    fn push(
        &mut self,
        begin: Position,
        number: u64,
        vault: VaultIndex,
        operations: &[Write],
        guards: &[GuardView],
    ) -> Open {
        let operations: Vec<_> = operations
            .iter()
            .map(|write| Operation {
                record: self.record(vault, &write.record_id),
                base: write.base_version,
                content: Content { digest: write.digest, deleted: write.deleted },
            })
            .collect();
        let guards: Vec<_> = guards
            .iter()
            .map(|guard| Guard {
                record: self.record(vault, &guard.record_id),
                version: guard.version,
            })
            .collect();
        let history = &mut self.history;
        let batch = *self.batches.entry((vault, operations, guards)).or_insert_with_key(
            |(_, operations, guards)| {
                let (operations, guards) = (operations.clone(), guards.clone());
                let (attempts, possible) = (vec![], false);
                history.batches.push(Batch { vault, operations, guards, attempts, possible });
                history.batches.len() - 1
            },
        );
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
                let vault = self.history.pulls[index].vault;
                let page = match outcome {
                    Outcome::Page { records, next_cursor, has_more, .. } => Some(Page {
                        records: records.iter().map(|view| self.observation(vault, view)).collect(),
                        next_cursor: *next_cursor,
                        has_more: *has_more,
                    }),
                    Outcome::Refused | Outcome::Unknown | Outcome::VaultErased => None,
                    _ => return Err(Malformed::EndsOddly(number)),
                };
                let pull = &mut self.history.pulls[index];
                pull.page = page;
                pull.is_erased = *outcome == Outcome::VaultErased;
                pull.end = end;
            }
            Open::Erase => {
                if !matches!(outcome, Outcome::Erased | Outcome::Refused | Outcome::Unknown) {
                    return Err(Malformed::EndsOddly(number));
                }
            }
        }
        Ok(())
    }

    fn state(&mut self, vault: &VaultLabel, records: &[RecordView]) -> Result<(), Malformed> {
        let index = self.vault(vault, self.epochs.erasures(vault).len());
        self.vaults_with_state.insert(index);
        for view in records {
            let observed = self.observation(index, view);
            if self.history.finals[observed.record].replace(observed).is_some() {
                let id = Arc::clone(&view.record_id);
                return Err(Malformed::StateTwice(vault.clone(), id));
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
                let vault = self.history.batches[batch].vault;
                let entries = conflicts.iter().map(|conflict| match conflict {
                    ConflictEntry::Record(view) => {
                        let observed = self.observation(vault, view);
                        index::ConflictEntry { record: observed.record, observed: Some(observed) }
                    }
                    ConflictEntry::Missing(id) => {
                        index::ConflictEntry { record: self.record(vault, id), observed: None }
                    }
                });
                Some(PushOutcome::Conflict(entries.collect()))
            }
            Outcome::Refused => Some(PushOutcome::Refused),
            Outcome::VaultErased => Some(PushOutcome::VaultErased),
            Outcome::Unknown => Some(PushOutcome::Unknown),
            Outcome::Page { .. } | Outcome::Erased => None,
        }
    }

    fn vault(&mut self, label: &VaultLabel, number: usize) -> VaultIndex {
        if let Some(&vault) = self.vaults.get(&(label.clone(), number)) {
            return vault;
        }
        let vault = self.history.vaults.len();
        let erasure = self.epochs.erasures(label).get(number).cloned();
        self.history.vaults.push(VaultEpoch { label: label.clone(), number, erasure });
        self.vaults.insert((label.clone(), number), vault);
        vault
    }

    fn record(&mut self, vault: VaultIndex, id: &Arc<str>) -> RecordIndex {
        let history = &mut self.history;
        *self.records.entry((vault, Arc::clone(id))).or_insert_with(|| {
            history.records.push(RecordName { vault, id: Arc::clone(id) });
            history.finals.push(None);
            history.records.len() - 1
        })
    }

    fn observation(&mut self, vault: VaultIndex, view: &RecordView) -> Observation {
        Observation {
            record: self.record(vault, &view.record_id),
            version: view.version,
            content: Content { digest: view.digest, deleted: view.deleted },
            updated_at: view.updated_at,
        }
    }

    pub(super) fn finish(mut self) -> Result<History, Malformed> {
        for (index, vault) in self.history.vaults.iter().enumerate() {
            if vault.erasure.is_none() && !self.vaults_with_state.contains(&index) {
                return Err(Malformed::NoState(vault.label.clone()));
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
