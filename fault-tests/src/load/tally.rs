//! What clients count, beside the history.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The counts of all clients of a load.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counted>);

/// What there was so far.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Answers by their status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that reached no server, because nothing took the connection.
    pub unreached: u64,
    /// Requests that were sent and not answered.
    pub unanswered: u64,
    /// Why, as the client saw it.
    pub why_unanswered: BTreeMap<String, u64>,
    /// The longest that any one push took, its retries included.
    pub longest_push: Duration,
    /// What should never be answered.
    pub faults: Vec<String>,
}

impl Tally {
    /// Counts.
    pub fn count(&self, work: impl FnOnce(&mut Counted)) {
        work(&mut self.lock());
    }

    /// What there is now.
    pub fn so_far(&self) -> Counted {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        // Numbers are whole whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Answers of that status.
    pub fn of_status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or_default()
    }
}
