//! What real requests show about a database, so that a readiness check need not ask it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::StoreError;

/// How long the success of a request shows that the database responds.
const SUCCESS_COUNTS_FOR: Duration = Duration::from_secs(2);

/// How many pushes must fail one after another until the database counts as one that takes none.
const FAILED_PUSHES: u32 = 3;

/// How long failed pushes show that. After that the database is given another chance: a node that a load
/// balancer has taken out gets no push that could succeed.
const FAILURES_COUNT_FOR: Duration = Duration::from_secs(5);

/// The results of the latest requests.
#[derive(Debug, Default)]
pub(crate) struct RequestResults(Mutex<Results>);

#[derive(Debug, Default)]
struct Results {
    /// When the latest request succeeded; `None` if the latest one failed.
    succeeded_at: Option<Instant>,
    /// Pushes that failed since the last one that did not, and when the latest did.
    failed_pushes: u32,
    push_failed_at: Option<Instant>,
}

impl RequestResults {
    /// Records the result of a push.
    pub(crate) fn record_push<T>(&self, result: &Result<T, StoreError>) {
        let mut results = self.results();
        match result {
            Ok(_) => results.failed_pushes = 0,
            Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)) => {
                results.failed_pushes = results.failed_pushes.saturating_add(1);
                results.push_failed_at = Some(Instant::now());
            }
            Err(StoreError::Busy(_) | StoreError::Internal(_)) => {}
        }
        results.record(result);
    }

    /// Records the result of a read.
    pub(crate) fn record_read<T>(&self, result: &Result<T, StoreError>) {
        self.results().record(result);
    }

    /// Whether the latest request succeeded, a moment ago.
    pub(crate) fn has_just_served(&self) -> bool {
        self.results().succeeded_at.is_some_and(|at| at.elapsed() < SUCCESS_COUNTS_FOR)
    }

    /// Fails if the latest pushes all failed, because of the database.
    pub(crate) fn check_pushes(&self) -> Result<(), StoreError> {
        let results = self.results();
        let is_recent = results.push_failed_at.is_some_and(|at| at.elapsed() < FAILURES_COUNT_FOR);
        if results.failed_pushes >= FAILED_PUSHES && is_recent {
            let message = format!("the last {} pushes failed", results.failed_pushes);
            return Err(StoreError::Unavailable(message));
        }
        Ok(())
    }

    fn results(&self) -> MutexGuard<'_, Results> {
        // No code panics while it holds this lock, so the results are consistent even if it is poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Results {
    fn record<T>(&mut self, result: &Result<T, StoreError>) {
        match result {
            Ok(_) => self.succeeded_at = Some(Instant::now()),
            // A busy database responds.
            Err(StoreError::Busy(_)) => {}
            Err(_) => self.succeeded_at = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Result<(), StoreError> {
        Err(StoreError::Unavailable("gone".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_counts_until_the_next_failure_and_for_a_moment() {
        let results = RequestResults::default();
        assert!(!results.has_just_served());
        results.record_read(&Ok(()));
        assert!(results.has_just_served());
        results.record_push::<()>(&Err(StoreError::Busy("many pushes".to_owned())));
        assert!(results.has_just_served());
        results.record_push(&failed());
        assert!(!results.has_just_served());
        results.record_push(&Ok(()));
        tokio::time::advance(SUCCESS_COUNTS_FOR).await;
        assert!(!results.has_just_served());
    }

    #[tokio::test(start_paused = true)]
    async fn several_failed_pushes_in_a_row_count_until_one_succeeds_or_for_some_time() {
        let results = RequestResults::default();
        for _ in 1..FAILED_PUSHES {
            results.record_push(&failed());
            assert!(results.check_pushes().is_ok());
        }
        results.record_push(&failed());
        results.record_read(&Ok(()));
        assert!(results.check_pushes().is_err(), "reads succeed all the same");
        tokio::time::advance(FAILURES_COUNT_FOR).await;
        assert!(results.check_pushes().is_ok());
        results.record_push(&failed());
        assert!(results.check_pushes().is_err());
        results.record_push(&Ok(()));
        assert!(results.check_pushes().is_ok());
        for _ in 0..10 {
            results
                .record_push::<()>(&Err(StoreError::Internal("a fault of one record".to_owned())));
        }
        assert!(results.check_pushes().is_ok());
    }
}
