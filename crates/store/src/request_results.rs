//! What real requests show about a database, so that a readiness check need not ask it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{StoreError, VaultId};

/// How long the success of a request shows that the database responds.
const SUCCESS_COUNTS_FOR: Duration = Duration::from_secs(2);

/// To how many vaults pushes must fail, without one that succeeds in between, until the database counts as one
/// that takes none. One vault may have trouble of its own, such as a lock that another node holds.
const FAILED_VAULTS: usize = 3;

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
    /// Vaults to which a push failed since the last push that did not, at most [`FAILED_VAULTS`], and when the
    /// latest did.
    failed_vaults: Vec<VaultId>,
    push_failed_at: Option<Instant>,
}

impl RequestResults {
    /// Records the result of a push.
    pub(crate) fn record_push<T>(&self, vault: VaultId, result: &Result<T, StoreError>) {
        let mut results = self.results();
        match result {
            Ok(_) => results.failed_vaults.clear(),
            Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)) => {
                let now = Instant::now();
                let last = results.push_failed_at.replace(now);
                if last.is_none_or(|last| now - last >= FAILURES_COUNT_FOR) {
                    results.failed_vaults.clear();
                }
                let failed = &mut results.failed_vaults;
                if failed.len() < FAILED_VAULTS && !failed.contains(&vault) {
                    failed.push(vault);
                }
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
        if results.failed_vaults.len() >= FAILED_VAULTS && is_recent {
            let message = "all pushes of the last seconds failed, to several vaults";
            return Err(StoreError::Unavailable(message.to_owned()));
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

    fn vault(number: u32) -> VaultId {
        crate::Vault::of("issuer", number.to_string()).id()
    }

    fn failed() -> Result<(), StoreError> {
        Err(StoreError::Unavailable("gone".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_counts_until_the_next_failure_and_for_a_moment() {
        let results = RequestResults::default();
        assert!(!results.has_just_served());
        results.record_read(&Ok(()));
        assert!(results.has_just_served());
        results.record_push::<()>(vault(0), &Err(StoreError::Busy("many pushes".to_owned())));
        assert!(results.has_just_served());
        results.record_push(vault(0), &failed());
        assert!(!results.has_just_served());
        results.record_push(vault(0), &Ok(()));
        tokio::time::advance(SUCCESS_COUNTS_FOR).await;
        assert!(!results.has_just_served());
    }

    #[tokio::test(start_paused = true)]
    async fn failed_pushes_to_several_vaults_count_until_one_succeeds_or_for_some_time() {
        let results = RequestResults::default();
        let fail = |number| results.record_push(vault(number), &failed());
        for _ in 0..10 {
            fail(1);
            fail(2);
            assert!(results.check_pushes().is_ok(), "others may be well");
        }
        fail(3);
        results.record_read(&Ok(()));
        assert!(results.check_pushes().is_err(), "reads succeed all the same");
        tokio::time::advance(FAILURES_COUNT_FOR).await;
        assert!(results.check_pushes().is_ok());
        fail(3);
        assert!(results.check_pushes().is_ok(), "the earlier failures are too old");
        (1..3).for_each(fail);
        assert!(results.check_pushes().is_err());
        results.record_push(vault(4), &Ok(()));
        assert!(results.check_pushes().is_ok());
        for number in 0..10 {
            let fault = Err(StoreError::Internal("a fault of one record".to_owned()));
            results.record_push::<()>(vault(number), &fault);
        }
        assert!(results.check_pushes().is_ok());
    }
}
