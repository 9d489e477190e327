//! The epochs of the vaults of a history: an erasure ends one, and what comes after it belongs to the next.
//!
//! A request that names an epoch belongs to that one. A push that names none belongs to the epoch of its time,
//! and a history in which that can be two of them is rejected. A pull belongs to the epoch of its page.

use std::{collections::HashMap, sync::Arc};

use super::{
    Event, Outcome, Request, VaultLabel,
    index::{Erasure, NEVER, Position},
    indexer::Malformed,
};

/// The erasures of each vault, in their order, and the ends of all requests.
#[derive(Default)]
pub(super) struct Epochs {
    erasures: HashMap<VaultLabel, Vec<Erasure>>,
    ends: HashMap<u64, (Position, Outcome)>,
}

impl Epochs {
    pub(super) fn of(events: &[Event]) -> Result<Self, Malformed> {
        let mut epochs = Self::default();
        for (position, event) in events.iter().enumerate() {
            if let Event::End { operation, outcome } = event {
                epochs.ends.entry(*operation).or_insert_with(|| (position, outcome.clone()));
            }
        }
        for (position, event) in events.iter().enumerate() {
            if let Event::Begin { operation, vault, request: Request::Erase { epoch }, .. } = event
            {
                epochs.add_erasure(position, *operation, vault, epoch);
            }
        }
        let mut undecided = epochs.erasures.values().flatten();
        match undecided.find(|erasure| erasure.acknowledged == NEVER) {
            Some(erasure) => Err(Malformed::UndecidedErasure(erasure.operation)),
            None => Ok(epochs),
        }
    }

    fn add_erasure(
        &mut self,
        begin: Position,
        operation: u64,
        vault: &VaultLabel,
        epoch: &Arc<str>,
    ) {
        let acknowledged = match self.ends.get(&operation) {
            Some((_, Outcome::Refused)) => return,
            Some((end, Outcome::Erased)) => *end,
            _ => NEVER,
        };
        let of_vault = self.erasures.entry(vault.clone()).or_default();
        match of_vault.iter_mut().find(|erasure| erasure.epoch == *epoch) {
            Some(erasure) if acknowledged < erasure.acknowledged => {
                (erasure.acknowledged, erasure.operation) = (acknowledged, operation);
            }
            Some(_) => {}
            None => {
                let epoch = Arc::clone(epoch);
                of_vault.push(Erasure { operation, epoch, begin, acknowledged });
            }
        }
    }

    /// The erasures of a vault.
    pub(super) fn erasures(&self, vault: &VaultLabel) -> &[Erasure] {
        self.erasures.get(vault).map_or(&[], Vec::as_slice)
    }

    /// The number of the epoch that a request belongs to.
    pub(super) fn number(
        &self,
        vault: &VaultLabel,
        begin: Position,
        operation: u64,
        request: &Request,
    ) -> Result<usize, Malformed> {
        let erasures = self.erasures(vault);
        let named = |epoch: &Arc<str>| {
            erasures.iter().position(|one| one.epoch == *epoch).unwrap_or(erasures.len())
        };
        let end = self.ends.get(&operation);
        let end_at = end.map_or(NEVER, |(end, _)| *end);
        let earliest = erasures.iter().filter(|one| one.acknowledged < begin).count();
        let latest = erasures.iter().filter(|one| one.begin < end_at).count();
        match (request, end) {
            (
                Request::Push { epoch: Some(epoch), .. }
                | Request::Pull { epoch: Some(epoch), .. }
                | Request::Erase { epoch },
                _,
            )
            | (Request::Pull { .. }, Some((_, Outcome::Page { epoch: Some(epoch), .. }))) => {
                Ok(named(epoch))
            }
            (Request::Pull { .. }, _) => Ok(latest),
            (Request::Push { .. }, Some((_, Outcome::Refused))) => Ok(earliest),
            (Request::Push { .. }, _) if earliest == latest => Ok(earliest),
            (Request::Push { .. }, _) => Err(Malformed::AmbiguousPush(operation)),
        }
    }
}
