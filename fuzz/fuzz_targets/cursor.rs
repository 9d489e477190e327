//! Fuzzes the cursor and the query of a pull, and compares cursors with jiff's parser.
//!
//! Not here: texts that jiff accepts although they are not RFC 3339; `cursor.rs` tests those.

#![no_main]

use jiff::Timestamp as Jiff;
use libfuzzer_sys::fuzz_target;
use vaultsync_protocol::{Cursor, PAGE_RECORDS_MAX, Pull, Timestamp, WAIT_SECONDS_MAX};

/// Range of RFC 3339 in milliseconds. A cursor outside of it, because of its offset, is printed as
/// the nearest bound.
const MILLIS: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

fuzz_target!(|text: &str| {
    check_cursor(text);
    check_query(text);
    let query = query([("cursor", text)]);
    if let Ok(pull) = Pull::from_query(&query) {
        assert_eq!(pull.cursor, Cursor::parse(text).ok(), "{query}");
    }
});

fn check_cursor(text: &str) {
    if let Ok(cursor) = Cursor::parse(text) {
        let millis = cursor.timestamp().as_millis();
        if let Ok(time) = to_jiff_syntax(text).parse::<Jiff>() {
            assert_eq!(millis, floored(time), "{text:?}");
        } else {
            // Its range ends a day before that of RFC 3339.
            assert!(millis > Jiff::MAX.as_millisecond(), "jiff rejects {text:?}");
        }
        if MILLIS.contains(&millis) {
            assert_eq!(Cursor::parse(&cursor.timestamp().to_string()), Ok(cursor), "{text:?}");
        }
    }
    if let Ok(time) = text.parse::<Jiff>()
        && MILLIS.contains(&floored(time))
    {
        let expected = Cursor::from(Timestamp::from_millis(floored(time)));
        assert_eq!(Cursor::parse(&time.to_string()), Ok(expected), "{time}");
    }
}

/// Rounds down to a millisecond: a cursor must not move forward.
fn floored(time: Jiff) -> i64 {
    let millis = time.as_nanosecond().div_euclid(1_000_000);
    i64::try_from(millis).expect("jiff's range fits into an i64")
}

/// Rewrites what only our parser accepts: a space for a `+`, and more than nine fractional digits.
fn to_jiff_syntax(text: &str) -> String {
    let text = text.replace(' ', "+");
    let Some((seconds, rest)) = text.split_once('.') else { return text };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    format!("{seconds}.{}{}", &rest[..digits.min(9)], &rest[digits..])
}

fn check_query(text: &str) {
    let Ok(pull) = Pull::from_query(text) else { return };
    assert!((1..=PAGE_RECORDS_MAX).contains(&pull.limit));
    assert!(pull.wait.as_secs() <= WAIT_SECONDS_MAX && pull.wait.subsec_nanos() == 0);
    if pull.cursor.is_some_and(|cursor| !MILLIS.contains(&cursor.timestamp().as_millis())) {
        return;
    }
    if pull.since.is_some_and(|since| !MILLIS.contains(&since.timestamp().as_millis())) {
        return;
    }
    let printed =
        |time: Option<Cursor>| time.map(|time| time.timestamp().to_string()).unwrap_or_default();
    let (cursor, since) = (printed(pull.cursor), printed(pull.since));
    let printed = query([
        ("cursor", &*cursor),
        ("limit", &pull.limit.to_string()),
        ("wait", &pull.wait.as_secs().to_string()),
        ("since", &*since),
    ]);
    // An epoch is only compared and cannot be printed.
    assert_eq!(Pull::from_query(&printed), Ok(Pull { epoch: None, ..pull }), "{text:?}");
}

fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
