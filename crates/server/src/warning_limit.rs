//! Rate limit of a warning that could otherwise fill the log.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The shortest time between two warnings of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// Lets one warning of a kind through in each interval, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct WarningLimit {
    /// Uptime from which the next one is let through, in milliseconds.
    next_millis: AtomicU64,
    occurred: AtomicU64,
}

impl WarningLimit {
    /// The number of occurrences since the last warning, if another one may be logged now.
    pub(crate) fn occurred(&self, uptime: Duration) -> Option<u64> {
        self.occurred.fetch_add(1, Ordering::Relaxed);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (now, next) = (millis(uptime), millis(uptime + INTERVAL));
        let is_due = |due| (now >= due).then_some(next);
        self.next_millis.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_due).ok()?;
        Some(self.occurred.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_is_let_through_in_each_interval() {
        let limit = WarningLimit::default();
        let at = [0, 1, 9_999, 10_000, 10_001, 50_000];
        let logged = at.map(|millis| limit.occurred(Duration::from_millis(millis)));
        assert_eq!(logged, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}
