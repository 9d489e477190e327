//! The keys that an issuer answers with, beside a plain reading of the same JSON.
//!
//! Not here: the fetch of them, and whether a key verifies anything.

#![no_main]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use vaultsync_server::auth::fuzzed;

/// More would only make bodies longer, not stranger.
const KEYS_MAX: usize = 64;

fuzz_target!(|body: &[u8]| check(body));

fn check(body: &[u8]) {
    let plain: Result<Value, _> = serde_json::from_slice(body);
    let Ok((keys, count)) = fuzzed::jwks(body) else { return };
    let plain = plain.expect("what is accepted is JSON");
    let listed = plain["keys"].as_array().expect("a set lists keys");
    assert!(listed.len() <= KEYS_MAX);

    let useful: Vec<&Value> = listed.iter().filter(|key| may_be_useful(key)).collect();
    assert!((1..=useful.len()).contains(&count), "{count} keys of {}", useful.len());

    // What is of no use spoils nothing, and neither does an order.
    let printed = json!({ "keys": useful });
    assert!(fuzzed::jwks(printed.to_string().as_bytes()) == Ok((keys, count)), "{printed}");
    let shuffled = json!({ "keys": useful.into_iter().rev().collect::<Vec<_>>() });
    let (same, _) = fuzzed::jwks(shuffled.to_string().as_bytes()).expect("they were keys");
    let (keys, _) = fuzzed::jwks(body).expect("they were keys");
    assert!(same == keys, "another order makes other keys of {printed}");
}

/// What every key that is taken must be, by RFC 7517, 7518 and 8037.
fn may_be_useful(key: &Value) -> bool {
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap_or_default());
    let has = |name: &str, len: usize| bytes(name).is_ok_and(|bytes| bytes.len() == len);
    let kind = match key["kty"].as_str() {
        Some("RSA") => bytes("n").is_ok_and(|n| n.len() >= 256) && bytes("e").is_ok(),
        Some("EC") => key["crv"] == "P-256" && has("x", 32) && has("y", 32),
        Some("OKP") => key["crv"] == "Ed25519" && has("x", 32),
        _ => false,
    };
    kind && key["kid"].is_string() && key.get("d").is_none()
}
