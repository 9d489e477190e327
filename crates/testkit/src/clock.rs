//! A clock that tests set by hand.
//!
//! Not here: sleeping. A test that needs time to pass moves the clock instead.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use vaultsync_protocol::Timestamp;
use vaultsync_server::Clock;

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    now_millis: AtomicI64,
    uptime_millis: AtomicU64,
}

impl ManualClock {
    /// A clock at `now`, with an uptime of a thousand seconds.
    pub const fn at(now: Timestamp) -> Self {
        Self {
            now_millis: AtomicI64::new(now.as_millis()),
            uptime_millis: AtomicU64::new(1_000_000),
        }
    }

    /// Lets time pass: both the wall clock and the uptime advance.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).expect("a duration of a test fits");
        self.uptime_millis.fetch_add(millis, Ordering::SeqCst);
        self.step(i64::try_from(millis).expect("a duration of a test fits"));
    }

    /// Steps the wall clock forward, or back if `millis` is negative. The uptime stays.
    pub fn step(&self, millis: i64) {
        self.now_millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the wall clock. The uptime stays.
    pub fn set(&self, now: Timestamp) {
        self.now_millis.store(now.as_millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_millis.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(self.uptime_millis.load(Ordering::SeqCst))
    }
}
