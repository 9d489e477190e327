//! Cache of an issuer's fetched keys: how long they stay valid and when they are fetched again.
//!
//! A fetch replaces the whole set and never merges, so a key that its issuer withdrew is gone after
//! [`TTL`] at the latest. The age of a set counts from its fetch; use does not extend it.
//!
//! Readers take no lock. A fetch holds a lock and runs in its own task, so that a caller that
//! disconnects does not cancel it for the others.
//!
//! Not here: the fetch itself (`fetch`) and the keys (`keys`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::fetch::{FetchError, KeyEndpoint};
use super::keys::KeySet;
use super::reason::{AuthError, Reason};
use crate::Clock;

/// Age from which a set is refreshed in the background, so that steady traffic never waits.
const REFRESH_AFTER: Duration = Duration::from_mins(4);
/// Maximum age of a set while its issuer responds.
const TTL: Duration = Duration::from_mins(5);
/// Maximum age of a set while its issuer does not respond.
const STALE_MAX: Duration = Duration::from_hours(1);
/// Minimum time between two fetches that tokens caused.
const FORCED_INTERVAL_MIN: Duration = Duration::from_secs(30);
/// Minimum time between a failed fetch and the next one.
const RETRY_INTERVAL_MIN: Duration = Duration::from_secs(5);
/// Time after a failed fetch during which an expired set is used without waiting for a fetch.
/// Longer than [`RETRY_INTERVAL_MIN`] and the timeout of a fetch together, so that no caller waits
/// while the issuer is down.
const FAILURE_GRACE: Duration = Duration::from_secs(30);

/// Fetched or configured keys.
#[derive(Debug)]
pub(super) struct CachedKeys {
    pub(super) keys: KeySet,
    /// Number of changes of the keys: tokens verified under another generation must be verified
    /// again.
    pub(super) generation: u64,
    fetched_at: Duration,
}

impl CachedKeys {
    /// Wraps keys from the settings, which never expire.
    pub(super) fn from_settings(keys: KeySet) -> Arc<Self> {
        Arc::new(Self { keys, generation: 0, fetched_at: Duration::ZERO })
    }
}

#[derive(Debug)]
struct FailedFetch {
    at: Duration,
    error: FetchError,
}

/// Cache of one issuer's keys.
pub(super) struct JwksCache {
    issuer: Arc<str>,
    endpoint: KeyEndpoint,
    clock: Arc<dyn Clock>,
    cached: ArcSwapOption<CachedKeys>,
    /// The last fetch, if it failed.
    failure: ArcSwapOption<FailedFetch>,
    /// Number of finished fetches, successful or not.
    finished: AtomicU64,
    /// Locked during a fetch. Contains the start time of the last forced fetch.
    fetch_lock: Arc<Mutex<Option<Duration>>>,
}

impl JwksCache {
    pub(super) fn new(issuer: Arc<str>, endpoint: KeyEndpoint, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            issuer,
            endpoint,
            clock,
            cached: ArcSwapOption::empty(),
            failure: ArcSwapOption::empty(),
            finished: AtomicU64::new(0),
            fetch_lock: Arc::default(),
        })
    }

    /// Returns the keys for verification now. Waits only if there are no valid ones.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<CachedKeys>, AuthError> {
        // Read first, so that a fetch that finishes from here on is detected.
        let finished = self.finished.load(Ordering::Acquire);
        let now = self.clock.uptime();
        let since_failure = self.failure.load().as_ref().map(|last| now.saturating_sub(last.at));
        match self.usable(now) {
            Some(keys) => {
                let age = now.saturating_sub(keys.fetched_at);
                let issuer_is_down = since_failure.is_some_and(|elapsed| elapsed < FAILURE_GRACE);
                let may_fetch = since_failure.is_none_or(|elapsed| elapsed >= RETRY_INTERVAL_MIN);
                if age >= REFRESH_AFTER && may_fetch {
                    self.refresh_in_background(finished);
                }
                if age < TTL || issuer_is_down {
                    return Ok(keys);
                }
                self.fetch_unless_finished(finished).await;
            }
            None => match since_failure {
                None => self.fetch_unless_finished(finished).await,
                Some(elapsed) if elapsed < RETRY_INTERVAL_MIN => {}
                Some(_) => self.fetch_unless_busy(finished).await,
            },
        }
        let now = self.clock.uptime();
        self.usable(now).ok_or_else(|| self.unavailable(now))
    }

    /// Returns keys fetched after `stale`, which did not verify a token. `None` if there are none
    /// and no fetch is due.
    pub(super) async fn refetch(
        self: &Arc<Self>,
        stale: &Arc<CachedKeys>,
    ) -> Option<Arc<CachedKeys>> {
        let mut forced_at = Arc::clone(&self.fetch_lock).lock_owned().await;
        if let Some(newer) = self.newer_than(stale) {
            return Some(newer);
        }
        let now = self.clock.uptime();
        if forced_at.is_some_and(|at| now.saturating_sub(at) < FORCED_INTERVAL_MIN) {
            return None;
        }
        *forced_at = Some(now);
        self.fetch(forced_at).await;
        self.newer_than(stale)
    }

    /// Error of the last fetch, for the operator.
    pub(super) fn last_error(&self) -> Option<String> {
        self.failure.load().as_ref().map(|failure| failure.error.detail.clone())
    }

    fn usable(&self, now: Duration) -> Option<Arc<CachedKeys>> {
        let keys = self.cached.load_full()?;
        (now.saturating_sub(keys.fetched_at) < STALE_MAX).then_some(keys)
    }

    fn newer_than(&self, stale: &Arc<CachedKeys>) -> Option<Arc<CachedKeys>> {
        self.cached.load_full().filter(|keys| !Arc::ptr_eq(keys, stale))
    }

    fn unavailable(&self, now: Duration) -> AuthError {
        let second = Duration::from_secs(1);
        match self.failure.load().as_ref() {
            Some(failure) => {
                let elapsed = now.saturating_sub(failure.at);
                let retry_after = RETRY_INTERVAL_MIN.saturating_sub(elapsed).max(second);
                AuthError::unavailable(failure.error.reason, retry_after)
            }
            None => AuthError::unavailable(Reason::JwkRemoteFailedToLoad, second),
        }
    }

    fn refresh_in_background(self: &Arc<Self>, finished: u64) {
        if let Ok(guard) = Arc::clone(&self.fetch_lock).try_lock_owned()
            && self.finished.load(Ordering::Acquire) == finished
        {
            // Not awaited: later calls use the result.
            drop(self.start_fetch(guard));
        }
    }

    /// Waits for the lock, then fetches unless another fetch finished in the meantime.
    async fn fetch_unless_finished(self: &Arc<Self>, finished: u64) {
        let guard = Arc::clone(&self.fetch_lock).lock_owned().await;
        if self.finished.load(Ordering::Acquire) == finished {
            self.fetch(guard).await;
        }
    }

    /// Fetches unless another fetch is running or has just finished.
    async fn fetch_unless_busy(self: &Arc<Self>, finished: u64) {
        if let Ok(guard) = Arc::clone(&self.fetch_lock).try_lock_owned()
            && self.finished.load(Ordering::Acquire) == finished
        {
            self.fetch(guard).await;
        }
    }

    async fn fetch(self: &Arc<Self>, guard: OwnedMutexGuard<Option<Duration>>) {
        if let Err(error) = self.start_fetch(guard).await {
            tracing::error!(issuer = %self.issuer, %error, "fetching the issuer's keys was aborted");
        }
    }

    fn start_fetch(
        self: &Arc<Self>,
        guard: OwnedMutexGuard<Option<Duration>>,
    ) -> tokio::task::JoinHandle<()> {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let fetched_at = this.clock.uptime();
            match this.endpoint.fetch_keys().await {
                Ok(keys) => this.replace(keys, fetched_at),
                Err(error) => {
                    tracing::warn!(
                        issuer = %this.issuer,
                        reason = %error.reason,
                        detail = error.detail,
                        "cannot fetch the issuer's keys"
                    );
                    let at = this.clock.uptime();
                    this.failure.store(Some(Arc::new(FailedFetch { at, error })));
                }
            }
            this.finished.fetch_add(1, Ordering::Release);
            drop(guard);
        })
    }

    fn replace(&self, keys: KeySet, fetched_at: Duration) {
        let generation = match self.cached.load().as_ref() {
            None => 1,
            Some(last) if last.keys == keys => last.generation,
            Some(last) => last.generation + 1,
        };
        self.cached.store(Some(Arc::new(CachedKeys { keys, generation, fetched_at })));
        self.failure.store(None);
    }
}
