//! Which tokens let somebody in, which do not, and what each caller is told.
//!
//! Not here: what is counted and logged of it (`metrics`).

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

/// A Clerk instance whose keys are where Clerk puts them.
fn instance() -> ClerkOptions {
    ClerkOptions {
        publishable_key: Some(publishable_key("clerk.example.com")),
        ..ClerkOptions::default()
    }
}

/// The same, but with its key written down, so that no network is used.
fn written_down() -> ClerkOptions {
    ClerkOptions { jwt_keys: vec![SigningKey::rsa(0).public_pem()], ..instance() }
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

fn told(result: &Result<Principal, AuthError>) -> (u16, &'static str, &'static str) {
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
