//! Points in time on a vault's clock.
//!
//! Not here: reading any clock. Whoever needs the time is handed it.

use std::fmt;

use jiff::{SignedDuration, civil::DateTime};

/// A millisecond, counted from 1970-01-01T00:00:00Z.
///
/// As a record's `updated_at` it means order, not wall time: each record written gets a millisecond
/// of its own, later than every one its vault has handed out before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 0000-01-01T00:00:00.000Z: the first millisecond that RFC 3339 can write.
const FIRST_MILLIS: i64 = -62_167_219_200_000;

/// 9999-12-31T23:59:59.999Z: the last one.
const LAST_MILLIS: i64 = 253_402_300_799_999;

// `jiff::Timestamp` ends a day before RFC 3339 does, so its civil time, read as UTC, serves here.
pub(crate) const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl Timestamp {
    /// The millisecond that many after 1970 began; before it where `millis` is negative.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970 began.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This time moved by `millis`, held at the ends of what an `i64` counts.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// `YYYY-MM-DDTHH:MM:SS.mmmZ`, exactly what `Date.prototype.toISOString` prints, so that a
/// JavaScript client that parses and prints it again loses nothing.
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
