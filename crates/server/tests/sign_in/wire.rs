//! HTTP responses of authentication: statuses, codes and headers.
//!
//! Not here: which tokens are valid (`tokens`, `claims`), sources of keys (`keys`).

use reqwest::{Method, header::AUTHORIZATION};
use serde_json::{Map, Value, json};
use vaultsync_server::{
    Clock as _, SystemClock,
    auth::{ClerkOptions, Issuer},
};
use vaultsync_testkit::{
    Answer, Backend, Setup, TestServer,
    forge::{ClerkForge, SigningKey},
    jwks_server::JwksServer,
    operation, push_of, send,
};

use crate::{ISSUER, clerk_options, clerk_options_with_key};

const REALM: &str = r#"Bearer realm="sync""#;

fn forge() -> ClerkForge {
    ClerkForge::new(ISSUER, SigningKey::rsa(0), SystemClock::start().now())
}

/// Valid token except for these claims.
fn token_with(change: impl FnOnce(&mut Map<String, Value>)) -> String {
    forge().token_with(|_, claims| change(claims))
}

/// Starts a server that trusts a Clerk instance whose key is in the settings.
async fn server() -> TestServer {
    start(clerk_options_with_key()).await
}

/// One backend is enough, because authentication precedes any access to the database.
async fn start(options: ClerkOptions) -> TestServer {
    let issuer = Issuer::clerk(options).expect("valid settings");
    TestServer::start_with(Setup { issuers: vec![issuer], ..Setup::on(Backend::Sqlite) }).await
}

async fn pull(server: &TestServer, token: &str) -> Answer {
    send(server.request(Method::GET, "/api/sync/pull").bearer_auth(token)).await
}

/// Checks that push and pull reject a token in the same way, and that the push wrote nothing.
async fn check(token: &str, status: u16, code: &str, challenge: &str) {
    let server = server().await;
    let body = push_of([operation("a", None, b"x")]);
    let push = server.request(Method::POST, "/api/sync/push").bearer_auth(token).json(&body);
    for answer in [send(push).await, pull(&server, token).await] {
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("www-authenticate"), challenge);
        assert_eq!(answer.header("content-type"), "application/json");
        let body = answer.json();
        assert_eq!(body["code"], json!(code));
        assert_eq!(body["requestId"], json!(answer.header("x-request-id")));
        if status == 401 {
            assert_eq!(body["error"], json!("Unauthorized"));
        }
        assert_eq!(body.as_object().map(Map::len), Some(3), "{body}");
    }
    assert_eq!(pull(&server, &forge().token()).await.json()["epoch"], Value::Null);
}

/// Checks that a token signed by the issuer is rejected with the reason.
async fn check_rejected_with_reason(token: &str, code: &str) {
    let reason = code.replace('_', "-");
    let challenge = format!(r#"{REALM}, error="invalid_token", error_description="{reason}""#);
    check(token, 401, code, &challenge).await;
}

/// Checks that a token perhaps not signed by the issuer is rejected without a reason.
async fn check_rejected_without_reason(token: &str) {
    check(token, 401, "unauthorized", &format!(r#"{REALM}, error="invalid_token""#)).await;
}

#[tokio::test]
async fn a_valid_token_gives_access_to_its_users_vault() {
    let server = server().await;
    let token = forge().token();
    let push = server.request(Method::POST, "/api/sync/push").bearer_auth(&token);
    let pushed = send(push.json(&push_of([operation("a", None, b"x")]))).await;
    assert_eq!(pushed.status, 200, "{pushed:?}");
    let again = token_with(|claims| drop(claims.insert("sid".to_owned(), json!("sess_2other"))));
    assert_eq!(pull(&server, &again).await.json()["records"][0]["recordId"], "a");
    let other = token_with(|claims| drop(claims.insert("sub".to_owned(), json!("user_2other"))));
    assert_eq!(pull(&server, &other).await.json()["records"], json!([]));
}

#[tokio::test]
async fn an_expired_token_is_rejected_with_the_reason() {
    let long_ago = SystemClock::start().now().as_millis() / 1000 - 600;
    let token = token_with(|claims| {
        claims.insert("iat".to_owned(), json!(long_ago - 60));
        claims.insert("nbf".to_owned(), json!(long_ago - 70));
        claims.insert("exp".to_owned(), json!(long_ago));
    });
    check_rejected_with_reason(&token, "token_expired").await;
}

#[tokio::test]
async fn a_pending_session_is_rejected_with_the_reason() {
    let token = token_with(|claims| drop(claims.insert("sts".to_owned(), json!("pending"))));
    check_rejected_with_reason(&token, "session_pending").await;
}

#[tokio::test]
async fn a_token_signed_by_another_key_is_rejected_without_a_reason() {
    let mut forge = forge();
    forge.key = SigningKey::rsa(1).clone();
    check_rejected_without_reason(&forge.token()).await;
}

#[tokio::test]
async fn an_expired_token_signed_by_another_key_is_rejected_without_a_reason() {
    let mut forge = forge();
    forge.key = SigningKey::rsa(1).clone();
    let token = forge.token_with(|_, claims| drop(claims.insert("exp".to_owned(), json!(1))));
    check_rejected_without_reason(&token).await;
}

#[tokio::test]
async fn a_token_of_an_unknown_issuer_is_rejected_without_a_reason() {
    let mut forge = forge();
    "https://clerk.example.net".clone_into(&mut forge.issuer);
    check_rejected_without_reason(&forge.token()).await;
}

#[tokio::test]
async fn impersonation_is_forbidden() {
    let actor = json!({ "sub": "user_2admin" });
    let token = token_with(|claims| drop(claims.insert("act".to_owned(), actor)));
    let challenge = format!(r#"{REALM}, error="insufficient_scope""#);
    check(&token, 403, "forbidden", &challenge).await;
}

#[tokio::test]
async fn a_request_without_a_token_gets_a_challenge() {
    let server = server().await;
    let answer = send(server.request(Method::GET, "/api/sync/pull")).await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, REALM));
    assert_eq!(answer.json()["code"], "unauthorized");
}

#[tokio::test]
async fn a_token_in_the_query_or_a_cookie_is_ignored() {
    let server = server().await;
    let token = forge().token();
    for (path, header, value) in [
        (format!("/api/sync/pull?access_token={token}&token={token}"), "x-token", token.clone()),
        ("/api/sync/pull".to_owned(), "cookie", format!("__session={token}; token={token}")),
        ("/api/sync/pull".to_owned(), "proxy-authorization", format!("Bearer {token}")),
        ("/api/sync/pull".to_owned(), "authorization", format!("Basic {token}")),
    ] {
        let answer = send(server.request(Method::GET, &path).header(header, value)).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, REALM), "{header}");
    }
}

#[tokio::test]
async fn two_authorization_headers_are_rejected() {
    let server = server().await;
    let value = format!("Bearer {}", forge().token());
    let request = server.request(Method::GET, "/api/sync/pull");
    let answer = send(request.header(AUTHORIZATION, &value).header(AUTHORIZATION, &value)).await;
    assert_eq!((answer.status, answer.json()["code"].clone()), (401, json!("unauthorized")));
}

#[tokio::test]
async fn unavailable_keys_are_a_503_and_not_a_401() {
    let keys = JwksServer::start(&[]).await;
    keys.answer(500, "");
    let server = start(ClerkOptions { jwks_url: Some(keys.jwks_url()), ..clerk_options() }).await;
    let answer = pull(&server, &forge().token()).await;
    assert_eq!((answer.status, answer.json()["code"].clone()), (503, json!("unavailable")));
    let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(answer.header("www-authenticate"), "", "clients must not sign out because of it");
    assert_eq!(
        pull(&server, &server.token("ada")).await.status,
        200,
        "the local issuer has its own key"
    );
}

#[tokio::test]
async fn a_verified_token_stays_valid_while_keys_are_unavailable() {
    let forge = forge();
    let keys = JwksServer::start(&[SigningKey::rsa(0).clerk_jwk(&forge.kid)]).await;
    let server = start(ClerkOptions { jwks_url: Some(keys.jwks_url()), ..clerk_options() }).await;
    let token = forge.token();
    assert_eq!(pull(&server, &token).await.status, 200);
    keys.answer(500, "");
    for _ in 0..3 {
        assert_eq!(pull(&server, &token).await.status, 200);
    }
    assert_eq!(keys.requests(), 1);
}
