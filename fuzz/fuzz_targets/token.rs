//! The `Authorization` header and the token in it, beside a plain reading of the token's JSON.
//!
//! The input is the header's value, and then again a token to be encoded: its header, its claims and
//! its signature, with a line break between them. By chance alone no JSON would come out of base64.
//! Not here: signatures and what claims must be, which nobody reaches without a key.

#![no_main]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use vaultsync_server::auth::fuzzed::{self, Written};

/// Small, so that made-up tokens are on both sides of it.
const TOKEN_BYTES_MAX: usize = 512;

fuzz_target!(|data: &[u8]| {
    check_header(data);
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    if let (Some(header), Some(claims), Some(signature)) =
        (parts.next(), parts.next(), parts.next())
    {
        let encoded = [header, claims, signature].map(|part| URL_SAFE_NO_PAD.encode(part));
        check_token(&encoded.join("."));
    }
});

fn check_header(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let mut headers = HeaderMap::new();
    headers.append(AUTHORIZATION, value.clone());
    if let Ok(token) = fuzzed::bearer(&headers, TOKEN_BYTES_MAX) {
        assert!((1..=TOKEN_BYTES_MAX).contains(&token.len()));
        assert!(!token.contains([' ', '\t', ',']) && data.ends_with(token.as_bytes()));
        assert!(data[..6].eq_ignore_ascii_case(b"bearer"));
        check_token(token);
        let printed = HeaderValue::from_str(&format!("Bearer {token}")).expect("it was in one");
        let printed = HeaderMap::from_iter([(AUTHORIZATION, printed)]);
        assert_eq!(fuzzed::bearer(&printed, TOKEN_BYTES_MAX), Ok(token));
    }
    headers.append(AUTHORIZATION, value);
    assert!(fuzzed::bearer(&headers, TOKEN_BYTES_MAX).is_err(), "one of two headers was taken");
}

fn check_token(text: &str) {
    let Ok(token) = fuzzed::token(text) else { return };
    let Written { signed, signature, kid, header, claims } = token;
    assert_eq!(format!("{signed}.{signature}"), text);
    let (first, second) = signed.split_once('.').expect("a token has three parts");
    assert_eq!(header, members(first));
    assert_eq!(claims, members(second));
    let bytes = URL_SAFE_NO_PAD.decode(signature).expect("a signature is base64url");
    assert!(!bytes.is_empty(), "nobody signed it");
    assert_eq!(header.get("kid").and_then(Value::as_str), Some(&*kid));
    assert!(!header.contains_key("crit") && !header.contains_key("b64"));

    let encoded = [&header, &claims].map(|members| {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(members).expect("members are JSON"))
    });
    let printed = format!("{}.{}.{signature}", encoded[0], encoded[1]);
    let again = fuzzed::token(&printed).expect("what is printed is read");
    assert!(alike(&header.into(), &again.header.into()), "{printed}");
    assert!(alike(&claims.into(), &again.claims.into()), "{printed}");
}

/// What two independent crates read in a part of a token.
fn members(part: &str) -> Map<String, Value> {
    let json = URL_SAFE_NO_PAD.decode(part).expect("a part is base64url");
    serde_json::from_slice(&json).expect("a part is a JSON object")
}

/// The same but for the last bits of fractions, which `serde_json` does not promise to keep.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(name, value)| other.get(name).is_some_and(|other| alike(value, other));
            one.len() == other.len() && one.iter().all(same)
        }
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) else { return false };
            (one - other).abs() <= one.abs() * 1e-15
        }
        _ => one == other,
    }
}
