//! The cursor and the whole query of a pull, beside jiff's reading of the same time.
//!
//! Not here: which of the texts that jiff reads are no RFC 3339; the tests of `cursor.rs` say that.

#![no_main]

use jiff::Timestamp as Jiff;
use libfuzzer_sys::fuzz_target;
use vaultsync_protocol::{Cursor, PAGE_RECORDS_MAX, Pull, Timestamp, WAIT_SECONDS_MAX};

/// The years that RFC 3339 can write, in milliseconds. A cursor beyond them, by its offset, is
/// printed as the nearest end.
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
        if let Ok(time) = for_jiff(text).parse::<Jiff>() {
            assert_eq!(millis, floored(time), "{text:?}");
        } else {
            // Its times end a day before those of RFC 3339 do.
            assert!(millis > Jiff::MAX.as_millisecond(), "{text:?} is no time to jiff");
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

/// The last whole millisecond that is not later: a cursor must not move forward.
fn floored(time: Jiff) -> i64 {
    let millis = time.as_nanosecond().div_euclid(1_000_000);
    i64::try_from(millis).expect("jiff's times are few")
}

/// What our reading allows and jiff's does not: a blank for a `+`, and more than nine digits.
fn for_jiff(text: &str) -> String {
    let text = text.replace(' ', "+");
    let Some((before, rest)) = text.split_once('.') else { return text };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    format!("{before}.{}{}", &rest[..digits.min(9)], &rest[digits..])
}

fn check_query(text: &str) {
    let Ok(pull) = Pull::from_query(text) else { return };
    assert!((1..=PAGE_RECORDS_MAX).contains(&pull.limit));
    assert!(pull.wait.as_secs() <= WAIT_SECONDS_MAX && pull.wait.subsec_nanos() == 0);
    if pull.cursor.is_some_and(|cursor| !MILLIS.contains(&cursor.timestamp().as_millis())) {
        return;
    }
    let cursor = pull.cursor.map(|cursor| cursor.timestamp().to_string()).unwrap_or_default();
    let printed = query([
        ("cursor", &*cursor),
        ("limit", &pull.limit.to_string()),
        ("wait", &pull.wait.as_secs().to_string()),
    ]);
    // An epoch is only ever compared, and cannot be printed.
    assert_eq!(Pull::from_query(&printed), Ok(Pull { epoch: None, ..pull }), "{text:?}");
}

fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
