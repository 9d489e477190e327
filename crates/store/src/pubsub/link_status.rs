//! Connections that are lost: told once each, and made again for as long as it takes.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};

/// Whether hints are interrupted, and whether that was told.
#[derive(Debug)]
pub(super) struct LinkStatus {
    /// Which way hints go, for its operator to read.
    via: String,
    is_told: AtomicBool,
}

impl LinkStatus {
    pub(super) fn new(via: String) -> Self {
        Self { via, is_told: AtomicBool::new(false) }
    }

    /// A connection was lost or could not be made. Whether that is news.
    pub(super) fn begins(&self, error: &str) -> bool {
        let is_news = !self.is_told.swap(true, Ordering::Relaxed);
        if is_news {
            tracing::warn!(via = self.via, error, "hints to and from other nodes are interrupted");
        } else {
            tracing::debug!(via = self.via, error, "hints are still interrupted");
        }
        is_news
    }

    /// A connection was made.
    pub(super) fn ends(&self) {
        self.is_told.store(false, Ordering::Relaxed);
        tracing::info!(via = self.via, "hints go to and come from other nodes");
    }
}

/// How long to wait before each further try: soon at first, then up to a second. All nodes lose a
/// server at the same moment, and should not all come back in the same one.
pub(super) fn pauses() -> impl Iterator<Item = Duration> {
    // The jitter adds up to as much again.
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_millis(500))
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_below_a_second_however_many_there_are_and_differ() {
        let of_one: Vec<_> = pauses().take(100).collect();
        assert_eq!(of_one.len(), 100);
        assert!(of_one[0] >= Duration::from_millis(50) && of_one[0] < Duration::from_millis(100));
        let later = Duration::from_millis(500)..=Duration::from_secs(1);
        assert!(of_one[10..].iter().all(|pause| later.contains(pause)), "{of_one:?}");
        assert_ne!(of_one, pauses().take(100).collect::<Vec<_>>());
    }
}
