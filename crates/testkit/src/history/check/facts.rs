//! What a history tells of each version of each record, put together from all who saw it.
//!
//! Not here: whether it may be so.

use std::collections::{HashMap, HashSet};

use crate::history::{
    Digest,
    index::{
        Attempt, Batch, BatchIndex, Content, History, NEVER, Position, PushOutcome, RecordIndex,
        Sighting, UserIndex,
    },
};

/// What is known of the versions of a history.
pub(super) struct Facts {
    pub(super) versions: HashMap<(RecordIndex, u64), Version>,
    /// The batches that have that write of a record.
    writers: HashMap<(RecordIndex, Content), Vec<BatchIndex>>,
    /// Who has written a ciphertext anywhere, and who was the first of them.
    owners: HashSet<(Digest, UserIndex)>,
    first_owner: HashMap<Digest, UserIndex>,
}

/// What is known of one version of a record.
pub(super) struct Version {
    /// What it was told to hold: one content, where all is well.
    pub(super) told: Vec<Told>,
    /// Its `updated_at`, as somebody was first told.
    pub(super) at: Option<i64>,
    /// Before this, no push that may have made it was sent; [`NEVER`] where none was sent at all.
    pub(super) begin: Position,
    /// From this on somebody knew it to be written; [`NEVER`] where nobody was told.
    pub(super) acknowledged: Position,
    /// Before this, no push that may have made a later version was sent.
    pub(super) superseded: Position,
}

/// A content that a version was told to hold.
pub(super) struct Told {
    pub(super) content: Content,
    /// By which operation; by none where the final state tells it.
    pub(super) operation: Option<u64>,
    /// Whether it was acknowledged, and not only shown.
    pub(super) acknowledged: bool,
}

/// Where something that was shown comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A push that may have been applied.
    Possible,
    /// Pushes that were told that nothing is written; one of them.
    Refused(BatchIndex),
    /// No push makes this version of it, though this one writes the same on another base.
    OtherBase(BatchIndex),
    /// Nobody wrote it to that record, and only others wrote it at all; one of them.
    Another(UserIndex),
    /// Nobody wrote it to that record.
    Nobody,
}

impl Default for Version {
    fn default() -> Self {
        Self { told: vec![], at: None, begin: NEVER, acknowledged: NEVER, superseded: NEVER }
    }
}

impl Facts {
    pub(super) fn of(history: &History) -> Self {
        let mut facts = Self {
            versions: HashMap::new(),
            writers: HashMap::new(),
            owners: HashSet::new(),
            first_owner: HashMap::new(),
        };
        for (index, batch) in history.batches.iter().enumerate() {
            for operation in &batch.operations {
                let key = (operation.record, operation.content);
                facts.writers.entry(key).or_default().push(index);
                let digest = operation.content.digest;
                facts.owners.insert((digest, batch.user));
                facts.first_owner.entry(digest).or_insert(batch.user);
            }
            if batch.possible {
                facts.add_begins(history, batch);
            }
        }
        for attempt in &history.attempts {
            if let PushOutcome::Acknowledged(results) = &attempt.outcome {
                facts.add_acknowledged(&history.batches[attempt.batch], attempt, results);
            }
        }
        for (operation, seen) in history.sightings() {
            facts.add_shown(operation, seen);
        }
        facts.add_superseded(history);
        facts
    }

    pub(super) fn version(&self, record: RecordIndex, version: u64) -> Option<&Version> {
        self.versions.get(&(record, version))
    }

    /// The batches that have this write and may have made this version of it.
    pub(super) fn makers<'a>(
        &'a self,
        history: &'a History,
        record: RecordIndex,
        version: u64,
        content: Content,
    ) -> impl Iterator<Item = BatchIndex> + 'a {
        self.writers_of(record, content).iter().copied().filter(move |&batch| {
            let batch = &history.batches[batch];
            batch.possible && makes(batch, record, version)
        })
    }

    /// Where a record of that version and content comes from.
    pub(super) fn origin(&self, history: &History, seen: &Sighting) -> Origin {
        if self.makers(history, seen.record, seen.version, seen.content).next().is_some() {
            return Origin::Possible;
        }
        let writers = self.writers_of(seen.record, seen.content);
        let refused = writers
            .iter()
            .find(|&&batch| makes(&history.batches[batch], seen.record, seen.version));
        match (refused, writers.first()) {
            (Some(&batch), _) => Origin::Refused(batch),
            (None, Some(&batch)) => Origin::OtherBase(batch),
            (None, None) => {
                let digest = seen.content.digest;
                match self.first_owner.get(&digest) {
                    Some(&owner)
                        if !self.owners.contains(&(digest, history.user_of(seen.record))) =>
                    {
                        Origin::Another(owner)
                    }
                    _ => Origin::Nobody,
                }
            }
        }
    }

    fn writers_of(&self, record: RecordIndex, content: Content) -> &[BatchIndex] {
        self.writers.get(&(record, content)).map_or(&[], Vec::as_slice)
    }

    /// When the pushes of a batch that may have been applied began, for each version that they may
    /// have made.
    fn add_begins(&mut self, history: &History, batch: &Batch) {
        let attempts = batch.attempts.iter().map(|&attempt| &history.attempts[attempt]);
        let (mut begin, mut unknown) = (NEVER, false);
        let mut acknowledged = Vec::new();
        for attempt in attempts {
            match &attempt.outcome {
                PushOutcome::Acknowledged(results) => acknowledged.push(results),
                PushOutcome::Unknown => unknown = true,
                PushOutcome::Conflict(_) | PushOutcome::Refused => continue,
            }
            begin = begin.min(attempt.begin);
        }
        for (index, operation) in batch.operations.iter().enumerate() {
            let told = acknowledged.iter().map(|results| results[index].0);
            // Where an attempt's end is not known, it may have made either version that it can.
            let may_be = unknown.then_some([operation.next_version(), 1]);
            for version in told.chain(may_be.into_iter().flatten()) {
                if operation.may_make(version) {
                    let version = self.versions.entry((operation.record, version)).or_default();
                    version.begin = version.begin.min(begin);
                }
            }
        }
    }

    fn add_acknowledged(
        &mut self,
        batch: &Batch,
        attempt: &Attempt,
        results: &[(u64, Option<i64>)],
    ) {
        for (operation, &(number, at)) in batch.operations.iter().zip(results) {
            let version = self.versions.entry((operation.record, number)).or_default();
            version.at = version.at.or(at);
            version.acknowledged = version.acknowledged.min(attempt.end);
            version.tell(operation.content, Some(attempt.number), true);
        }
    }

    fn add_shown(&mut self, operation: Option<u64>, seen: &Sighting) {
        let version = self.versions.entry((seen.record, seen.version)).or_default();
        version.at = version.at.or(Some(seen.at));
        version.tell(seen.content, operation, false);
    }

    fn add_superseded(&mut self, history: &History) {
        let mut of_records = vec![Vec::new(); history.records.len()];
        for (&(record, number), version) in &self.versions {
            of_records[record].push((number, version.begin));
        }
        for (record, versions) in of_records.iter_mut().enumerate() {
            versions.sort_unstable();
            let mut later = NEVER;
            for &(number, begin) in versions.iter().rev() {
                if let Some(version) = self.versions.get_mut(&(record, number)) {
                    version.superseded = later;
                }
                later = later.min(begin);
            }
        }
    }
}

impl Version {
    fn tell(&mut self, content: Content, operation: Option<u64>, acknowledged: bool) {
        match self.told.iter_mut().find(|told| told.content == content) {
            Some(told) if acknowledged && !told.acknowledged => {
                *told = Told { content, operation, acknowledged };
            }
            Some(_) => {}
            None => self.told.push(Told { content, operation, acknowledged }),
        }
    }
}

fn makes(batch: &Batch, record: RecordIndex, version: u64) -> bool {
    batch
        .operations
        .iter()
        .any(|operation| operation.record == record && operation.may_make(version))
}
