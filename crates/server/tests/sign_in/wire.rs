//! What of a sign-in reaches HTTP: statuses, codes and headers.
//!
//! Not here: which tokens are good (`tokens`, `claims`), where keys come from (`keys`).

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

use crate::{ISSUER, instance, written_down};

const REALM: &str = r#"Bearer realm="sync""#;

fn forge() -> ClerkForge {
    ClerkForge::new(ISSUER, SigningKey::rsa(0), SystemClock::start().now())
}

/// A good token but for these claims.
fn token_with(change: impl FnOnce(&mut Map<String, Value>)) -> String {
    forge().token_with(|_, claims| change(claims))
}

/// A server that trusts a Clerk instance whose key is written down.
async fn server() -> TestServer {
    start(written_down()).await
}

/// Who is calling is known before a database is asked, so one is enough.
async fn start(options: ClerkOptions) -> TestServer {
    let issuer = Issuer::clerk(options).expect("good settings");
    TestServer::start_with(Setup { issuers: vec![issuer], ..Setup::on(Backend::Sqlite) }).await
}

async fn pull(server: &TestServer, token: &str) -> Answer {
    send(server.request(Method::GET, "/api/sync/pull").bearer_auth(token)).await
}

/// Checks that push and pull turn a token away alike, and that the push wrote nothing.
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

/// A token that the issuer signed: its caller is told what is wrong with it.
async fn check_told(token: &str, code: &str) {
    let reason = code.replace('_', "-");
    let challenge = format!(r#"{REALM}, error="invalid_token", error_description="{reason}""#);
    check(token, 401, code, &challenge).await;
}

/// A token that perhaps somebody else signed: its caller learns nothing.
async fn check_untold(token: &str) {
    check(token, 401, "unauthorized", &format!(r#"{REALM}, error="invalid_token""#)).await;
}

#[tokio::test]
async fn a_good_token_reaches_its_users_vault() {
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
async fn an_expired_token_is_told_so() {
    let long_ago = SystemClock::start().now().as_millis() / 1000 - 600;
    let token = token_with(|claims| {
        claims.insert("iat".to_owned(), json!(long_ago - 60));
        claims.insert("nbf".to_owned(), json!(long_ago - 70));
        claims.insert("exp".to_owned(), json!(long_ago));
    });
    check_told(&token, "token_expired").await;
}

#[tokio::test]
async fn a_pending_session_is_told_so() {
    let token = token_with(|claims| drop(claims.insert("sts".to_owned(), json!("pending"))));
    check_told(&token, "session_pending").await;
}

#[tokio::test]
async fn a_token_by_another_key_is_told_nothing() {
    let mut forge = forge();
    forge.key = SigningKey::rsa(1).clone();
    check_untold(&forge.token()).await;
}

#[tokio::test]
async fn an_expired_token_by_another_key_is_told_nothing_either() {
    let mut forge = forge();
    forge.key = SigningKey::rsa(1).clone();
    let token = forge.token_with(|_, claims| drop(claims.insert("exp".to_owned(), json!(1))));
    check_untold(&token).await;
}

#[tokio::test]
async fn a_token_of_an_issuer_that_is_not_known_is_told_nothing() {
    let mut forge = forge();
    "https://clerk.example.net".clone_into(&mut forge.issuer);
    check_untold(&forge.token()).await;
}

#[tokio::test]
async fn somebody_who_acts_as_a_user_is_forbidden() {
    let actor = json!({ "sub": "user_2admin" });
    let token = token_with(|claims| drop(claims.insert("act".to_owned(), actor)));
    let challenge = format!(r#"{REALM}, error="insufficient_scope""#);
    check(&token, 403, "forbidden", &challenge).await;
}

#[tokio::test]
async fn no_token_is_asked_for_one() {
    let server = server().await;
    let answer = send(server.request(Method::GET, "/api/sync/pull")).await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, REALM));
    assert_eq!(answer.json()["code"], "unauthorized");
}

#[tokio::test]
async fn a_token_in_the_query_or_in_a_cookie_is_no_token() {
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
async fn two_tokens_are_none() {
    let server = server().await;
    let value = format!("Bearer {}", forge().token());
    let request = server.request(Method::GET, "/api/sync/pull");
    let answer = send(request.header(AUTHORIZATION, &value).header(AUTHORIZATION, &value)).await;
    assert_eq!((answer.status, answer.json()["code"].clone()), (401, json!("unauthorized")));
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_the_servers_trouble_and_not_the_users() {
    let keys = JwksServer::start(&[]).await;
    keys.answer(500, "");
    let server = start(ClerkOptions { jwks_url: Some(keys.jwks_url()), ..instance() }).await;
    let answer = pull(&server, &forge().token()).await;
    assert_eq!((answer.status, answer.json()["code"].clone()), (503, json!("unavailable")));
    let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(answer.header("www-authenticate"), "", "nobody is to sign in again for that");
    assert_eq!(
        pull(&server, &server.token("ada")).await.status,
        200,
        "the local issuer has its own"
    );
}

#[tokio::test]
async fn a_token_that_was_good_is_still_good_while_keys_cannot_be_had() {
    let forge = forge();
    let keys = JwksServer::start(&[SigningKey::rsa(0).clerk_jwk(&forge.kid)]).await;
    let server = start(ClerkOptions { jwks_url: Some(keys.jwks_url()), ..instance() }).await;
    let token = forge.token();
    assert_eq!(pull(&server, &token).await.status, 200);
    keys.answer(500, "");
    for _ in 0..3 {
        assert_eq!(pull(&server, &token).await.status, 200);
    }
    assert_eq!(keys.requests(), 1);
}
