//! Fuzzes the parser of an issuer's key set, and compares it with a plain JSON parser.
//!
//! Not here: fetching, and whether a key verifies anything.

#![no_main]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use vaultsync_server::auth::fuzzing;

/// Maximum number of keys in an accepted set.
const KEYS_MAX: usize = 64;

fuzz_target!(|body: &[u8]| check(body));

fn check(body: &[u8]) {
    let plain: Result<Value, _> = serde_json::from_slice(body);
    let Ok((keys, count)) = fuzzing::jwks(body) else { return };
    let plain = plain.expect("an accepted body is JSON");
    let listed = plain["keys"].as_array().expect("a key set has an array of keys");
    assert!(listed.len() <= KEYS_MAX);

    let usable: Vec<&Value> = listed.iter().filter(|key| may_be_usable(key)).collect();
    assert!((1..=usable.len()).contains(&count), "{count} keys of {}", usable.len());

    // Neither unusable keys nor the order make a difference.
    let printed = json!({ "keys": usable });
    assert!(fuzzing::jwks(printed.to_string().as_bytes()) == Ok((keys, count)), "{printed}");
    let shuffled = json!({ "keys": usable.into_iter().rev().collect::<Vec<_>>() });
    let (shuffled_keys, _) =
        fuzzing::jwks(shuffled.to_string().as_bytes()).expect("the same keys parse again");
    let (keys, _) = fuzzing::jwks(body).expect("the same keys parse again");
    assert!(shuffled_keys == keys, "the order of {printed} makes a difference");
}

/// Minimum requirements of RFC 7517, 7518 and 8037 on every accepted key.
fn may_be_usable(key: &Value) -> bool {
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap_or_default());
    let has = |name: &str, len: usize| bytes(name).is_ok_and(|bytes| bytes.len() == len);
    let kind = match key["kty"].as_str() {
        Some("RSA") => bytes("n").is_ok_and(|n| n.len() >= 256) && bytes("e").is_ok(),
        Some("EC") => key["crv"] == "P-256" && has("x", 32) && has("y", 32),
        Some("OKP") => key["crv"] == "Ed25519" && has("x", 32),
        _ => false,
    };
    kind && key.get("kid").is_none_or(Value::is_string) && key.get("d").is_none()
}
