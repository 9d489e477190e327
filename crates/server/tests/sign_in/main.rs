//! Authentication: which tokens are accepted, and what the response to a rejected one reveals.
//!
//! Not here: metrics and logs of it (`metrics`).

mod claims;
mod keys;
mod oidc;
mod settings;
mod tokens;
mod wire;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use reqwest::Method;
use serde_json::{Map, Value};
use vaultsync_protocol::Timestamp;
use vaultsync_server::auth::{AuthError, Authenticator, ClerkOptions, Issuer, Outcome, Principal};
use vaultsync_testkit::forge::{ClerkForge, SigningKey, publishable_key};
use vaultsync_testkit::{Backend, ManualClock, Setup, TestServer, send};

const ISSUER: &str = "https://clerk.example.com";
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Status, code and reason.
type Expected = (u16, &'static str, &'static str);

const ACCEPTED: Expected = (200, "", "");
const MISSING: Expected = (401, "unauthorized", "session-token-missing");
const INVALID: Expected = (401, "unauthorized", "token-invalid");
const TOO_LONG: Expected = (401, "unauthorized", "token-too-long");
const MISTYPED: Expected = (401, "unauthorized", "token-type-mismatch");
const ALGORITHM: Expected = (401, "unauthorized", "token-invalid-algorithm");
const SIGNATURE: Expected = (401, "unauthorized", "token-invalid-signature");
const FOREIGN: Expected = (401, "unauthorized", "token-invalid-issuer");
const NO_SUCH_KEY: Expected = (401, "unauthorized", "jwk-kid-mismatch");
/// From here on the signature is valid, and the response contains the reason.
const FAILED: Expected = (401, "token_verification_failed", "token-verification-failed");
const NOT_A_SESSION: Expected = (401, "token_type_mismatch", "token-type-mismatch");
const AUDIENCE: Expected = (401, "token_invalid_audience", "token-invalid-audience");
const PARTY: Expected =
    (401, "token_invalid_authorized_parties", "token-invalid-authorized-parties");
const EXPIRED: Expected = (401, "token_expired", "token-expired");
const EARLY: Expected = (401, "token_not_active_yet", "token-not-active-yet");
const FROM_THE_FUTURE: Expected = (401, "token_iat_in_the_future", "token-iat-in-the-future");
const PENDING: Expected = (401, "session_pending", "session-pending");
const IMPERSONATED: Expected = (403, "forbidden", "impersonation-not-allowed");

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(NOW))
}

fn forge() -> ClerkForge {
    ClerkForge::new(ISSUER, SigningKey::rsa(0), NOW)
}

/// Clerk instance whose keys are fetched from Clerk's default URL.
fn clerk_options() -> ClerkOptions {
    ClerkOptions {
        publishable_key: Some(publishable_key("clerk.example.com")),
        ..ClerkOptions::default()
    }
}

/// Clerk instance whose key is in the settings, so that the network is not used.
fn clerk_options_with_key() -> ClerkOptions {
    ClerkOptions { jwt_keys: vec![SigningKey::rsa(0).public_pem()], ..clerk_options() }
}

fn authenticator(issuers: Vec<Issuer>, clock: &Arc<ManualClock>) -> Authenticator {
    Authenticator::new(issuers, TOKEN_BYTES_MAX, Arc::clone(clock) as _)
}

fn clerk(options: ClerkOptions) -> Authenticator {
    authenticator(vec![Issuer::clerk(options).expect("valid settings")], &clock())
}

fn bearer(token: &str) -> HeaderMap {
    headers(&[format!("Bearer {token}").as_bytes()])
}

fn headers(values: &[&[u8]]) -> HeaderMap {
    values
        .iter()
        .map(|value| (AUTHORIZATION, HeaderValue::from_bytes(value).expect("a header value")))
        .collect()
}

fn outcome(result: &Result<Principal, AuthError>) -> (u16, &'static str, &'static str) {
    match result {
        Ok(_) => ACCEPTED,
        Err(error) => {
            let status = match error.outcome() {
                Outcome::Unauthorized { .. } => 401,
                Outcome::Forbidden => 403,
                Outcome::Unavailable { .. } => 503,
            };
            (status, error.code(), error.reason().as_str())
        }
    }
}

/// Starts a server with `authenticator`. One backend is enough, because authentication precedes any
/// access to the database.
async fn serve(authenticator: &Authenticator) -> TestServer {
    let authenticator = Some(authenticator.clone());
    TestServer::start_with(Setup { authenticator, ..Setup::on(Backend::Sqlite) }).await
}

/// Checks the authenticator itself, which returns the reason, and a server over HTTP.
async fn check(name: &str, authenticator: &Authenticator, headers: &HeaderMap, expected: Expected) {
    check_at(&serve(authenticator).await, name, authenticator, headers, expected).await;
}

async fn check_at(
    server: &TestServer,
    name: &str,
    authenticator: &Authenticator,
    headers: &HeaderMap,
    expected: Expected,
) {
    let result = authenticator.authenticate(headers).await;
    assert_eq!(outcome(&result), expected, "{name}");
    // HTTP removes spaces around a value before the server sees it.
    let is_trimmed = |value: &HeaderValue| value.as_bytes().trim_ascii() == value.as_bytes();
    if !headers.values().all(is_trimmed) {
        return;
    }
    let request = server.request(Method::GET, "/api/sync/pull").headers(headers.clone());
    let answer = send(request).await;
    let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
    assert_eq!((answer.status, code.as_str()), (expected.0, expected.1), "{name}, over HTTP");
    if expected.0 == 401 {
        assert_eq!(answer.json()["error"], "Unauthorized", "{name}");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with(r#"Bearer realm="sync""#), "{name}: {challenge}");
        let contains_reason = challenge.contains(expected.2);
        assert_eq!(contains_reason, expected.1 != "unauthorized", "{name}: {challenge}");
    }
}

async fn check_all(authenticator: &Authenticator, table: Vec<(&str, String, Expected)>) {
    let server = serve(authenticator).await;
    for (name, token, expected) in table {
        check_at(&server, name, authenticator, &bearer(&token), expected).await;
    }
}

/// Valid token except for one member of its header; `null` removes the member.
fn with_header(name: &str, value: Value) -> String {
    forge().token_with(|header, _| set(header, name, value))
}

/// Valid token except for one claim; `null` removes the claim.
fn with_claim(name: &str, value: Value) -> String {
    forge().token_with(|_, claims| set(claims, name, value))
}

fn set(members: &mut Map<String, Value>, name: &str, value: Value) {
    if value.is_null() {
        members.remove(name).expect("the valid token has it");
    } else {
        members.insert(name.to_owned(), value);
    }
}
