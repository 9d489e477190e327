//! Fuzzes the parser of push bodies, and compares it with a plain JSON parser.
//!
//! Not here: validation beyond JSON and its messages; `push/tests.rs` tests those.

#![no_main]

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use vaultsync_protocol::{BodyError, KnownEpoch, OPERATIONS_MAX, Operation, Push, Version};

/// Small, so that fuzzed bodies are on both sides of the limit.
const CIPHERTEXT_BYTES_MAX: usize = 24;

fuzz_target!(|body: &[u8]| check(body));

fn check(body: &[u8]) {
    let plain: Result<Value, _> = serde_json::from_slice(body);
    let push = match (Push::from_json(body, CIPHERTEXT_BYTES_MAX), &plain) {
        (Ok(push), _) => push,
        (Err(BodyError::Json(_)), _) => return,
        (Err(BodyError::Invalid(issues)), plain) => {
            assert!(plain.is_ok(), "a body that is not JSON has issues");
            assert!(!issues.is_empty(), "a body is rejected without an issue");
            return;
        }
    };
    assert_agree(&push, &plain.expect("an accepted body is JSON"));

    let printed = print(&push);
    let reparsed = Push::from_json(&printed, CIPHERTEXT_BYTES_MAX).expect("a printed push parses");
    assert_eq!(reparsed.operations(), push.operations());
}

fn assert_agree(push: &Push, plain: &Value) {
    let operations = plain["operations"].as_array().expect("operations are an array");
    assert_eq!(push.operations().len(), operations.len());
    assert!(operations.len() <= OPERATIONS_MAX);
    let mut ids = HashSet::new();
    let mut ciphertext_bytes = 0;
    for (operation, plain) in push.operations().iter().zip(operations) {
        assert_eq!(Some(operation.record_id.as_str()), plain["recordId"].as_str());
        assert!(ids.insert(operation.record_id.as_str()), "a record appears twice");
        assert_eq!(operation.base_version.map(Version::get), base_version(&plain["baseVersion"]));
        let text = plain["ciphertext"].as_str().expect("a ciphertext is a string");
        let bytes = STANDARD.decode(text).expect("a ciphertext is base64");
        assert_eq!(operation.ciphertext.as_bytes(), bytes);
        assert!(bytes.len() <= CIPHERTEXT_BYTES_MAX);
        assert_eq!(Some(operation.deleted), plain["deleted"].as_bool());
        assert!(operation.deleted || !bytes.is_empty(), "an empty ciphertext without a tombstone");
        ciphertext_bytes += bytes.len();
    }
    assert_eq!(push.ciphertext_bytes(), ciphertext_bytes);
    let epoch = plain.get("epoch").filter(|epoch| !epoch.is_null());
    let epoch = epoch.map(|epoch| epoch.as_str().expect("an epoch is a string"));
    assert_eq!(push.epoch(), epoch.and_then(KnownEpoch::new).as_ref());
    assert_eq!(push.epoch().is_some(), epoch.is_some());
}

/// Reads a version as JavaScript does: `1.0` and `1e0` are 1.
fn base_version(plain: &Value) -> Option<i64> {
    if plain.is_null() {
        return None;
    }
    let number = plain.as_f64().expect("a base version is a number");
    let whole =
        plain.as_i64().unwrap_or_else(|| format!("{number:.0}").parse().expect("it is whole"));
    assert!((0..=Version::MAX.get()).contains(&whole) && number.fract() == 0.0, "{number}");
    Some(whole)
}

fn print(push: &Push) -> Vec<u8> {
    let operation = |operation: &Operation| {
        json!({
            "recordId": operation.record_id,
            "baseVersion": operation.base_version,
            "ciphertext": operation.ciphertext,
            "deleted": operation.deleted,
        })
    };
    let operations: Vec<Value> = push.operations().iter().map(operation).collect();
    json!({ "operations": operations }).to_string().into_bytes()
}
