//! Overload detection by scheduling lag.
//!
//! Requests that the server has no time for do not queue anywhere that could be counted: they wait
//! in sockets and in the runtime's queue of ready tasks. The length of that queue shows as lag. A
//! task sleeps for [`SAMPLE_INTERVAL`], moves to the end of the queue, and measures how late it
//! runs again. Requests are refused while the lag is above [`LAG_MAX`].
//!
//! Measured at five times the pushes that SQLite can apply on a shared core: the 99th percentile of
//! accepted pushes is about 0.8 s. Without this module it was 5 s, and some pushes took over 30 s.

use std::{
    future::poll_fn,
    mem,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::Poll,
    time::Duration,
};

use crate::Clock;

/// Time from one sample to the next if there is no lag.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);

/// Lag above which a sample is late. A request is scheduled about three times until its response,
/// and each time may wait that long. With 100 ms the 99th percentile was up to 1.5 s.
const LAG_MAX: Duration = Duration::from_millis(50);

/// Consecutive late samples that start overload. A single one only shows that the machine was busy
/// with something else.
const LATE_SAMPLES: u32 = 2;

/// Consecutive timely samples that end overload.
const TIMELY_SAMPLES: u32 = 5;

/// Detects whether the server is overloaded.
#[derive(Debug, Default)]
pub(crate) struct OverloadDetector {
    /// The result of the latest samples.
    overloaded: AtomicBool,
    /// Uptime at which the next sample is due, in milliseconds; 0 if no samples are taken.
    next_sample_millis: AtomicU64,
}

impl OverloadDetector {
    /// Whether optional work should be refused, either because of the latest samples or because the
    /// next one is overdue.
    pub(crate) fn is_overloaded(&self, uptime: Duration) -> bool {
        let due = Duration::from_millis(self.next_sample_millis.load(Ordering::Relaxed));
        let is_overdue = !due.is_zero() && uptime.saturating_sub(due) > LAG_MAX * LATE_SAMPLES;
        is_overdue || self.overloaded.load(Ordering::Relaxed)
    }

    /// Reports no overload until samples are taken again.
    pub(crate) fn reset(&self) {
        self.next_sample_millis.store(0, Ordering::Relaxed);
        self.overloaded.store(false, Ordering::Relaxed);
    }

    /// Reports overload until [`Self::reset`].
    #[cfg(test)]
    pub(crate) fn force(&self) {
        self.overloaded.store(true, Ordering::Relaxed);
    }

    /// Takes samples forever.
    pub(crate) async fn watch(&self, clock: &dyn Clock) {
        let mut samples = LagSamples::default();
        loop {
            let due = clock.uptime() + SAMPLE_INTERVAL;
            let due_millis = u64::try_from(due.as_millis()).unwrap_or(u64::MAX);
            self.next_sample_millis.store(due_millis, Ordering::Relaxed);
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            yield_to_ready_tasks().await;
            let overloaded = samples.add(clock.uptime().saturating_sub(due));
            if self.overloaded.swap(overloaded, Ordering::Relaxed) != overloaded {
                if overloaded {
                    tracing::warn!("the server is overloaded: new requests are refused");
                } else {
                    tracing::warn!("the server is no longer overloaded");
                }
            }
        }
    }
}

/// Moves the current task to the end of the queue of ready tasks.
///
/// A task whose timer expires runs before the tasks in that queue, so its lateness alone does not
/// show how long they wait. A task that calls the runtime's own `yield_now` runs as early.
async fn yield_to_ready_tasks() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Decides from consecutive lag samples whether the server is overloaded.
#[derive(Debug, Default)]
struct LagSamples {
    overloaded: bool,
    /// Consecutive samples that contradict `overloaded`.
    contrary: u32,
}

impl LagSamples {
    /// Adds a sample, and returns whether the server is overloaded.
    fn add(&mut self, lag: Duration) -> bool {
        let is_late = lag > LAG_MAX;
        self.contrary = if is_late == self.overloaded { 0 } else { self.contrary + 1 };
        let required = if self.overloaded { TIMELY_SAMPLES } else { LATE_SAMPLES };
        if self.contrary >= required {
            *self = Self { overloaded: is_late, contrary: 0 };
        }
        self.overloaded
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_overdue_sample_is_overload() {
        let detector = OverloadDetector::default();
        let at = |millis| detector.is_overloaded(Duration::from_millis(millis));
        assert!(!at(3_600_000), "no samples are taken");
        detector.next_sample_millis.store(1_000, Ordering::Relaxed);
        assert_eq!([900, 1_000, 1_100, 1_101].map(at), [false, false, false, true]);
        detector.next_sample_millis.store(2_000, Ordering::Relaxed);
        assert!(!at(1_101));
        detector.overloaded.store(true, Ordering::Relaxed);
        assert!(at(1_101), "until samples are timely again");
        detector.reset();
        assert!(!at(3_600_000));
    }

    #[tokio::test]
    async fn a_yielding_task_runs_after_the_ready_tasks() {
        let finished = Arc::new(AtomicU64::new(0));
        for _ in 0..10 {
            let finished = Arc::clone(&finished);
            tokio::spawn(async move { finished.fetch_add(1, Ordering::Relaxed) });
        }
        yield_to_ready_tasks().await;
        assert_eq!(finished.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn overload_starts_after_two_late_samples_and_ends_after_five_timely_ones() {
        let (late, timely) = (LAG_MAX + Duration::from_millis(1), LAG_MAX);
        let mut samples = LagSamples::default();
        let overloaded =
            [late, timely, late, late, timely, late, timely, timely, timely, timely, timely]
                .map(|lag| samples.add(lag));
        assert_eq!(
            overloaded,
            [false, false, false, true, true, true, true, true, true, true, false]
        );
    }
}
