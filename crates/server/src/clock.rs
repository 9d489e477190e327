//! Where the server's time comes from.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vaultsync_protocol::Timestamp;

/// A source of time, handed to everything that needs one.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock: it may jump in either direction.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment: it never goes back. For ages and deadlines.
    fn uptime(&self) -> Duration;
}

/// The machine's own clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose `uptime` begins now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}
