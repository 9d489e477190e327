//! Overload detection by a standing queue.
//!
//! Requests that the server has no time for do not queue anywhere that could be counted: they wait
//! in sockets and in the runtime's queue of ready tasks. The delay of that queue shows as lag. A
//! task sleeps for [`SAMPLE_INTERVAL`], moves to the end of the queue, and measures how late it
//! runs again. The length of the queue is at most the number of connections that have sent a request
//! a moment ago ([`ActiveConnections`]).
//!
//! Requests are refused while the lag is above [`LAG_MAX`], and the queue can be longer than
//! [`SHORT_QUEUE`]. A shorter one drains by itself, because its clients wait for their responses: they are
//! served late. A pause of the machine or of the process is no lag either: time in which nothing ran does
//! not count.
//!
//! Measured at five times the pushes that SQLite can apply on a shared core: the 99th percentile of
//! accepted pushes is about 0.8 s. Without this module it was 5 s, and some pushes took over 30 s.

use std::{
    future::poll_fn,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use crate::{Clock, clock::millis, log_limit::LogLimit};

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

/// Number of requests that make a short queue. Eight clients that read pages of 8 MiB cause a lag of more
/// than 100 ms on two cores, and it grows no further.
const SHORT_QUEUE: usize = 32;

/// Time without a request or a sample that counts as a pause of the process. Under load, requests arrive
/// all the time.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Time between two pauses that are left out of the lag.
const PAUSES_APART_MIN: Duration = Duration::from_secs(2);

/// Time for which a connection counts as active after a request: one or two of these.
const ACTIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Detects whether the server is overloaded.
#[derive(Debug, Default)]
pub(crate) struct OverloadDetector {
    /// The result of the latest samples.
    overloaded: AtomicBool,
    /// Uptime at which the next sample is due, in milliseconds; 0 if no samples are taken.
    next_sample_millis: AtomicU64,
    /// Uptime of the latest request or sample, in milliseconds.
    ran_at_millis: AtomicU64,
    /// Uptime of the end of the latest pause, in milliseconds.
    resumed_at_millis: AtomicU64,
    active: ActiveConnections,
    warnings: LogLimit,
}

impl OverloadDetector {
    /// Whether optional work should be refused: the queue may be long, and either the latest samples were
    /// late or the next one is overdue.
    pub(crate) fn is_overloaded(&self, uptime: Duration) -> bool {
        self.note_pause(uptime);
        if self.active.count() <= SHORT_QUEUE {
            return false;
        }
        let is_overdue = self.overdue(uptime) > LAG_MAX * LATE_SAMPLES;
        is_overdue || self.overloaded.load(Ordering::Relaxed)
    }

    /// Connections that have sent a request a moment ago.
    pub(crate) const fn active(&self) -> &ActiveConnections {
        &self.active
    }

    /// Reports no overload until samples are taken again.
    pub(crate) fn reset(&self) {
        self.next_sample_millis.store(0, Ordering::Relaxed);
        self.overloaded.store(false, Ordering::Relaxed);
    }

    /// Reports overload until [`Self::reset`].
    #[cfg(test)]
    pub(crate) fn force(&self) {
        self.active.add(SHORT_QUEUE + 1);
        self.overloaded.store(true, Ordering::Relaxed);
    }

    /// Takes samples until this future is dropped. No overload is reported after that, even if it ends by a
    /// panic: the next sample would be overdue forever.
    pub(crate) async fn watch(&self, clock: &dyn Clock) {
        let _reset = ResetOnDrop(self);
        let mut samples = LagSamples::default();
        let mut active_until = clock.uptime() + ACTIVE_INTERVAL;
        loop {
            self.next_sample_millis
                .store(millis(clock.uptime() + SAMPLE_INTERVAL), Ordering::Relaxed);
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            yield_to_ready_tasks().await;
            let now = clock.uptime();
            self.note_pause(now);
            let overloaded = samples.add(self.overdue(now));
            if self.overloaded.swap(overloaded, Ordering::Relaxed) != overloaded && overloaded {
                self.warn(now);
            }
            if now >= active_until {
                self.active.begin_interval();
                active_until = now + ACTIVE_INTERVAL;
            }
        }
    }

    /// Logs the beginning of overload, now and then: under steady overload it begins several times a
    /// second, whenever enough requests were refused.
    fn warn(&self, now: Duration) {
        let active = self.active.count();
        if active > SHORT_QUEUE
            && let Some(times) = self.warnings.count(now)
        {
            tracing::warn!(active, times, "the server is overloaded: new requests are refused");
        }
    }

    /// How long the next sample is overdue, without the time in which the process was paused.
    fn overdue(&self, uptime: Duration) -> Duration {
        let due = self.next_sample_millis.load(Ordering::Relaxed);
        if due == 0 {
            return Duration::ZERO;
        }
        let since = due.max(self.resumed_at_millis.load(Ordering::Relaxed));
        uptime.saturating_sub(Duration::from_millis(since))
    }

    /// Notes that the process runs, and whether it has been paused.
    fn note_pause(&self, uptime: Duration) {
        let now = millis(uptime);
        let before = self.ran_at_millis.fetch_max(now, Ordering::Relaxed);
        let resumed = self.resumed_at_millis.load(Ordering::Relaxed);
        let is_pause = now.saturating_sub(before) > millis(PAUSE_MIN);
        // A process that is paused all the time, by a limit on its processor time, is too slow for its
        // load: only the first of several pauses is left out.
        if is_pause && (resumed == 0 || now.saturating_sub(resumed) > millis(PAUSES_APART_MIN)) {
            self.resumed_at_millis.fetch_max(now, Ordering::Relaxed);
        }
    }
}

/// Number of connections that have sent a request in this interval or the last one. No more requests can
/// wait at a time: a connection sends one, and waits for its response.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActiveConnections(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    interval: AtomicU64,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    current: usize,
    last: usize,
}

impl ActiveConnections {
    fn count(&self) -> usize {
        let counts = self.counts();
        counts.current.max(counts.last)
    }

    fn begin_interval(&self) {
        let mut counts = self.counts();
        self.0.interval.fetch_add(1, Ordering::Relaxed);
        *counts = Counts { current: 0, last: counts.current };
    }

    #[cfg(test)]
    fn add(&self, connections: usize) {
        self.counts().current += connections;
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing in this file panics between two updates that belong together.
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's part in [`ActiveConnections`].
#[derive(Debug)]
pub(crate) struct ActiveConnection {
    all: ActiveConnections,
    /// The latest interval in which it has sent a request.
    interval: AtomicU64,
}

impl ActiveConnection {
    pub(crate) fn new(all: ActiveConnections) -> Self {
        Self { all, interval: AtomicU64::new(u64::MAX) }
    }

    /// Notes that the connection has sent a request.
    pub(crate) fn note_request(&self) {
        let interval = self.all.0.interval.load(Ordering::Relaxed);
        if self.interval.load(Ordering::Relaxed) != interval {
            let mut counts = self.all.counts();
            // Read again, because an interval begins under the lock.
            self.interval.store(self.all.0.interval.load(Ordering::Relaxed), Ordering::Relaxed);
            counts.current += 1;
        }
    }
}

impl Drop for ActiveConnection {
    fn drop(&mut self) {
        let mut counts = self.all.counts();
        let age = self
            .all
            .0
            .interval
            .load(Ordering::Relaxed)
            .wrapping_sub(self.interval.load(Ordering::Relaxed));
        match age {
            0 => counts.current = counts.current.saturating_sub(1),
            1 if self.interval.load(Ordering::Relaxed) != u64::MAX => {
                counts.last = counts.last.saturating_sub(1);
            }
            _ => {}
        }
    }
}

/// Resets the detector when dropped.
struct ResetOnDrop<'a>(&'a OverloadDetector);

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.reset();
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

    /// A detector with more active connections than a short queue has.
    fn busy() -> OverloadDetector {
        let detector = OverloadDetector::default();
        detector.active.add(SHORT_QUEUE + 1);
        detector
    }

    /// Lets the process run from one time to another.
    fn run(detector: &OverloadDetector, times: std::ops::RangeInclusive<u64>) {
        for millis in times {
            detector.note_pause(Duration::from_millis(millis));
        }
    }

    #[test]
    fn an_overdue_sample_is_overload() {
        let detector = busy();
        let at = |millis| detector.is_overloaded(Duration::from_millis(millis));
        assert!(!at(3_600), "no samples are taken");
        let detector = busy();
        let at = |millis| detector.is_overloaded(Duration::from_millis(millis));
        run(&detector, 0..=900);
        detector.next_sample_millis.store(1_000, Ordering::Relaxed);
        assert_eq!([900, 1_000, 1_100, 1_101].map(at), [false, false, false, true]);
        detector.next_sample_millis.store(2_000, Ordering::Relaxed);
        assert!(!at(1_101));
        detector.overloaded.store(true, Ordering::Relaxed);
        assert!(at(1_101), "until samples are timely again");
        detector.reset();
        assert!(!at(3_600_000));
    }

    #[test]
    fn a_pause_of_the_process_is_no_overload() {
        let detector = busy();
        run(&detector, 0..=1_000);
        detector.next_sample_millis.store(1_010, Ordering::Relaxed);
        let at = |millis| detector.is_overloaded(Duration::from_millis(millis));
        assert!(!at(1_600), "the first request after a pause of 0.6 s");
        assert!(!at(1_700), "the queue drains");
        assert!(at(1_701), "the queue that it has left does not drain");
    }

    #[test]
    fn a_queue_that_cannot_be_long_is_no_overload() {
        let detector = OverloadDetector::default();
        run(&detector, 0..=1_000);
        detector.next_sample_millis.store(500, Ordering::Relaxed);
        detector.overloaded.store(true, Ordering::Relaxed);
        let at = |millis| detector.is_overloaded(Duration::from_millis(millis));
        assert!(!at(1_000));
        let connection = || {
            let connection = ActiveConnection::new(detector.active().clone());
            connection.note_request();
            connection.note_request();
            connection
        };
        let mut connections: Vec<_> = (0..SHORT_QUEUE).map(|_| connection()).collect();
        assert!(!at(1_000));
        connections.push(connection());
        assert!(at(1_000));
        drop(connections);
        assert!(!at(1_000));
    }

    #[test]
    fn a_connection_is_active_for_an_interval_after_its_last_request() {
        let active = ActiveConnections::default();
        let connections: Vec<_> = (0..3).map(|_| ActiveConnection::new(active.clone())).collect();
        assert_eq!(active.count(), 0, "none has sent a request");
        connections.iter().for_each(ActiveConnection::note_request);
        assert_eq!(active.count(), 3);
        active.begin_interval();
        connections[0].note_request();
        assert_eq!(active.count(), 3);
        active.begin_interval();
        assert_eq!(active.count(), 1);
        drop(connections);
        assert_eq!(active.count(), 0);
        drop(ActiveConnection::new(active.clone()));
        assert_eq!(active.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_overload_is_reported_after_the_last_sample() {
        /// A clock that stands still, and panics when it is asked for the fourth time.
        #[derive(Default)]
        struct Broken(AtomicU64);
        impl Clock for Broken {
            fn now(&self) -> vaultsync_protocol::Timestamp {
                vaultsync_protocol::Timestamp::from_millis(0)
            }
            fn uptime(&self) -> Duration {
                assert!(self.0.fetch_add(1, Ordering::Relaxed) < 3, "the clock is broken");
                Duration::from_secs(1)
            }
        }
        let detector = Arc::new(busy());
        let watched = Arc::clone(&detector);
        let watching = tokio::spawn(async move { watched.watch(&Broken::default()).await });
        assert!(watching.await.unwrap_err().is_panic());
        assert!(!detector.is_overloaded(Duration::from_hours(1)));
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
