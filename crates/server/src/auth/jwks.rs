//! An issuer's keys in memory: how long they are good and when they are fetched again.
//!
//! Not here: the fetch itself (`fetch`) and what a key is (`keys`).
//!
//! The set is swapped whole, never merged, so a key that its issuer withdrew is gone after
//! [`TTL`] at the latest; the age counts from the fetch and use does not extend it. Readers take no
//! lock. One lock is held around a fetch, which runs in a task of its own: a caller who hangs up
//! does not undo it for the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::fetch::{FetchError, Source};
use super::keys::KeySet;
use super::reason::{AuthError, Reason};
use crate::Clock;

/// From this age on a set is fetched again in the background, so that busy traffic never waits.
const REFRESH_AFTER: Duration = Duration::from_mins(4);
/// The age at which a set is not used any more while its issuer answers.
const TTL: Duration = Duration::from_mins(5);
/// The age at which a set is not used any more even while its issuer does not answer.
const STALE_MAX: Duration = Duration::from_hours(1);
/// The least time between two fetches that a token asked for.
const FORCED_EVERY: Duration = Duration::from_secs(30);
/// The least time between a failed fetch and the next one.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// How long after a failed fetch an expired set is served without waiting for another. Longer than
/// [`RETRY_EVERY`] and a fetch's timeout together: while an issuer is down, nobody waits.
const FAILURE_REMEMBERED: Duration = Duration::from_secs(30);

/// A set as it was fetched.
#[derive(Debug)]
pub(super) struct CachedKeys {
    pub(super) keys: KeySet,
    /// Counts the changes of the keys: what was verified under another generation is void.
    pub(super) generation: u64,
    fetched_at: Duration,
}

impl CachedKeys {
    /// Keys that an operator wrote down: they do not age.
    pub(super) fn fixed(keys: KeySet) -> Arc<Self> {
        Arc::new(Self { keys, generation: 0, fetched_at: Duration::ZERO })
    }
}

#[derive(Debug)]
struct Failure {
    at: Duration,
    error: FetchError,
}

/// The keys of one issuer that are fetched.
pub(super) struct Jwks {
    issuer: Arc<str>,
    source: Source,
    clock: Arc<dyn Clock>,
    held: ArcSwapOption<CachedKeys>,
    /// The last fetch, if it failed.
    failure: ArcSwapOption<Failure>,
    /// Counts the fetches that ended, well or not.
    finished: AtomicU64,
    /// CachedKeys around a fetch; in it, when the last forced one began.
    fetching: Arc<Mutex<Option<Duration>>>,
}

impl Jwks {
    pub(super) fn new(issuer: Arc<str>, source: Source, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            issuer,
            source,
            clock,
            held: ArcSwapOption::empty(),
            failure: ArcSwapOption::empty(),
            finished: AtomicU64::new(0),
            fetching: Arc::default(),
        })
    }

    /// The keys to judge with now. Waits only where there are none that are good.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<CachedKeys>, AuthError> {
        // Read before anything else: a fetch that ends from here on is seen to have ended.
        let finished = self.finished.load(Ordering::Acquire);
        let now = self.clock.uptime();
        let failed_ago = self.failure.load().as_ref().map(|last| now.saturating_sub(last.at));
        match self.usable(now) {
            Some(held) => {
                let age = now.saturating_sub(held.fetched_at);
                let issuer_is_down = failed_ago.is_some_and(|ago| ago < FAILURE_REMEMBERED);
                if age >= REFRESH_AFTER && failed_ago.is_none_or(|ago| ago >= RETRY_EVERY) {
                    self.refresh_in_background(finished);
                }
                if age < TTL || issuer_is_down {
                    return Ok(held);
                }
                self.fetch_unless_done(finished).await;
            }
            None => match failed_ago {
                None => self.fetch_unless_done(finished).await,
                Some(ago) if ago < RETRY_EVERY => {}
                Some(_) => self.fetch_unless_busy(finished).await,
            },
        }
        let now = self.clock.uptime();
        self.usable(now).ok_or_else(|| self.unavailable(now))
    }

    /// Keys fetched after `seen`, because these could not verify a token. `None` where there
    /// are none and a fetch is not due.
    pub(super) async fn refetch(
        self: &Arc<Self>,
        seen: &Arc<CachedKeys>,
    ) -> Option<Arc<CachedKeys>> {
        let mut forced_at = Arc::clone(&self.fetching).lock_owned().await;
        if let Some(newer) = self.newer_than(seen) {
            return Some(newer);
        }
        let now = self.clock.uptime();
        if forced_at.is_some_and(|at| now.saturating_sub(at) < FORCED_EVERY) {
            return None;
        }
        *forced_at = Some(now);
        self.fetch(forced_at).await;
        self.newer_than(seen)
    }

    /// What went wrong with the last fetch, for an operator.
    pub(super) fn trouble(&self) -> Option<String> {
        self.failure.load().as_ref().map(|failure| failure.error.detail.clone())
    }

    fn usable(&self, now: Duration) -> Option<Arc<CachedKeys>> {
        let held = self.held.load_full()?;
        (now.saturating_sub(held.fetched_at) < STALE_MAX).then_some(held)
    }

    fn newer_than(&self, seen: &Arc<CachedKeys>) -> Option<Arc<CachedKeys>> {
        self.held.load_full().filter(|held| !Arc::ptr_eq(held, seen))
    }

    fn unavailable(&self, now: Duration) -> AuthError {
        let second = Duration::from_secs(1);
        match self.failure.load().as_ref() {
            Some(failure) => {
                let ago = now.saturating_sub(failure.at);
                let left = RETRY_EVERY.saturating_sub(ago).max(second);
                AuthError::unavailable(failure.error.reason, left)
            }
            None => AuthError::unavailable(Reason::JwkRemoteFailedToLoad, second),
        }
    }

    fn refresh_in_background(self: &Arc<Self>, finished: u64) {
        if let Ok(guard) = Arc::clone(&self.fetching).try_lock_owned()
            && self.finished.load(Ordering::Acquire) == finished
        {
            // Nobody waits for it: what it finds is for the next caller.
            drop(self.start_fetch(guard));
        }
    }

    /// Waits its turn, and fetches unless somebody's fetch ended while it waited.
    async fn fetch_unless_done(self: &Arc<Self>, finished: u64) {
        let guard = Arc::clone(&self.fetching).lock_owned().await;
        if self.finished.load(Ordering::Acquire) == finished {
            self.fetch(guard).await;
        }
    }

    /// Fetches unless somebody does or just did.
    async fn fetch_unless_busy(self: &Arc<Self>, finished: u64) {
        if let Ok(guard) = Arc::clone(&self.fetching).try_lock_owned()
            && self.finished.load(Ordering::Acquire) == finished
        {
            self.fetch(guard).await;
        }
    }

    async fn fetch(self: &Arc<Self>, guard: OwnedMutexGuard<Option<Duration>>) {
        if let Err(error) = self.start_fetch(guard).await {
            tracing::error!(issuer = %self.issuer, %error, "the fetch of keys ended early");
        }
    }

    fn start_fetch(
        self: &Arc<Self>,
        guard: OwnedMutexGuard<Option<Duration>>,
    ) -> tokio::task::JoinHandle<()> {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let fetched_at = this.clock.uptime();
            match this.source.keys().await {
                Ok(keys) => this.hold(keys, fetched_at),
                Err(error) => {
                    tracing::warn!(
                        issuer = %this.issuer,
                        reason = %error.reason,
                        detail = error.detail,
                        "the issuer's keys could not be fetched"
                    );
                    let at = this.clock.uptime();
                    this.failure.store(Some(Arc::new(Failure { at, error })));
                }
            }
            this.finished.fetch_add(1, Ordering::Release);
            drop(guard);
        })
    }

    fn hold(&self, keys: KeySet, fetched_at: Duration) {
        let generation = match self.held.load().as_ref() {
            None => 1,
            Some(last) if last.keys == keys => last.generation,
            Some(last) => last.generation + 1,
        };
        self.held.store(Some(Arc::new(CachedKeys { keys, generation, fetched_at })));
        self.failure.store(None);
    }
}
