//! Points in time on a vault's clock.
//!
//! Not here: reading a clock. Callers pass the time in.

use std::fmt;

use jiff::{SignedDuration, civil::DateTime};

/// Milliseconds since 1970-01-01T00:00:00Z.
///
/// A record's `updated_at` defines order, not wall-clock time: each write gets its own millisecond,
/// later than all that its vault has assigned before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 0000-01-01T00:00:00.000Z, the first millisecond that RFC 3339 can represent.
const FIRST_MILLIS: i64 = -62_167_219_200_000;

/// 9999-12-31T23:59:59.999Z, the last one.
const LAST_MILLIS: i64 = 253_402_300_799_999;

// Civil time, interpreted as UTC, because the range of `jiff::Timestamp` ends a day before that of
// RFC 3339.
pub(crate) const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl Timestamp {
    /// Creates a timestamp from milliseconds since 1970; negative values are earlier.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This time plus `millis`, saturating at the bounds of `i64`.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// `YYYY-MM-DDTHH:MM:SS.mmmZ`, exactly as `Date.prototype.toISOString` prints it, so that a
/// JavaScript client can parse and print it without loss.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_1970 = SignedDuration::from_millis(self.0.clamp(FIRST_MILLIS, LAST_MILLIS));
        let civil = EPOCH.checked_add(since_1970).map_err(|_| fmt::Error)?;
        write!(f, "{civil:.3}Z")
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_as_javascript_does() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1, "1970-01-01T00:00:00.001Z"),
            (1_705_314_600_120, "2024-01-15T10:30:00.120Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (FIRST_MILLIS, "0000-01-01T00:00:00.000Z"),
            (LAST_MILLIS, "9999-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        }
    }
}
