//! Log lines about something that can happen at every request: one now and then, with a count.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::clock::millis;

/// Limit on the lines about one kind of event.
#[derive(Debug)]
pub(crate) struct LogLimit {
    /// Time between two lines.
    interval: Duration,
    /// Events since the last line.
    events: AtomicU64,
    /// Uptime from which the next line may be written, in milliseconds.
    next_millis: AtomicU64,
}

impl Default for LogLimit {
    fn default() -> Self {
        Self::every(Duration::from_secs(10))
    }
}

impl LogLimit {
    pub(crate) const fn every(interval: Duration) -> Self {
        Self { interval, events: AtomicU64::new(0), next_millis: AtomicU64::new(0) }
    }

    /// Counts an event. If a line is due, returns the number of events since the last one.
    pub(crate) fn count(&self, uptime: Duration) -> Option<u64> {
        self.events.fetch_add(1, Ordering::Relaxed);
        let now = millis(uptime);
        let next = self.next_millis.load(Ordering::Relaxed);
        let after = now.saturating_add(millis(self.interval));
        let is_due = now >= next
            && self
                .next_millis
                .compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        is_due.then(|| self.events.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_at_the_first_event_and_after_each_interval() {
        let limit = LogLimit::default();
        let mut count = |seconds| limit.count(Duration::from_secs(seconds));
        assert_eq!([0, 1, 9, 10, 11].map(&mut count), [Some(1), None, None, Some(3), None]);
        assert_eq!(count(100), Some(2));
    }
}
