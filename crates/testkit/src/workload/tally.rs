//! What HTTP clients count beside the history.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The counts of all HTTP clients of a run.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Totals>);

/// The counts at one moment.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that reached no server, because nothing accepted the connection.
    pub unreached: u64,
    /// Requests that were sent and got no response.
    pub unanswered: u64,
    /// The causes of missing responses, as the client saw them.
    pub unanswered_causes: BTreeMap<String, u64>,
}

impl Tally {
    /// The counts so far.
    pub fn totals(&self) -> Totals {
        self.lock().clone()
    }

    pub(super) fn count(&self, work: impl FnOnce(&mut Totals)) {
        work(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        // The numbers are valid even if a client has panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Totals {
    /// Responses with a status.
    pub fn with_status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or_default()
    }
}
