//! Fuzzes the parsers of the `Authorization` header and of tokens, and compares tokens with a plain
//! JSON parser.
//!
//! Each input is used twice: as the value of the header, and as a token to encode, with line breaks
//! between header, claims and signature. Random base64 would almost never decode to JSON.
//!
//! Not here: signatures and the rules for claims, which input without a key does not reach.

#![no_main]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use vaultsync_server::auth::fuzzing::{self, ParsedToken};

/// Small, so that fuzzed tokens are on both sides of the limit.
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
    if let Ok(token) = fuzzing::bearer(&headers, TOKEN_BYTES_MAX) {
        assert!((1..=TOKEN_BYTES_MAX).contains(&token.len()));
        assert!(!token.contains([' ', '\t', ',']) && data.ends_with(token.as_bytes()));
        assert!(data[..6].eq_ignore_ascii_case(b"bearer"));
        check_token(token);
        let printed = HeaderValue::from_str(&format!("Bearer {token}"))
            .expect("the token came from a header");
        let printed = HeaderMap::from_iter([(AUTHORIZATION, printed)]);
        assert_eq!(fuzzing::bearer(&printed, TOKEN_BYTES_MAX), Ok(token));
    }
    headers.append(AUTHORIZATION, value);
    assert!(fuzzing::bearer(&headers, TOKEN_BYTES_MAX).is_err(), "two headers are accepted");
}

fn check_token(text: &str) {
    let Ok(token) = fuzzing::token(text) else { return };
    let ParsedToken { signed, signature, kid, header, claims } = token;
    assert_eq!(format!("{signed}.{signature}"), text);
    let (first, second) = signed.split_once('.').expect("a token has three parts");
    assert_eq!(header, members(first));
    assert_eq!(claims, members(second));
    let bytes = URL_SAFE_NO_PAD.decode(signature).expect("a signature is base64url");
    assert!(!bytes.is_empty(), "the signature is empty");
    assert_eq!(header.get("kid").and_then(Value::as_str), kid.as_deref());
    assert_eq!(header.contains_key("kid"), kid.is_some());
    assert!(!header.contains_key("crit") && !header.contains_key("b64"));

    let encoded = [&header, &claims].map(|members| {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(members).expect("members are JSON"))
    });
    let printed = format!("{}.{}.{signature}", encoded[0], encoded[1]);
    let reparsed = fuzzing::token(&printed).expect("a printed token parses");
    assert!(almost_equal(&header.into(), &reparsed.header.into()), "{printed}");
    assert!(almost_equal(&claims.into(), &reparsed.claims.into()), "{printed}");
}

/// Decodes a part of a token with two independent crates.
fn members(part: &str) -> Map<String, Value> {
    let json = URL_SAFE_NO_PAD.decode(part).expect("a part is base64url");
    serde_json::from_slice(&json).expect("a part is a JSON object")
}

/// Compares values except for the last bits of fractions, which `serde_json` does not promise to
/// keep.
fn almost_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| almost_equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same =
                |(name, value)| other.get(name).is_some_and(|other| almost_equal(value, other));
            one.len() == other.len() && one.iter().all(same)
        }
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) else { return false };
            (one - other).abs() <= one.abs() * 1e-15
        }
        _ => one == other,
    }
}
