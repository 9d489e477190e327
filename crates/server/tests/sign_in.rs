//! Which tokens let somebody in, which do not, and what each caller is told.
//!
//! Not here: where keys come from and how long they are good (`sign_in_keys.rs`), what a setting
//! may be (`sign_in_settings.rs`).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use reqwest::Method;
use serde_json::{Map, Value, json};
use vaultsync_protocol::Timestamp;
use vaultsync_server::auth::{
    Authenticator, ClerkOptions, Issuer, LOCAL_ISSUER, LocalKey, OidcOptions, Outcome, Refusal,
    SignedIn,
};
use vaultsync_testkit::forge::{Algorithm, ClerkForge, SigningKey, base64url, publishable_key};
use vaultsync_testkit::jwks_server::JwksServer;
use vaultsync_testkit::{Backend, ManualClock, Setup, TestServer, send};

const ISSUER: &str = "https://clerk.example.com";
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Status, code and reason.
type Want = (u16, &'static str, &'static str);

const ACCEPTED: Want = (200, "", "");
const MISSING: Want = (401, "unauthorized", "session-token-missing");
const INVALID: Want = (401, "unauthorized", "token-invalid");
const MISTYPED: Want = (401, "unauthorized", "token-type-mismatch");
const ALGORITHM: Want = (401, "unauthorized", "token-invalid-algorithm");
const SIGNATURE: Want = (401, "unauthorized", "token-invalid-signature");
const FOREIGN: Want = (401, "unauthorized", "token-invalid-issuer");
const NO_SUCH_KEY: Want = (401, "unauthorized", "jwk-kid-mismatch");
/// From here on the signature has verified, and the caller is told why.
const FAILED: Want = (401, "token_verification_failed", "token-verification-failed");
const NOT_A_SESSION: Want = (401, "token_type_mismatch", "token-type-mismatch");
const AUDIENCE: Want = (401, "token_invalid_audience", "token-invalid-audience");
const PARTY: Want = (401, "token_invalid_authorized_parties", "token-invalid-authorized-parties");
const EXPIRED: Want = (401, "token_expired", "token-expired");
const EARLY: Want = (401, "token_not_active_yet", "token-not-active-yet");
const FROM_THE_FUTURE: Want = (401, "token_iat_in_the_future", "token-iat-in-the-future");
const PENDING: Want = (401, "session_pending", "session-pending");
const IMPERSONATED: Want = (403, "forbidden", "impersonation-not-allowed");

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(NOW))
}

fn forge() -> ClerkForge {
    ClerkForge::new(ISSUER, SigningKey::rsa(0), NOW)
}

/// A Clerk instance whose key is written down, so that no network is used.
fn written_down() -> ClerkOptions {
    ClerkOptions {
        publishable_key: Some(publishable_key("clerk.example.com")),
        jwt_keys: vec![SigningKey::rsa(0).public_pem()],
        ..ClerkOptions::default()
    }
}

fn authenticator(issuers: Vec<Issuer>, clock: &Arc<ManualClock>) -> Authenticator {
    Authenticator::new(issuers, TOKEN_BYTES_MAX, Arc::clone(clock) as _)
}

fn clerk(options: ClerkOptions) -> Authenticator {
    authenticator(vec![Issuer::clerk(options).expect("good settings")], &clock())
}

fn bearer(token: &str) -> HeaderMap {
    headers(&[format!("Bearer {token}").as_bytes()])
}

fn headers(values: &[&[u8]]) -> HeaderMap {
    values
        .iter()
        .map(|value| (AUTHORIZATION, HeaderValue::from_bytes(value).expect("a header's value")))
        .collect()
}

fn told(result: &Result<SignedIn, Refusal>) -> (u16, &'static str, &'static str) {
    match result {
        Ok(_) => ACCEPTED,
        Err(refusal) => {
            let status = match refusal.outcome() {
                Outcome::Unauthorized { .. } => 401,
                Outcome::Forbidden => 403,
                Outcome::Unavailable { .. } => 503,
            };
            (status, refusal.code(), refusal.reason().as_str())
        }
    }
}

/// A server that recognises callers as `authenticator` does. Who is calling is known before a database
/// is asked, so one is enough.
async fn serve(authenticator: &Authenticator) -> TestServer {
    let authenticator = Some(authenticator.clone());
    TestServer::start_with(Setup { authenticator, ..Setup::on(Backend::Sqlite) }).await
}

/// Asks the authenticator itself, which knows its reason, and a server over HTTP.
async fn check(name: &str, authenticator: &Authenticator, headers: &HeaderMap, want: Want) {
    check_at(&serve(authenticator).await, name, authenticator, headers, want).await;
}

async fn check_at(
    server: &TestServer,
    name: &str,
    authenticator: &Authenticator,
    headers: &HeaderMap,
    want: Want,
) {
    let result = authenticator.authenticate(headers).await;
    assert_eq!(told(&result), want, "{name}");
    // HTTP takes blanks around a value away before anybody sees it.
    let is_trimmed = |value: &HeaderValue| value.as_bytes().trim_ascii() == value.as_bytes();
    if !headers.values().all(is_trimmed) {
        return;
    }
    let request = server.request(Method::GET, "/api/sync/pull").headers(headers.clone());
    let answer = send(request).await;
    let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
    assert_eq!((answer.status, code.as_str()), (want.0, want.1), "{name}, over HTTP");
    if want.0 == 401 {
        assert_eq!(answer.json()["error"], "Unauthorized", "{name}");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with(r#"Bearer realm="sync""#), "{name}: {challenge}");
        let is_told_why = challenge.contains(want.2);
        assert_eq!(is_told_why, want.1 != "unauthorized", "{name}: {challenge}");
    }
}

async fn check_all(authenticator: &Authenticator, table: Vec<(&str, String, Want)>) {
    let server = serve(authenticator).await;
    for (name, token, want) in table {
        check_at(&server, name, authenticator, &bearer(&token), want).await;
    }
}

/// A good token but for one member of its header; `null` takes the member away.
fn with_header(name: &str, value: Value) -> String {
    forge().token_with(|header, _| set(header, name, value))
}

/// A good token but for one claim; `null` takes the claim away.
fn with_claim(name: &str, value: Value) -> String {
    forge().token_with(|_, claims| set(claims, name, value))
}

fn set(members: &mut Map<String, Value>, name: &str, value: Value) {
    if value.is_null() {
        members.remove(name).expect("the good token has it");
    } else {
        members.insert(name.to_owned(), value);
    }
}

#[tokio::test]
async fn a_good_token_says_who_is_calling() {
    let signed_in = clerk(written_down()).authenticate(&bearer(&forge().token())).await;
    let signed_in = signed_in.expect("a good token");
    assert_eq!(&*signed_in.issuer, ISSUER);
    assert_eq!(&*signed_in.subject, "user_2someone");
    assert_eq!(signed_in.expires_at, NOW.plus_millis(60_000));
}

#[tokio::test]
async fn one_bearer_token_in_one_authorization_header() {
    let auth = clerk(written_down());
    let token = forge().token();
    let line = |before: &str, after: &str| format!("{before}{token}{after}").into_bytes();
    let good = line("Bearer ", "");
    for (name, values, want) in [
        ("Bearer", vec![good.clone()], ACCEPTED),
        ("lower case", vec![line("bearer ", "")], ACCEPTED),
        ("upper case", vec![line("BEARER ", "")], ACCEPTED),
        ("two spaces", vec![line("Bearer  ", "")], ACCEPTED),
        ("nothing", vec![], MISSING),
        ("an empty header", vec![b"".to_vec()], MISSING),
        ("a bare token", vec![line("", "")], MISSING),
        ("Basic", vec![b"Basic dXNlcjpwYXNz".to_vec()], MISSING),
        ("a token under Basic", vec![line("Basic ", "")], MISSING),
        ("a longer scheme", vec![line("Bearers ", "")], MISSING),
        ("no space", vec![line("Bearer", "")], MISSING),
        ("a tab", vec![line("Bearer\t", "")], MISSING),
        ("no token", vec![b"Bearer".to_vec()], INVALID),
        ("only spaces", vec![b"Bearer   ".to_vec()], INVALID),
        ("two words", vec![b"Bearer a b".to_vec()], INVALID),
        ("a good token and a word", vec![line("Bearer ", " b")], INVALID),
        ("a word and a good token", vec![line("Bearer b ", "")], INVALID),
        ("a comma", vec![line("Bearer ", ",b")], INVALID),
        ("a space behind", vec![line("Bearer ", " ")], INVALID),
        ("not ASCII", vec![line("Bearer ", "\u{e9}")], INVALID),
        ("twice the same", vec![good.clone(), good.clone()], INVALID),
        ("a bad one first", vec![b"Bearer a.b.c".to_vec(), good.clone()], INVALID),
        ("Basic first", vec![b"Basic dXNlcjpwYXNz".to_vec(), good.clone()], INVALID),
        ("Basic behind", vec![good, b"Basic dXNlcjpwYXNz".to_vec()], INVALID),
    ] {
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        check(name, &auth, &headers(&values), want).await;
    }
}

#[tokio::test]
async fn a_cookie_is_no_token() {
    let mut cookie = HeaderMap::new();
    let value = format!("__session={}", forge().token());
    cookie.insert(http::header::COOKIE, value.parse().expect("a header's value"));
    check("cookie only", &clerk(written_down()), &cookie, MISSING).await;
}

#[tokio::test]
async fn a_token_has_three_parts_in_strict_base64url() {
    let good = forge().token();
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let sign =
        |header: &str, claims: &str| SigningKey::rsa(0).sign_text(Algorithm::RS256, header, claims);
    let header_text = Value::Object(forge().header()).to_string();
    let claims_text = Value::Object(forge().claims()).to_string();
    let twice = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    // The claims with a space in front, so that their base64 needs padding.
    let padded = format!("{header}.{}=", base64url(format!(" {claims_text}").as_bytes()));
    let mut bad_last = good.clone();
    // An RSA signature of 256 bytes ends in a character with four bits to spare.
    bad_last.pop();
    bad_last.push('_');

    check_all(
        &clerk(written_down()),
        vec![
            ("as it should be", good.clone(), ACCEPTED),
            ("signed text", sign(&header_text, &claims_text), ACCEPTED),
            ("one part", "abc".to_owned(), INVALID),
            ("two parts", format!("{header}.{claims}"), INVALID),
            ("four parts", format!("{good}.{signature}"), INVALID),
            ("five parts", format!("{header}.{claims}.{signature}.a.b"), INVALID),
            ("no header", format!(".{claims}.{signature}"), INVALID),
            ("no claims", format!("{header}..{signature}"), INVALID),
            ("no signature", format!("{header}.{claims}."), INVALID),
            ("only dots", "..".to_owned(), INVALID),
            ("padding behind", format!("{good}=="), INVALID),
            ("padding inside", SigningKey::rsa(0).sign_parts(Algorithm::RS256, &padded), INVALID),
            ("bits to spare", bad_last, INVALID),
            ("base64 of the other kind", good.replacen('.', "+.", 1), INVALID),
            ("a control character", good.replacen('.', "%00.", 1), INVALID),
            ("header is a list", sign("[]", &claims_text), INVALID),
            ("header is not JSON", sign("header", &claims_text), INVALID),
            ("claims are a string", sign(&header_text, "\"claims\""), INVALID),
            ("claims are a list", sign(&header_text, "[]"), INVALID),
            ("claims are null", sign(&header_text, "null"), INVALID),
            ("claims go on", sign(&header_text, &format!("{claims_text}{claims_text}")), INVALID),
            ("claims end early", sign(&header_text, &claims_text[..20]), INVALID),
            ("alg twice", sign(&twice(&header_text, r#""alg":"RS256""#), &claims_text), INVALID),
            ("kid twice", sign(&twice(&header_text, r#""kid":"other""#), &claims_text), INVALID),
            ("sub twice", sign(&header_text, &twice(&claims_text, r#""sub":"user_2b""#)), INVALID),
            ("iss twice", sign(&header_text, &twice(&claims_text, r#""iss":"x""#)), INVALID),
            (
                "sub twice, once in disguise",
                sign(&header_text, &twice(&claims_text, r#""s\u0075b":"user_2b""#)),
                INVALID,
            ),
            (
                "twice within a claim",
                sign(&header_text, &twice(&claims_text, r#""x":{"a":1,"a":2}"#)),
                INVALID,
            ),
            (
                "too deep",
                sign(&header_text, &twice(&claims_text, &format!(r#""x":{deep}"#))),
                INVALID,
            ),
            (
                "exp beyond what a number can be",
                sign(&header_text, &claims_text.replacen("\"exp\":", "\"exp\":1e999,\"x\":", 1)),
                INVALID,
            ),
            ("opaque machine token", "mt_abcdefghijklmnop".to_owned(), MISTYPED),
            ("old opaque machine token", "m2m_abcdefghijklmnop".to_owned(), MISTYPED),
            ("opaque OAuth token", "oat_abcdefghijklmnop".to_owned(), MISTYPED),
            ("API key", "ak_abcdefghijklmnop".to_owned(), MISTYPED),
            (
                "testing token",
                "1713877200-c_2J2MvPu9PnXcuhbPZNao0LOXqK9A7YrnBn0HmIWxy".to_owned(),
                INVALID,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_token_may_be_as_long_as_the_limit_and_no_longer() {
    let token = forge().token();
    let issuer = || vec![Issuer::clerk(written_down()).expect("good settings")];
    for (limit, want) in [(token.len(), ACCEPTED), (token.len() - 1, INVALID)] {
        let auth = Authenticator::new(issuer(), limit, clock());
        check("at the limit", &auth, &bearer(&token), want).await;
    }
    let long = with_claim("x", json!("x".repeat(TOKEN_BYTES_MAX)));
    check("oversize", &clerk(written_down()), &bearer(&long), INVALID).await;
}

#[tokio::test]
async fn the_configuration_chooses_the_algorithm_and_not_the_token() {
    let rsa = SigningKey::rsa(0);
    let signed = |key: &SigningKey, algorithm: Algorithm, name: Value| {
        let mut header = forge().header();
        set(&mut header, "alg", name);
        key.sign(algorithm, &Value::Object(header), &Value::Object(forge().claims()))
    };
    let hmac =
        |secret: &[u8]| signed(&SigningKey::secret(secret), Algorithm::HS256, json!("HS256"));
    let good = forge().token();
    let (_, signature) = good.rsplit_once('.').expect("three parts");
    let auth = clerk(written_down());
    for none in ["none", "None", "NONE", "nOnE"] {
        let token = with_header("alg", json!(none));
        check(none, &auth, &bearer(&token), ALGORITHM).await;
        let (signed, _) = token.rsplit_once('.').expect("three parts");
        check(none, &auth, &bearer(&format!("{signed}.")), INVALID).await;
        check(none, &auth, &bearer(&format!("{signed}.AA")), ALGORITHM).await;
        check(none, &auth, &bearer(&format!("{signed}.{signature}")), ALGORITHM).await;
    }
    check_all(
        &auth,
        vec![
            ("RS256", signed(rsa, Algorithm::RS256, json!("RS256")), ACCEPTED),
            ("RS384", signed(rsa, Algorithm::RS384, json!("RS384")), ALGORITHM),
            ("RS512", signed(rsa, Algorithm::RS512, json!("RS512")), ALGORITHM),
            ("PS256", signed(rsa, Algorithm::PS256, json!("PS256")), ALGORITHM),
            ("PS256 called RS256", signed(rsa, Algorithm::PS256, json!("RS256")), SIGNATURE),
            ("RS512 called RS256", signed(rsa, Algorithm::RS512, json!("RS256")), SIGNATURE),
            ("rs256", with_header("alg", json!("rs256")), ALGORITHM),
            ("RS256 with a space", with_header("alg", json!("RS256 ")), ALGORITHM),
            ("no alg", with_header("alg", Value::Null), ALGORITHM),
            ("alg is a number", with_header("alg", json!(256)), ALGORITHM),
            ("alg is a list", with_header("alg", json!(["RS256"])), ALGORITHM),
            ("the PEM as a secret", hmac(rsa.public_pem().as_bytes()), ALGORITHM),
            ("the PEM, trimmed", hmac(rsa.public_pem().trim().as_bytes()), ALGORITHM),
            ("the modulus as a secret", hmac(&rsa.public_part("n")), ALGORITHM),
            ("nothing as a secret", hmac(b""), ALGORITHM),
            (
                "the PEM as a secret, called RS256",
                signed(
                    &SigningKey::secret(rsa.public_pem().as_bytes()),
                    Algorithm::HS256,
                    json!("RS256"),
                ),
                SIGNATURE,
            ),
            ("P-256", signed(&SigningKey::p256(), Algorithm::ES256, json!("ES256")), ALGORITHM),
            (
                "Ed25519",
                signed(&SigningKey::ed25519(), Algorithm::EdDSA, json!("EdDSA")),
                ALGORITHM,
            ),
            (
                "another RSA key",
                signed(SigningKey::rsa(1), Algorithm::RS256, json!("RS256")),
                SIGNATURE,
            ),
            ("a signature of one byte", format!("{}.AA", &good[..good.len() - 343]), SIGNATURE),
            (
                "claims of another token",
                {
                    let other = with_claim("sub", json!("user_2other"));
                    let (signed, _) = other.rsplit_once('.').expect("three parts");
                    format!("{signed}.{signature}")
                },
                SIGNATURE,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_header_names_a_key_and_nothing_more() {
    let odd = |kid: &str| with_header("kid", json!(kid));
    check_all(
        &clerk(written_down()),
        vec![
            ("no kid", with_header("kid", Value::Null), INVALID),
            ("kid is a number", with_header("kid", json!(1)), INVALID),
            ("kid is an object", with_header("kid", json!({})), INVALID),
            ("empty kid", odd(""), INVALID),
            ("kid with NUL", odd("ins_\0"), INVALID),
            ("kid with a line break", odd("ins_\r\nx: y"), INVALID),
            ("kid not in ASCII", odd("ins_\u{e9}"), INVALID),
            ("kid of 256", odd(&"k".repeat(256)), ACCEPTED),
            ("kid of 257", odd(&"k".repeat(257)), INVALID),
            ("crit", with_header("crit", json!(["exp"])), INVALID),
            ("empty crit", with_header("crit", json!([])), INVALID),
            ("b64", with_header("b64", json!(false)), INVALID),
            ("an unknown member", with_header("x", json!({"y": [1]})), ACCEPTED),
            ("no typ", with_header("typ", Value::Null), ACCEPTED),
            ("OAuth", with_header("typ", json!("at+jwt")), MISTYPED),
            ("OAuth, spelled out", with_header("typ", json!("application/at+jwt")), MISTYPED),
            ("typ jwt", with_header("typ", json!("jwt")), INVALID),
            ("another typ", with_header("typ", json!("logout+jwt")), INVALID),
            ("typ is a number", with_header("typ", json!(1)), INVALID),
            ("no cat", with_header("cat", Value::Null), ACCEPTED),
            ("cat to ignore", with_header("cat", json!("cl_I7d4PD111III")), ACCEPTED),
            ("JWT template", with_header("cat", json!("cl_B7d4PD222AAA")), MISTYPED),
            ("machine", with_header("cat", json!("cl_B7d4PD333AAA")), MISTYPED),
            ("unknown cat", with_header("cat", json!("cl_B7d4PD444AAA")), MISTYPED),
            ("empty cat", with_header("cat", json!("")), MISTYPED),
            ("cat is a list", with_header("cat", json!(["cl_B7d4PD111AAA"])), MISTYPED),
        ],
    )
    .await;
}

#[tokio::test]
async fn nothing_that_a_token_points_to_is_fetched_or_believed() {
    let attacker = JwksServer::start(&[SigningKey::rsa(1).clerk_jwk("evil")]).await;
    let issuer = JwksServer::start(&[SigningKey::rsa(0).clerk_jwk(&forge().kid)]).await;
    let auth = clerk(ClerkOptions {
        publishable_key: Some(publishable_key("clerk.example.com")),
        jwks_url: Some(issuer.jwks_url()),
        ..ClerkOptions::default()
    });
    let url = attacker.jwks_url();
    let forged = |name: &str, value: Value| {
        let mut forge = forge();
        forge.key = SigningKey::rsa(1).clone();
        forge.token_with(|header, _| set(header, name, value))
    };
    let own_key = SigningKey::rsa(1).jwk(&forge().kid);
    for (name, token, want) in [
        ("jku", forged("jku", json!(url)), SIGNATURE),
        ("x5u", forged("x5u", json!(url)), SIGNATURE),
        ("jwk", forged("jwk", own_key), SIGNATURE),
        ("x5c", forged("x5c", json!([SigningKey::rsa(1).public_base64()])), SIGNATURE),
        ("kid is a URL", forged("kid", json!(url)), NO_SUCH_KEY),
        ("kid is a path", forged("kid", json!("../../../../dev/null")), NO_SUCH_KEY),
        ("kid is SQL", forged("kid", json!("x' UNION SELECT 'key';--")), NO_SUCH_KEY),
        ("kid is a prototype", forged("kid", json!("__proto__")), NO_SUCH_KEY),
        ("a good one that points there", with_header("jku", json!(url)), ACCEPTED),
    ] {
        check(name, &auth, &bearer(&token), want).await;
    }
    for path in ["/.well-known/jwks.json", "/.well-known/openid-configuration", "/"] {
        assert_eq!(attacker.requests_at(path), 0, "{path}");
    }
    // The first fetch, and the one that the first bad signature was allowed.
    assert_eq!(issuer.requests(), 2);

    let foreign = forge().token_with(|_, claims| set(claims, "iss", json!(attacker.issuer())));
    check("iss is a URL", &auth, &bearer(&foreign), FOREIGN).await;
    assert_eq!(attacker.requests() + issuer.requests(), 2, "an unknown issuer costs no fetch");
}

#[tokio::test]
async fn every_claim_is_there_and_of_its_type() {
    let long = |chars: usize| json!("\u{e4}".repeat(chars));
    check_all(
        &clerk(written_down()),
        vec![
            ("no iss", with_claim("iss", Value::Null), FOREIGN),
            ("iss of another", with_claim("iss", json!("https://clerk.example.org")), FOREIGN),
            ("iss with a slash", with_claim("iss", json!("https://clerk.example.com/")), FOREIGN),
            ("iss in capitals", with_claim("iss", json!("https://CLERK.example.com")), FOREIGN),
            ("iss is a list", with_claim("iss", json!([ISSUER])), FOREIGN),
            ("iss is a number", with_claim("iss", json!(1)), FOREIGN),
            ("iss is empty", with_claim("iss", json!("")), FOREIGN),
            ("no sub", with_claim("sub", Value::Null), FAILED),
            ("sub is empty", with_claim("sub", json!("")), FAILED),
            ("sub is a number", with_claim("sub", json!(1)), FAILED),
            ("sub is a list", with_claim("sub", json!(["user_2someone"])), FAILED),
            ("sub of 255", with_claim("sub", long(255)), ACCEPTED),
            ("sub of 256", with_claim("sub", long(256)), FAILED),
            ("sub with NUL", with_claim("sub", json!("user_\0")), FAILED),
            ("sub of a machine", with_claim("sub", json!("mch_2machine")), NOT_A_SESSION),
            ("no sid", with_claim("sid", Value::Null), NOT_A_SESSION),
            ("sid is empty", with_claim("sid", json!("")), FAILED),
            ("sid is a number", with_claim("sid", json!(1)), FAILED),
            ("pending", with_claim("sts", json!("pending")), PENDING),
            ("no sts", with_claim("sts", Value::Null), ACCEPTED),
            ("sts is a number", with_claim("sts", json!(1)), FAILED),
            ("no azp", with_claim("azp", Value::Null), ACCEPTED),
            ("no nbf", with_claim("nbf", Value::Null), ACCEPTED),
            ("nbf is a string", with_claim("nbf", json!("1800000000")), FAILED),
            ("no iat", with_claim("iat", Value::Null), ACCEPTED),
            ("iat is a bool", with_claim("iat", json!(true)), FAILED),
            ("no exp", with_claim("exp", Value::Null), FAILED),
            ("exp is a string", with_claim("exp", json!("1800000060")), FAILED),
            ("exp is a list", with_claim("exp", json!([1_800_000_060])), FAILED),
            ("exp is 1e308", with_claim("exp", json!(1e308)), FAILED),
            ("exp is -1e308", with_claim("exp", json!(-1e308)), FAILED),
            ("exp is u64's end", with_claim("exp", json!(u64::MAX)), FAILED),
            ("exp is i64's end", with_claim("exp", json!(i64::MAX)), FAILED),
            ("exp in milliseconds", with_claim("exp", json!(1_800_000_060_000_i64)), FAILED),
            ("exp is negative", with_claim("exp", json!(-1)), EXPIRED),
            ("exp is 0", with_claim("exp", json!(0)), EXPIRED),
            ("exp in the year 9999", with_claim("exp", json!(253_402_300_799_i64)), ACCEPTED),
            ("exp in the year 10000", with_claim("exp", json!(253_402_300_800_i64)), FAILED),
            ("aud is not looked at", with_claim("aud", json!(1)), ACCEPTED),
            ("a mask beyond u64", with_claim("o", json!({"fpm": 1e30})), ACCEPTED),
            (
                "a token of version 1",
                forge().token_with(|_, claims| {
                    claims.remove("v");
                    claims.remove("o");
                    claims.insert("org_id".to_owned(), json!("org_2"));
                    claims.insert("org_permissions".to_owned(), json!(["org:a:read"]));
                }),
                ACCEPTED,
            ),
            ("act", with_claim("act", json!({"sub": "user_2admin"})), IMPERSONATED),
            ("act of an agent", with_claim("act", json!({"type": "agent"})), IMPERSONATED),
            ("act is a string", with_claim("act", json!("user_2admin")), IMPERSONATED),
            ("act is false", with_claim("act", json!(false)), IMPERSONATED),
            (
                "act in a pending session",
                forge().token_with(|_, claims| {
                    claims.insert("act".to_owned(), json!({}));
                    claims.insert("sts".to_owned(), json!("pending"));
                }),
                PENDING,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn somebody_may_act_as_a_user_only_where_that_is_allowed() {
    let token = with_claim("act", json!({"sub": "user_2admin", "sid": "sess_2admin"}));
    let auth = clerk(ClerkOptions { allow_impersonation: true, ..written_down() });
    let signed_in = auth.authenticate(&bearer(&token)).await.expect("allowed");
    assert_eq!(&*signed_in.subject, "user_2someone");
}

#[tokio::test]
async fn who_cannot_sign_learns_nothing_about_the_claims() {
    let auth = clerk(ClerkOptions {
        authorized_parties: vec!["https://app.example.com".to_owned()],
        audience: vec!["vault".to_owned()],
        ..written_down()
    });
    for (name, claim, value) in [
        ("expired", "exp", json!(1)),
        ("early", "nbf", json!(1_900_000_000)),
        ("another party", "azp", json!("https://evil.example.com")),
        ("another audience", "aud", json!("other")),
        ("no subject", "sub", json!("")),
        ("pending", "sts", json!("pending")),
        ("acting", "act", json!({})),
    ] {
        let mut forge = forge();
        forge.key = SigningKey::rsa(1).clone();
        let token = forge.token_with(|_, claims| set(claims, claim, value));
        check(name, &auth, &bearer(&token), SIGNATURE).await;
    }
}

#[tokio::test]
async fn times_hold_up_to_the_skew_and_not_a_millisecond_more() {
    // (claim, its seconds from now, skew, the clock's milliseconds from now, what comes of it)
    let cases = [
        ("exp", json!(60), 5000, 64_999, ACCEPTED),
        ("exp", json!(60), 5000, 65_000, EXPIRED),
        ("exp", json!(60), 5000, 65_001, EXPIRED),
        ("exp", json!(60), 0, 59_999, ACCEPTED),
        ("exp", json!(60), 0, 60_000, EXPIRED),
        ("exp", json!(60), 60_000, 119_999, ACCEPTED),
        ("exp", json!(60), 60_000, 120_000, EXPIRED),
        ("exp", json!(60.5), 0, 60_499, ACCEPTED),
        ("exp", json!(60.5), 0, 60_500, EXPIRED),
        ("nbf", json!(10), 5000, 5000, ACCEPTED),
        ("nbf", json!(10), 5000, 4999, EARLY),
        ("nbf", json!(10), 0, 10_000, ACCEPTED),
        ("nbf", json!(10), 0, 9999, EARLY),
        ("iat", json!(10), 5000, 5000, ACCEPTED),
        ("iat", json!(10), 5000, 4999, FROM_THE_FUTURE),
        ("iat", json!(10), 0, 10_000, ACCEPTED),
        ("iat", json!(10), 0, 9999, FROM_THE_FUTURE),
    ];
    for (claim, after, skew, moved, want) in cases {
        let clock = clock();
        let options = ClerkOptions { clock_skew: Duration::from_millis(skew), ..written_down() };
        let auth = authenticator(vec![Issuer::clerk(options).expect("good settings")], &clock);
        let value = after.as_f64().expect("a number") + 1_800_000_000.0;
        let token = forge().token_with(|_, claims| {
            claims.remove("nbf");
            claims.remove("iat");
            claims.insert("exp".to_owned(), json!(1_800_001_000));
            claims.insert(claim.to_owned(), json!(value));
        });
        clock.step(moved);
        let name = format!("{claim} {after}s, skew {skew} ms, clock {moved} ms");
        check(&name, &auth, &bearer(&token), want).await;
    }
}

#[tokio::test]
async fn only_authorized_parties_get_in() {
    let parties = || vec!["https://app.example.com".to_owned(), "http://localhost:3000".to_owned()];
    let strict = clerk(ClerkOptions { authorized_parties: parties(), ..written_down() });
    let lenient = clerk(ClerkOptions {
        authorized_parties: parties(),
        allow_missing_azp: true,
        ..written_down()
    });
    let open = clerk(ClerkOptions { allow_missing_azp: false, ..written_down() });
    for (azp, strictly, leniently) in [
        (json!("https://app.example.com"), ACCEPTED, ACCEPTED),
        (json!("http://localhost:3000"), ACCEPTED, ACCEPTED),
        (Value::Null, PARTY, ACCEPTED),
        (json!(""), PARTY, PARTY),
        (json!("https://evil.example.com"), PARTY, PARTY),
        (json!("https://app.example.com/"), PARTY, PARTY),
        (json!("https://APP.example.com"), PARTY, PARTY),
        (json!("https://app.example.com.evil.example"), PARTY, PARTY),
        (json!("http://app.example.com"), PARTY, PARTY),
        (json!("null"), PARTY, PARTY),
        (json!(1), PARTY, PARTY),
        (json!(["https://app.example.com"]), PARTY, PARTY),
    ] {
        let name = format!("azp {azp}");
        let token = bearer(&with_claim("azp", azp));
        check(&name, &strict, &token, strictly).await;
        check(&name, &lenient, &token, leniently).await;
        check(&name, &open, &token, ACCEPTED).await;
    }
    let null = forge().token_with(|_, claims| {
        claims.insert("azp".to_owned(), Value::Null);
    });
    check("azp is null, not absent", &lenient, &bearer(&null), PARTY).await;
}

#[tokio::test]
async fn a_clerk_audience_counts_where_both_sides_name_one() {
    let audience = vec!["vault".to_owned(), "vault-2".to_owned()];
    check_all(
        &clerk(ClerkOptions { audience, ..written_down() }),
        vec![
            ("no aud", forge().token(), ACCEPTED),
            ("ours", with_claim("aud", json!("vault")), ACCEPTED),
            ("ours in a list", with_claim("aud", json!(["other", "vault-2"])), ACCEPTED),
            ("another", with_claim("aud", json!("other")), AUDIENCE),
            ("others", with_claim("aud", json!(["other", "vault-3"])), AUDIENCE),
            ("empty list", with_claim("aud", json!([])), AUDIENCE),
            ("empty", with_claim("aud", json!("")), AUDIENCE),
            ("a number", with_claim("aud", json!(1)), FAILED),
            ("a list with a number", with_claim("aud", json!(["vault", 1])), FAILED),
        ],
    )
    .await;
}

#[tokio::test]
async fn clerk_issuer_decides_what_iss_must_be() {
    let auth = clerk(ClerkOptions {
        issuer: Some("https://example.com/__clerk".to_owned()),
        ..written_down()
    });
    let proxied = with_claim("iss", json!("https://example.com/__clerk"));
    check("the proxy's", &auth, &bearer(&proxied), ACCEPTED).await;
    check("the host's", &auth, &bearer(&forge().token()), FOREIGN).await;
}

#[tokio::test]
async fn without_issuers_nobody_gets_in() {
    let auth = authenticator(Vec::new(), &clock());
    check("no issuer", &auth, &bearer(&forge().token()), FOREIGN).await;
    assert!(auth.ready().await.is_err());
}

#[tokio::test]
async fn a_caller_reads_why_only_when_the_issuer_signed() {
    let auth = clerk(written_down());
    for (token, want) in [
        (None, r#"Bearer realm="sync""#),
        (Some("a.b.c".to_owned()), r#"Bearer realm="sync", error="invalid_token""#),
        (Some(with_header("kid", Value::Null)), r#"Bearer realm="sync", error="invalid_token""#),
        (
            Some(with_claim("exp", json!(1))),
            r#"Bearer realm="sync", error="invalid_token", error_description="token-expired""#,
        ),
        (
            Some(with_claim("sts", json!("pending"))),
            r#"Bearer realm="sync", error="invalid_token", error_description="session-pending""#,
        ),
        (Some(with_claim("act", json!({}))), r#"Bearer realm="sync", error="insufficient_scope""#),
    ] {
        let headers = token.as_deref().map(bearer).unwrap_or_default();
        let refusal = auth.authenticate(&headers).await.expect_err("refused");
        assert_eq!(refusal.www_authenticate().as_deref(), Some(want));
    }
}

/// What an OIDC issuer signs.
struct OidcForge {
    issuer: String,
    kid: &'static str,
}

impl OidcForge {
    fn header(&self, alg: &str) -> Map<String, Value> {
        let header = json!({ "alg": alg, "typ": "at+jwt", "kid": self.kid });
        header.as_object().expect("an object").clone()
    }

    fn claims(&self) -> Map<String, Value> {
        let claims = json!({
            "iss": self.issuer, "sub": "auth0|someone", "aud": ["other", "vault-api"],
            "iat": 1_800_000_000, "exp": 1_800_003_600,
        });
        claims.as_object().expect("an object").clone()
    }

    fn token(
        &self,
        key: &SigningKey,
        algorithm: Algorithm,
        change: impl FnOnce(&mut Map<String, Value>, &mut Map<String, Value>),
    ) -> String {
        let name = format!("{algorithm:?}");
        let (mut header, mut claims) = (self.header(&name), self.claims());
        change(&mut header, &mut claims);
        key.sign(algorithm, &Value::Object(header), &Value::Object(claims))
    }
}

fn oidc(server: &JwksServer, algorithms: &[&str]) -> Issuer {
    Issuer::oidc(OidcOptions {
        issuer: server.issuer(),
        audience: vec!["vault-api".to_owned()],
        jwks_url: Some(server.jwks_url()),
        algorithms: algorithms.iter().map(|&name| name.to_owned()).collect(),
        ..OidcOptions::default()
    })
    .expect("good settings")
}

#[tokio::test]
async fn an_oidc_token_is_judged_by_its_own_rules() {
    let rsa = SigningKey::rsa(0);
    let server = JwksServer::start(&[rsa.jwk("rsa")]).await;
    let forge = OidcForge { issuer: server.issuer(), kid: "rsa" };
    let header = |name: &str, value: Value| {
        forge.token(rsa, Algorithm::RS256, |header, _| set(header, name, value))
    };
    let claim = |name: &str, value: Value| {
        forge.token(rsa, Algorithm::RS256, |_, claims| set(claims, name, value))
    };
    check_all(
        &authenticator(vec![oidc(&server, &[])], &clock()),
        vec![
            ("good", forge.token(rsa, Algorithm::RS256, |_, _| {}), ACCEPTED),
            ("no typ", header("typ", Value::Null), ACCEPTED),
            ("JWT", header("typ", json!("JWT")), ACCEPTED),
            ("jwt", header("typ", json!("jwt")), ACCEPTED),
            ("spelled out", header("typ", json!("application/at+jwt")), ACCEPTED),
            ("a logout token", header("typ", json!("logout+jwt")), INVALID),
            ("typ is a list", header("typ", json!(["JWT"])), INVALID),
            ("cat means nothing", header("cat", json!("cl_B7d4PD222AAA")), ACCEPTED),
            ("no kid", header("kid", Value::Null), INVALID),
            ("unknown kid", header("kid", json!("other")), NO_SUCH_KEY),
            ("crit", header("crit", json!(["x"])), INVALID),
            ("no aud", claim("aud", Value::Null), FAILED),
            ("aud", claim("aud", json!("vault-api")), ACCEPTED),
            ("an ID token's aud", claim("aud", json!("client-id")), AUDIENCE),
            ("aud is longer", claim("aud", json!("vault-api/")), AUDIENCE),
            ("aud is empty", claim("aud", json!([])), AUDIENCE),
            ("aud is an object", claim("aud", json!({"vault-api": 1})), FAILED),
            ("no exp", claim("exp", Value::Null), FAILED),
            ("expired", claim("exp", json!(1_799_999_995)), EXPIRED),
            ("barely not expired", claim("exp", json!(1_799_999_996)), ACCEPTED),
            ("early", claim("nbf", json!(1_800_000_006)), EARLY),
            ("from the future", claim("iat", json!(1_800_000_006)), FROM_THE_FUTURE),
            ("no sub", claim("sub", Value::Null), FAILED),
            ("sub is empty", claim("sub", json!("")), FAILED),
            ("sub of 256", claim("sub", json!("s".repeat(256))), FAILED),
            ("a sub as Clerk's", claim("sub", json!("mch_2")), ACCEPTED),
            ("another iss", claim("iss", json!(format!("{}/", server.issuer()))), FOREIGN),
            ("PS256 is not allowed", forge.token(rsa, Algorithm::PS256, |_, _| {}), ALGORITHM),
            (
                "the modulus as a secret",
                forge.token(
                    &SigningKey::secret(&rsa.public_part("n")),
                    Algorithm::HS256,
                    |_, _| {},
                ),
                ALGORITHM,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_oidc_issuer_signs_with_what_it_is_configured_for() {
    let (ec, ed) = (SigningKey::p256(), SigningKey::ed25519());
    let rsa = SigningKey::rsa(0);
    let mut for_rs256 = SigningKey::rsa(1).jwk("rs256");
    for_rs256["alg"] = json!("RS256");
    let mut for_encryption = SigningKey::rsa(1).jwk("enc");
    for_encryption["use"] = json!("enc");
    let mut for_wrapping = SigningKey::rsa(1).jwk("wrap");
    for_wrapping["key_ops"] = json!(["wrapKey"]);
    let mut for_verifying = SigningKey::rsa(1).jwk("verify");
    for_verifying["key_ops"] = json!(["verify"]);
    let server = JwksServer::start(&[
        rsa.jwk("rsa"),
        ec.jwk("ec"),
        ed.jwk("ed"),
        for_rs256,
        for_encryption,
        for_wrapping,
        for_verifying,
        SigningKey::secret(b"shown to everybody").jwk("secret"),
    ])
    .await;
    let all = ["RS256", "PS256", "ES256", "EdDSA"];
    let auth = authenticator(vec![oidc(&server, &all)], &clock());
    let token = |kid: &'static str, key: &SigningKey, algorithm: Algorithm| {
        OidcForge { issuer: server.issuer(), kid }.token(key, algorithm, |_, _| {})
    };
    let other = SigningKey::rsa(1);
    let secret = SigningKey::secret(b"shown to everybody");
    check_all(
        &auth,
        vec![
            ("RS256", token("rsa", rsa, Algorithm::RS256), ACCEPTED),
            ("PS256", token("rsa", rsa, Algorithm::PS256), ACCEPTED),
            ("ES256", token("ec", &ec, Algorithm::ES256), ACCEPTED),
            ("EdDSA", token("ed", &ed, Algorithm::EdDSA), ACCEPTED),
            ("RS384", token("rsa", rsa, Algorithm::RS384), ALGORITHM),
            ("a key for RS256 by RS256", token("rs256", other, Algorithm::RS256), ACCEPTED),
            ("a key for RS256 by PS256", token("rs256", other, Algorithm::PS256), NO_SUCH_KEY),
            ("a key for encryption", token("enc", other, Algorithm::RS256), NO_SUCH_KEY),
            ("a key for wrapping", token("wrap", other, Algorithm::RS256), NO_SUCH_KEY),
            ("a key for verifying", token("verify", other, Algorithm::RS256), ACCEPTED),
            ("the shared secret", token("secret", &secret, Algorithm::HS256), ALGORITHM),
            ("the kid of another kind", token("ec", rsa, Algorithm::RS256), NO_SUCH_KEY),
            ("another P-256 key", token("ec", &SigningKey::p256(), Algorithm::ES256), SIGNATURE),
            (
                "another Ed25519 key",
                token("ed", &SigningKey::ed25519(), Algorithm::EdDSA),
                SIGNATURE,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_keys_of_one_issuer_say_nothing_for_another() {
    let server = JwksServer::start(&[SigningKey::rsa(1).jwk("shared-kid")]).await;
    let clerk = Issuer::clerk(written_down()).expect("good settings");
    let auth = authenticator(vec![clerk, oidc(&server, &[])], &clock());
    let oidc = OidcForge { issuer: server.issuer(), kid: "shared-kid" };

    let of_clerk = auth.authenticate(&bearer(&forge().token())).await.expect("Clerk's");
    let same_name = oidc.token(SigningKey::rsa(1), Algorithm::RS256, |_, claims| {
        claims.insert("sub".to_owned(), json!("user_2someone"));
    });
    let of_oidc = auth.authenticate(&bearer(&same_name)).await.expect("the other's");
    assert_eq!(of_clerk.subject, of_oidc.subject);
    assert_ne!(of_clerk.issuer, of_oidc.issuer, "the same name is not the same user");

    let mut clerk_by_oidc = forge();
    clerk_by_oidc.key = SigningKey::rsa(1).clone();
    clerk_by_oidc.kid = "shared-kid".to_owned();
    check_all(
        &auth,
        vec![
            ("Clerk's name, the other's key", clerk_by_oidc.token(), SIGNATURE),
            (
                "the other's name, Clerk's key",
                oidc.token(SigningKey::rsa(0), Algorithm::RS256, |_, _| {}),
                SIGNATURE,
            ),
            (
                "both names",
                forge().token_with(|_, claims| {
                    claims.insert("iss".to_owned(), json!([ISSUER, server.issuer()]));
                }),
                FOREIGN,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn this_server_takes_its_own_tokens_only_when_told_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let other_folder = tempfile::tempdir().expect("a folder");
    let key = LocalKey::load_or_create(folder.path()).expect("a key");
    let other_key = LocalKey::load_or_create(other_folder.path()).expect("a key");
    let token = key.mint("ada", NOW, Duration::from_hours(1)).expect("a token");
    let clock = clock();
    let with = authenticator(vec![Issuer::local(&key)], &clock);
    let signed_in = with.authenticate(&bearer(&token)).await.expect("its own");
    assert_eq!((&*signed_in.issuer, &*signed_in.subject), (LOCAL_ISSUER, "ada"));
    assert_eq!(signed_in.expires_at, NOW.plus_millis(3_600_000));

    check("not told to", &clerk(written_down()), &bearer(&token), FOREIGN).await;
    let foreign = other_key.mint("ada", NOW, Duration::from_hours(1)).expect("a token");
    check("of another server", &with, &bearer(&foreign), NO_SUCH_KEY).await;
    clock.step(3_604_999);
    check("within the skew", &with, &bearer(&token), ACCEPTED).await;
    clock.step(1);
    check("over", &with, &bearer(&token), EXPIRED).await;
}
