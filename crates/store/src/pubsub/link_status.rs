//! The state of the link to other processes: logged once per change, with the delays between retries.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};

/// The longest delay between two retries.
pub(super) const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);

/// Whether the link is down, as far as it was logged.
#[derive(Debug)]
pub(super) struct LinkStatus {
    /// The backend, for the log.
    via: String,
    is_down: AtomicBool,
}

impl LinkStatus {
    pub(super) fn new(via: String) -> Self {
        Self { via, is_down: AtomicBool::new(false) }
    }

    /// Records that a connection was lost or could not be made. Returns whether the link was up before.
    pub(super) fn mark_down(&self, error: &str) -> bool {
        let is_news = !self.is_down.swap(true, Ordering::Relaxed);
        if is_news {
            tracing::warn!(
                via = self.via,
                error,
                "notifications to and from other nodes are interrupted"
            );
        } else {
            tracing::debug!(via = self.via, error, "notifications are still interrupted");
        }
        is_news
    }

    /// Records that a connection was made.
    pub(super) fn mark_up(&self) {
        self.is_down.store(false, Ordering::Relaxed);
        tracing::info!(via = self.via, "connected for notifications to and from other nodes");
    }
}

/// The delays between retries: short at first, then up to [`RETRY_DELAY_MAX`]. With jitter, because all
/// nodes lose a server at the same moment and should not all reconnect at the same moment.
pub(super) fn retry_delays() -> impl Iterator<Item = Duration> {
    // The jitter at most doubles a delay.
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(RETRY_DELAY_MAX / 2)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_delays_are_endless_random_and_at_most_a_second() {
        let delays: Vec<_> = retry_delays().take(100).collect();
        assert_eq!(delays.len(), 100);
        assert!(delays[0] >= Duration::from_millis(50) && delays[0] < Duration::from_millis(100));
        let later = Duration::from_millis(500)..=Duration::from_secs(1);
        assert!(delays[10..].iter().all(|delay| later.contains(delay)), "{delays:?}");
        assert_ne!(delays, retry_delays().take(100).collect::<Vec<_>>());
    }
}
