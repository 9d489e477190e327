//! The CPU-bound work of requests, one path per name, whose instructions `cargo xtask test` counts.
//!
//! Not here: time. It means nothing on a busy machine, unlike the number of instructions.

use std::{hint::black_box, sync::Arc, time::Duration};

use axum::http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use futures_util::FutureExt as _;
use vaultsync_protocol::{Ciphertext, Epoch, Page, Push, Record, RecordId, Timestamp, Version};
use vaultsync_server::{
    Clock as _,
    auth::{Authenticator, Issuer, LocalKey},
};
use vaultsync_store::{RecordState, WriteDecision, check_version};
use vaultsync_testkit::ManualClock;

/// Size of a ciphertext.
const BYTES: usize = 1024;

const NOW: Timestamp = Timestamp::from_millis(1_705_314_600_000);

fn main() {
    let path = std::env::args().nth(1).unwrap_or_default();
    match path.as_str() {
        "decode_push_of_1" => decode_push_of_1(&push(1)),
        "decode_push_of_100" => decode_push_of_100(&push(100)),
        "check_version_100" => {
            check_version_100(&Push::from_json(push(100).as_bytes(), BYTES).expect("a push"));
        }
        "encode_page_of_100" => encode_page_of_100(&page(100)),
        "authenticate_cached" => {
            let (authenticator, headers) = authenticator_and_headers();
            authenticate_cached(&authenticator, &headers);
        }
        other => panic!("unknown path: {other:?}"),
    }
}

// The instructions are counted by function name, so these are never inlined.

#[inline(never)]
fn decode_push_of_1(body: &str) {
    drop(black_box(Push::from_json(body.as_bytes(), BYTES).expect("a push")));
}

#[inline(never)]
fn decode_push_of_100(body: &str) {
    drop(black_box(Push::from_json(body.as_bytes(), BYTES).expect("a push")));
}

#[inline(never)]
fn check_version_100(push: &Push) {
    let state = RecordState { version: Version::FIRST, deleted: false };
    for operation in push.operations() {
        let decision = check_version(operation, black_box(Some(state)), false, || true);
        assert_eq!(black_box(decision), WriteDecision::Apply(Version::FIRST.next()));
    }
}

#[inline(never)]
fn encode_page_of_100(page: &Page) {
    drop(black_box(page.to_json()));
}

#[inline(never)]
fn authenticate_cached(authenticator: &Authenticator, headers: &HeaderMap) {
    let caller = authenticator.authenticate(headers).now_or_never();
    black_box(caller.expect("a cached token needs no waiting").expect("a valid token"));
}

/// A push of `count` updates, as JSON.
fn push(count: usize) -> String {
    let ciphertext = base64_simd::STANDARD.encode_to_string(ciphertext());
    let operations: Vec<_> = (0..count)
        .map(|number| {
            serde_json::json!({
                "recordId": format!("record {number}"),
                "baseVersion": 1,
                "ciphertext": ciphertext,
                "deleted": false,
            })
        })
        .collect();
    serde_json::json!({ "operations": operations }).to_string()
}

fn page(count: i64) -> Page {
    let record = |number: i64| Record {
        record_id: RecordId::new(&format!("record {number}")).expect("an id"),
        ciphertext: Ciphertext::from_bytes(ciphertext()),
        version: Version::FIRST,
        deleted: false,
        updated_at: NOW.plus_millis(number),
    };
    let records: Vec<_> = (0..count).map(record).collect();
    let head = records.last().map(|record| record.updated_at);
    let epoch = Some(Epoch::from_bytes([7; 16]));
    Page { records, next_cursor: head, has_more: true, epoch, head }
}

fn ciphertext() -> Vec<u8> {
    (0..=250).cycle().take(BYTES).collect()
}

/// An authenticator, and headers with a token that it has verified before.
fn authenticator_and_headers() -> (Authenticator, HeaderMap) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = LocalKey::load_or_create(folder.path()).expect("a key");
    let clock = Arc::new(ManualClock::at(NOW));
    let token = key.mint("user", clock.now(), Duration::from_secs(3600)).expect("a token");
    let authenticator = Authenticator::new(vec![Issuer::local(&key)], 8192, clock);
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
    headers.insert(AUTHORIZATION, value);
    let verified = authenticator.authenticate(&headers).now_or_never();
    verified.expect("a local key needs no waiting").expect("a valid token");
    (authenticator, headers)
}
