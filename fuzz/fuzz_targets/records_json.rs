//! Fuzzes the parser of requests for records by id, and compares it with a plain JSON parser.
//!
//! Not here: validation beyond JSON and its messages; `records/body.rs` tests those.

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use vaultsync_protocol::{BodyError, KnownEpoch, RECORD_IDS_MAX, RecordId, RecordsRequest};

fuzz_target!(|body: &[u8]| check(body));

fn check(body: &[u8]) {
    let plain: Result<Value, _> = serde_json::from_slice(body);
    let request = match (RecordsRequest::from_json(body), &plain) {
        (Ok(request), _) => request,
        (Err(BodyError::Json(_)), _) => return,
        (Err(BodyError::Invalid(issues)), plain) => {
            assert!(plain.is_ok(), "a body that is not JSON has issues");
            assert!(!issues.is_empty(), "a body is rejected without an issue");
            return;
        }
    };
    let plain = plain.expect("an accepted body is JSON");
    let ids: Vec<&str> = request.record_ids().iter().map(RecordId::as_str).collect();
    let listed = plain["recordIds"].as_array().expect("an array of ids");
    assert!((1..=RECORD_IDS_MAX).contains(&ids.len()));
    assert!(listed.iter().map(|id| id.as_str().expect("a string")).eq(ids.iter().copied()));
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "an id appears twice");
    let epoch = plain["epoch"].as_str();
    assert_eq!(request.epoch(), epoch.and_then(KnownEpoch::new).as_ref());
    assert_eq!(request.epoch().is_some(), epoch.is_some());

    let printed = json!({ "recordIds": ids, "epoch": epoch }).to_string();
    assert_eq!(RecordsRequest::from_json(printed.as_bytes()), Ok(request.clone()));
}
