//! Position in a vault from which a pull continues.

use jiff::{SignedDuration, civil::DateTime};

use crate::{Timestamp, timestamp::EPOCH};

/// The `updated_at` of the last record that a client has; a pull returns later records only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(Timestamp);

/// Text that is not an RFC 3339 date and time with an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 date and time with an offset, such as 2024-01-15T10:30:00Z")]
pub struct CursorError;

impl Cursor {
    /// The cursor's point in time.
    pub const fn timestamp(self) -> Timestamp {
        self.0
    }

    /// Parses an RFC 3339 date and time ([RFC 3339, section 5.6]).
    ///
    /// A space is accepted as the `+` of an offset, because an unescaped `+` in a query decodes to
    /// a space. Digits finer than a millisecond are truncated, never rounded: a cursor that was
    /// rounded up would skip a record.
    ///
    /// [RFC 3339, section 5.6]: https://www.rfc-editor.org/rfc/rfc3339#section-5.6
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let parts = Parts::split(text).ok_or(CursorError)?;
        let civil: DateTime = parts.date_time.parse().map_err(|_| CursorError)?;
        let local = civil.duration_since(EPOCH);
        let utc = local - SignedDuration::from_secs(parts.offset_seconds);
        let millis = i64::try_from(utc.as_millis()).map_err(|_| CursorError)?;
        Ok(Self(Timestamp::from_millis(millis.saturating_add(parts.fraction_millis))))
    }
}

impl From<Timestamp> for Cursor {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp)
    }
}

/// Parts of an RFC 3339 date and time.
///
/// Split by hand, because date libraries are more lenient: they also accept week dates, time zone
/// names and offsets with seconds.
struct Parts<'a> {
    /// `YYYY-MM-DDTHH:MM:SS`. The calendar has not checked yet that the day exists.
    date_time: &'a str,
    fraction_millis: i64,
    offset_seconds: i64,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Option<Self> {
        const PATTERN: &[u8] = b"dddd-dd-ddTdd:dd:dd";
        let (date_time, rest) = text.split_at_checked(PATTERN.len())?;
        let matches = |(byte, pattern): (u8, &u8)| match pattern {
            b'd' => byte.is_ascii_digit(),
            b'T' => byte.eq_ignore_ascii_case(&b'T'),
            other => byte == *other,
        };
        if !date_time.bytes().zip(PATTERN).all(matches) {
            return None;
        }
        let (fraction_millis, offset) = split_fraction(rest)?;
        Some(Self { date_time, fraction_millis, offset_seconds: offset_seconds(offset)? })
    }
}

/// Splits `.123456Z` into 123 milliseconds and `Z`.
fn split_fraction(rest: &str) -> Option<(i64, &str)> {
    let Some(fraction) = rest.strip_prefix('.') else {
        return Some((0, rest));
    };
    let end = fraction.find(|c: char| !c.is_ascii_digit())?;
    let (digits, offset) = fraction.split_at(end);
    let first = *digits.as_bytes().first()?;
    let digit = |at: usize| i64::from(digits.as_bytes().get(at).map_or(0, |byte| byte - b'0'));
    Some((i64::from(first - b'0') * 100 + digit(1) * 10 + digit(2), offset))
}

fn offset_seconds(offset: &str) -> Option<i64> {
    let sign = match offset.as_bytes() {
        [b'Z' | b'z'] => return Some(0),
        [b'+' | b' ', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    let [h, i, b':', m, n] = offset.as_bytes().get(1..)? else {
        return None;
    };
    let number = |tens: &u8, ones: &u8| {
        (tens.is_ascii_digit() && ones.is_ascii_digit())
            .then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    let (hours, minutes) = (number(h, i)?, number(m, n)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<i64>) {
        let parsed = Cursor::parse(text).ok().map(|cursor| cursor.timestamp().as_millis());
        assert_eq!(parsed, expected, "{text:?}");
    }

    #[test]
    fn a_cursor_is_an_rfc_3339_time_with_an_offset() {
        check("2024-01-15T10:30:00Z", Some(1_705_314_600_000));
        check("2024-01-15t10:30:00z", Some(1_705_314_600_000));
        check("2024-01-15T10:30:00.1Z", Some(1_705_314_600_100));
        check("2024-01-15T10:30:00.12Z", Some(1_705_314_600_120));
        check("2024-01-15T10:30:00.120Z", Some(1_705_314_600_120));
        check("2024-01-15T11:30:00+01:00", Some(1_705_314_600_000));
        check("2024-01-15T11:30:00 01:00", Some(1_705_314_600_000));
        check("2024-01-15T05:00:00-05:30", Some(1_705_314_600_000));
        check("2024-01-15T10:30:00-00:00", Some(1_705_314_600_000));
        check("2024-02-29T00:00:00Z", Some(1_709_164_800_000));
        check("2016-12-31T23:59:60Z", Some(1_483_228_799_000));
        check("1969-12-31T23:59:59.999Z", Some(-1));
        check("0000-01-01T00:00:00Z", Some(-62_167_219_200_000));
        check("9999-12-31T23:59:59.999Z", Some(253_402_300_799_999));
        check("9999-12-31T23:59:59-23:59", Some(253_402_387_139_000));
    }

    #[test]
    fn digits_finer_than_a_millisecond_are_truncated() {
        check("2024-01-15T10:30:00.1239Z", Some(1_705_314_600_123));
        check("2024-01-15T10:30:00.999999999Z", Some(1_705_314_600_999));
        check("2024-01-15T10:30:00.99999999999999999999Z", Some(1_705_314_600_999));
        check("1969-12-31T23:59:59.9999Z", Some(-1));
    }

    #[test]
    fn other_formats_are_rejected() {
        for text in [
            " ",
            "now",
            "0",
            "1705314600000",
            "2024",
            "2024-01-15",
            "2024-01-15T10:30:00",
            "2024-01-15T10:30Z",
            "2024-01-15 10:30:00Z",
            "2024-13-15T10:30:00Z",
            "2024-02-30T10:30:00Z",
            "2023-02-29T10:30:00Z",
            "2024-01-15T24:00:00Z",
            "2024-01-15T10:60:00Z",
            "2024-01-15T10:30:61Z",
            "2024-01-15T10:30:00.Z",
            "2024-01-15T10:30:00.12",
            "2024-01-15T10:30:00,12Z",
            "2024-01-15T10:30:00+0100",
            "2024-01-15T10:30:00+01",
            "2024-01-15T10:30:00+24:00",
            "2024-01-15T10:30:00+01:60",
            "2024-01-15T10:30:00+01:0:",
            "2024-01-15T10:30:00+0:1:00",
            "2024-01-15T10:30:00+01:00:00",
            "2024-01-15T10:30:00Z ",
            " 2024-01-15T10:30:00Z",
            "2024-01-15T10:30:00ZZ",
            "2024-01-15T10:30:00[UTC]",
            "2024-01-15T10:30:00Z[UTC]",
            "2024-W03-1T10:30:00Z",
            "20240115T103000Z",
            "+2024-01-15T10:30:00Z",
            "-002024-01-15T10:30:00Z",
            "12024-01-15T10:30:00Z",
            "２024-01-15T10:30:00Z",
            "2024-01-15T10:30:0０Z",
            "2024-01-15T10:30:00−01:00",
            "2024-01-15T10:30:00\u{0}Z",
        ] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn a_printed_timestamp_parses_as_a_cursor_at_the_same_millisecond(
            millis in -62_167_219_200_000_i64..=253_402_300_799_999,
        ) {
            let printed = Timestamp::from_millis(millis).to_string();
            prop_assert_eq!(Cursor::parse(&printed), Ok(Cursor(Timestamp::from_millis(millis))));
        }

        #[test]
        fn the_parser_does_not_panic_on_any_text(text in "\\PC*") {
            let _ = Cursor::parse(&text);
        }

        #[test]
        fn the_parser_does_not_panic_on_text_of_valid_characters(text in "[0-9TtZz:.+ -]{0,40}") {
            let _ = Cursor::parse(&text);
        }
    }
}
