//! Fuzzes the parser of pull bodies, and compares it with a plain JSON parser and with the parser of queries.
//!
//! Not here: validation beyond JSON and its messages; `pull/body.rs` tests those.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use vaultsync_protocol::{BodyError, Cursor, PAGE_RECORDS_MAX, Pull, WAIT_SECONDS_MAX};

fuzz_target!(|body: &[u8]| check(body));

fn check(body: &[u8]) {
    let plain: Result<Value, _> = serde_json::from_slice(body);
    let pull = match (Pull::from_json(body), &plain) {
        (Ok(pull), _) => pull,
        (Err(BodyError::Json(_)), _) => return,
        (Err(BodyError::Invalid(issues)), plain) => {
            assert!(plain.is_ok(), "a body that is not JSON has issues");
            assert!(!issues.is_empty(), "a body is rejected without an issue");
            return;
        }
    };
    let plain = plain.expect("an accepted body is JSON");
    assert!((1..=PAGE_RECORDS_MAX).contains(&pull.limit));
    assert!(pull.wait.as_secs() <= WAIT_SECONDS_MAX && pull.wait.subsec_nanos() == 0);
    assert_eq!(time(&plain["cursor"]), pull.cursor);
    assert_eq!(time(&plain["since"]), pull.since);

    // A query with the same values is the same pull.
    let text = |name: &str| plain[name].as_str().unwrap_or_default().to_owned();
    let parameters = [
        ("cursor", text("cursor")),
        ("limit", pull.limit.to_string()),
        ("wait", pull.wait.as_secs().to_string()),
        ("epoch", text("epoch")),
        ("since", text("since")),
    ];
    // Only a query bounds the length of a value.
    if parameters.iter().all(|(_, value)| value.len() <= 256) {
        let query =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        assert_eq!(Pull::from_query(&query), Ok(pull), "{query}");
    }
}

fn time(plain: &Value) -> Option<Cursor> {
    plain.as_str().map(|text| Cursor::parse(text).expect("an accepted time"))
}
