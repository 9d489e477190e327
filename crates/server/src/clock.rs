//! The server's source of time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vaultsync_protocol::Timestamp;

/// A source of time, passed to everything that needs one.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time. It may jump in either direction.
    fn now(&self) -> Timestamp;

    /// Time since a fixed moment, for ages and deadlines. It never goes back.
    fn uptime(&self) -> Duration;
}

/// The clock of the machine.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Creates a clock whose `uptime` starts at zero.
    #[expect(clippy::disallowed_methods, reason = "the only code that reads the machine's clock")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the only code that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Whole milliseconds of a duration, for atomic variables.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
