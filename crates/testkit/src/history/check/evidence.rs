//! What a history says about each version of each record, collected from every response and final state.
//!
//! Not here: whether it breaks a promise.

use std::collections::{HashMap, HashSet};

use crate::history::{
    Digest,
    index::{
        Attempt, Batch, BatchIndex, Content, History, NEVER, Observation, Position, PushOutcome,
        RecordIndex, VaultIndex,
    },
};

/// The collected evidence of a history.
pub(super) struct Evidence {
    pub(super) versions: HashMap<(RecordIndex, u64), Version>,
    /// Content that was observed, was never acknowledged, and cannot come from any push.
    pub(super) unexplained: Vec<UnexplainedContent>,
    /// The batches that write a content to a record.
    writers: HashMap<(RecordIndex, Content), Vec<BatchIndex>>,
    /// The vaults in which a ciphertext was written to any record, and the first of them.
    owners: HashSet<(Digest, VaultIndex)>,
    first_owner: HashMap<Digest, VaultIndex>,
}

/// The evidence about one version of a record.
pub(super) struct Version {
    /// The contents that the version was reported to hold: one if the server is correct.
    pub(super) claims: Vec<Claim>,
    /// Its `updated_at`, from the first response that has it.
    pub(super) updated_at: Option<i64>,
    /// No push that may have made it was sent before this; [`NEVER`] if none was sent at all.
    pub(super) begin: Position,
    /// From here on a client knew that it is written; [`NEVER`] if no push was acknowledged for it.
    pub(super) acknowledged: Position,
    /// No push that may have made a later version was sent before this.
    pub(super) superseded: Position,
}

/// A content that a version was reported to hold.
pub(super) struct Claim {
    pub(super) content: Content,
    /// The operation that reported it; `None` for the final state.
    pub(super) operation: Option<u64>,
    /// Whether it was acknowledged, not only returned in a page or a conflict.
    pub(super) acknowledged: bool,
}

/// A version that was observed with a content that no push can have written.
pub(super) struct UnexplainedContent {
    pub(super) record: RecordIndex,
    pub(super) version: u64,
    /// The operation that observed it first; `None` if only the final state has it.
    pub(super) operation: Option<u64>,
    pub(super) origin: Origin,
}

/// The origin of unexplained content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Pushes whose responses said that nothing is written; one of them.
    RefusedPush(BatchIndex),
    /// No push makes this version of it, but a push writes the same content on another base version.
    OtherBase,
    /// No push wrote it to this record, and it was written only to other vaults; one of them.
    OtherVault(VaultIndex),
    /// No push wrote it to this record in this epoch, but one did before the vault was erased.
    ErasedEpoch(VaultIndex),
    /// No push wrote it to this record.
    Unknown,
}

impl Default for Version {
    fn default() -> Self {
        Self {
            claims: vec![],
            updated_at: None,
            begin: NEVER,
            acknowledged: NEVER,
            superseded: NEVER,
        }
    }
}

impl Evidence {
    pub(super) fn of(history: &History) -> Self {
        let mut evidence = Self {
            versions: HashMap::new(),
            unexplained: Vec::new(),
            writers: HashMap::new(),
            owners: HashSet::new(),
            first_owner: HashMap::new(),
        };
        for (index, batch) in history.batches.iter().enumerate() {
            for operation in &batch.operations {
                let key = (operation.record, operation.content);
                evidence.writers.entry(key).or_default().push(index);
                let digest = operation.content.digest;
                evidence.owners.insert((digest, batch.vault));
                evidence.first_owner.entry(digest).or_insert(batch.vault);
            }
            if batch.possible {
                evidence.add_begins(history, batch);
            }
        }
        for attempt in &history.attempts {
            if let PushOutcome::Acknowledged(results) = &attempt.outcome {
                evidence.add_acknowledged(&history.batches[attempt.batch], attempt, results);
            }
        }
        for (operation, observed) in history.observations() {
            evidence.add_observation(operation, observed);
        }
        evidence.add_superseded(history);
        evidence.unexplained = evidence.find_unexplained(history);
        evidence
    }

    pub(super) fn version(&self, record: RecordIndex, version: u64) -> Option<&Version> {
        self.versions.get(&(record, version))
    }

    /// The contents that a version was reported to hold.
    pub(super) fn claims(&self, record: RecordIndex, version: u64) -> &[Claim] {
        self.version(record, version).map_or(&[], |version| &version.claims)
    }

    /// The batches that write this content and may have made this version of the record.
    pub(super) fn makers<'a>(
        &'a self,
        history: &'a History,
        record: RecordIndex,
        version: u64,
        content: Content,
    ) -> impl Iterator<Item = BatchIndex> + 'a {
        self.writers_of(record, content).iter().copied().filter(move |&batch| {
            let batch = &history.batches[batch];
            batch.possible && may_make(batch, record, version)
        })
    }

    fn find_unexplained(&self, history: &History) -> Vec<UnexplainedContent> {
        let mut unexplained = Vec::new();
        for (&(record, version), evidence) in &self.versions {
            for claim in evidence.claims.iter().filter(|claim| !claim.acknowledged) {
                let operation = claim.operation;
                if let Some(origin) = self.origin(history, record, version, claim.content) {
                    unexplained.push(UnexplainedContent { record, version, operation, origin });
                }
            }
        }
        unexplained
    }

    /// The origin of unexplained content; `None` if a push that may have been applied explains it.
    fn origin(
        &self,
        history: &History,
        record: RecordIndex,
        version: u64,
        content: Content,
    ) -> Option<Origin> {
        if self.makers(history, record, version, content).next().is_some() {
            return None;
        }
        let writers = self.writers_of(record, content);
        let refused =
            writers.iter().find(|&&batch| may_make(&history.batches[batch], record, version));
        Some(match (refused, writers.first()) {
            (Some(&batch), _) => Origin::RefusedPush(batch),
            (None, Some(_)) => Origin::OtherBase,
            (None, None) => match self.first_owner.get(&content.digest) {
                Some(&owner) if !self.is_written_by(history.vault_of(record), content) => {
                    let label = |vault: VaultIndex| &history.vaults[vault].label;
                    let is_same_vault = label(owner) == label(history.vault_of(record));
                    let is_erased = history.vaults[owner].erasure.is_some();
                    if is_same_vault && is_erased {
                        Origin::ErasedEpoch(owner)
                    } else {
                        Origin::OtherVault(owner)
                    }
                }
                _ => Origin::Unknown,
            },
        })
    }

    fn is_written_by(&self, vault: VaultIndex, content: Content) -> bool {
        self.owners.contains(&(content.digest, vault))
    }

    fn writers_of(&self, record: RecordIndex, content: Content) -> &[BatchIndex] {
        self.writers.get(&(record, content)).map_or(&[], Vec::as_slice)
    }

    /// Adds the begin of a batch that may have been applied to each version that it may have made.
    fn add_begins(&mut self, history: &History, batch: &Batch) {
        let attempts = batch.attempts.iter().map(|&attempt| &history.attempts[attempt]);
        let (mut begin, mut unknown) = (NEVER, false);
        let mut acknowledged = Vec::new();
        for attempt in attempts {
            match &attempt.outcome {
                PushOutcome::Acknowledged(results) => acknowledged.push(results),
                PushOutcome::Unknown => unknown = true,
                PushOutcome::Conflict(_) | PushOutcome::Refused | PushOutcome::VaultErased => {
                    continue;
                }
            }
            begin = begin.min(attempt.begin);
        }
        for (index, operation) in batch.operations.iter().enumerate() {
            let reported = acknowledged.iter().map(|results| results[index].0);
            // An attempt of unknown outcome may have made either of the versions that it can make.
            let possible = unknown.then_some([operation.next_version(), 1]);
            for version in reported.chain(possible.into_iter().flatten()) {
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
        for (operation, &(number, updated_at)) in batch.operations.iter().zip(results) {
            let version = self.versions.entry((operation.record, number)).or_default();
            version.updated_at = version.updated_at.or(updated_at);
            version.acknowledged = version.acknowledged.min(attempt.end);
            version.add_claim(operation.content, Some(attempt.number), true);
        }
    }

    fn add_observation(&mut self, operation: Option<u64>, observed: &Observation) {
        let version = self.versions.entry((observed.record, observed.version)).or_default();
        version.updated_at = version.updated_at.or(Some(observed.updated_at));
        version.add_claim(observed.content, operation, false);
    }

    fn add_superseded(&mut self, history: &History) {
        let mut by_record = vec![Vec::new(); history.records.len()];
        for (&(record, number), version) in &self.versions {
            by_record[record].push((number, version.begin));
        }
        for (record, versions) in by_record.iter_mut().enumerate() {
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
    fn add_claim(&mut self, content: Content, operation: Option<u64>, acknowledged: bool) {
        match self.claims.iter_mut().find(|claim| claim.content == content) {
            Some(claim) if acknowledged && !claim.acknowledged => {
                *claim = Claim { content, operation, acknowledged };
            }
            Some(_) => {}
            None => self.claims.push(Claim { content, operation, acknowledged }),
        }
    }

    /// The operation that reported this version first.
    pub(super) fn first_operation(&self) -> Option<u64> {
        self.claims.first().and_then(|claim| claim.operation)
    }
}

fn may_make(batch: &Batch, record: RecordIndex, version: u64) -> bool {
    batch
        .operations
        .iter()
        .any(|operation| operation.record == record && operation.may_make(version))
}
