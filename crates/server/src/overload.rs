//! Whether the server keeps up with what comes.
//!
//! Requests that it has no time for do not queue up where they could be counted: they lie in
//! sockets, and in the runtime's list of what wants to go on. How long that list takes shows in how
//! late somebody goes on who asked to be woken, and then went to the end of it.
//!
//! Where five times as many pushes came as SQLite could take on a shared core, the 99th of 100 accepted
//! was answered after some 0.8 s; without this it was after 5 s, and some were not answered in 30 s.

use std::{
    future::poll_fn,
    mem,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::Poll,
    time::Duration,
};

use crate::Clock;

/// How long it takes from one look to the next, where nothing is late.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(20);

/// How late a look is when there is too much to do. A request goes on some three times until it is
/// answered, and each time it may be that late. With 100 ms the 99th of 100 was answered after up to 1.5 s.
const LATE: Duration = Duration::from_millis(50);

/// How many looks in a row must be late: one is when the machine had something else to do.
const LATE_SAMPLES: u32 = 2;

/// How many looks in a row must be in time for it to be over.
const TIMELY_SAMPLES: u32 = 5;

/// What the log says of a request that came when there was too much to do.
pub(crate) const OVERLOADED: &str = "the server does not keep up";

/// Whether there is too much to do.
#[derive(Debug, Default)]
pub(crate) struct OverloadDetector {
    was_high: AtomicBool,
    /// The uptime at which a look is due, in ms; 0 where nobody looks.
    due_millis: AtomicU64,
}

impl OverloadDetector {
    /// Whether whatever need not be done should not be begun: by the last looks, or because the one that
    /// is due does not get its turn.
    pub(crate) fn is_high(&self, uptime: Duration) -> bool {
        let due = Duration::from_millis(self.due_millis.load(Ordering::Relaxed));
        let is_overdue = !due.is_zero() && uptime.saturating_sub(due) > LATE * LATE_SAMPLES;
        is_overdue || self.was_high.load(Ordering::Relaxed)
    }

    /// Nobody looks any more: what comes is served.
    pub(crate) fn forget(&self) {
        self.due_millis.store(0, Ordering::Relaxed);
        self.was_high.store(false, Ordering::Relaxed);
    }

    /// LagSamples for ever.
    pub(crate) async fn watch(&self, clock: &dyn Clock) {
        let mut looks = LagSamples::default();
        loop {
            let due = clock.uptime() + SAMPLE_INTERVAL;
            let due_millis = u64::try_from(due.as_millis()).unwrap_or(u64::MAX);
            self.due_millis.store(due_millis, Ordering::Relaxed);
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            let_others_go_first().await;
            let is_high = looks.add(clock.uptime().saturating_sub(due));
            if self.was_high.swap(is_high, Ordering::Relaxed) != is_high {
                let told = if is_high { OVERLOADED } else { "the server keeps up again" };
                tracing::warn!("{told}");
            }
        }
    }
}

/// Goes to the end of the list. Whoever's time has come goes on at once, before all that wait: by that
/// alone nobody is seen to wait. The runtime's own `yield_now` does the same for whoever calls it.
async fn let_others_go_first() {
    let mut has_waited = false;
    poll_fn(|context| {
        if mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What the last looks were like.
#[derive(Debug, Default)]
struct LagSamples {
    is_high: bool,
    /// How many in a row say that this should change.
    against: u32,
}

impl LagSamples {
    /// Adds one that was that late; whether pressure is high since.
    fn add(&mut self, late: Duration) -> bool {
        let is_late = late > LATE;
        self.against = if is_late == self.is_high { 0 } else { self.against + 1 };
        let enough = if self.is_high { TIMELY_SAMPLES } else { LATE_SAMPLES };
        if self.against >= enough {
            *self = Self { is_high: is_late, against: 0 };
        }
        self.is_high
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_look_that_does_not_come_is_late_for_all_its_turns() {
        let pressure = OverloadDetector::default();
        let after = |millis| pressure.is_high(Duration::from_millis(millis));
        assert!(!after(3_600_000), "nobody looks");
        pressure.due_millis.store(1_000, Ordering::Relaxed);
        assert_eq!([900, 1_000, 1_100, 1_101].map(after), [false, false, false, true]);
        pressure.due_millis.store(2_000, Ordering::Relaxed);
        assert!(!after(1_101));
        pressure.was_high.store(true, Ordering::Relaxed);
        assert!(after(1_101), "until looks are in time again");
        pressure.forget();
        assert!(!after(3_600_000));
    }

    #[tokio::test]
    async fn whoever_lets_others_go_first_goes_on_after_them() {
        let went = Arc::new(AtomicU64::new(0));
        for _ in 0..10 {
            let went = Arc::clone(&went);
            tokio::spawn(async move { went.fetch_add(1, Ordering::Relaxed) });
        }
        let_others_go_first().await;
        assert_eq!(went.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn one_late_look_is_not_pressure_and_a_timely_one_not_its_end() {
        let (late, timely) = (LATE + Duration::from_millis(1), LATE);
        let mut looks = LagSamples::default();
        let told = [late, timely, late, late, timely, late, timely, timely, timely, timely, timely]
            .map(|look| looks.add(look));
        assert_eq!(told, [false, false, false, true, true, true, true, true, true, true, false]);
    }
}
