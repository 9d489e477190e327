//! Number of fetches that concurrent callers, invalid tokens and disconnecting callers cause.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{
    ACCEPTED, BAD_SIGNATURE, IssuerFixture, NO_SUCH_KEY, UNREACHABLE, authenticate_concurrently,
    new_key, old_key,
};

#[tokio::test]
async fn concurrent_callers_fetch_the_first_keys_once() {
    let fixture = Arc::new(IssuerFixture::start(&[old_key().clerk_jwk("old")]).await);
    fixture.server.delay(Duration::from_millis(200));
    let token = fixture.token("old", old_key());
    let results = authenticate_concurrently(&fixture, 200, |_, _| token.clone()).await;
    assert!(results.iter().all(|result| *result == ACCEPTED), "{results:?}");
    assert_eq!(fixture.server.requests(), 1);
}

#[tokio::test]
async fn concurrent_callers_share_the_first_failed_fetch() {
    let fixture = Arc::new(IssuerFixture::start(&[]).await);
    fixture.server.answer(500, "down");
    fixture.server.delay(Duration::from_millis(200));
    let token = fixture.token("old", old_key());
    let results = authenticate_concurrently(&fixture, 200, |_, _| token.clone()).await;
    assert!(results.iter().all(|result| *result == UNREACHABLE), "{results:?}");
    assert_eq!(fixture.server.requests(), 1);
}

#[tokio::test]
async fn concurrent_callers_fetch_expired_keys_once() {
    let fixture = Arc::new(IssuerFixture::start(&[old_key().clerk_jwk("old")]).await);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    fixture.server.delay(Duration::from_millis(200));
    fixture.advance(1000);
    let token = fixture.token("old", old_key());
    let results = authenticate_concurrently(&fixture, 200, |_, _| token.clone()).await;
    assert!(results.iter().all(|result| *result == ACCEPTED), "{results:?}");
    assert_eq!(fixture.server.requests(), 2);
}

#[tokio::test]
async fn unknown_key_ids_cost_one_fetch_in_thirty_seconds() {
    let fixture = Arc::new(IssuerFixture::start(&[old_key().clerk_jwk("old")]).await);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    let template = fixture.token("unknown", new_key());
    let (_, rest) = template.split_once('.').expect("three parts");
    let unknown_kid = |_: &IssuerFixture, index: usize| {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": format!("unknown-{index}") });
        format!("{}.{rest}", vaultsync_testkit::forge::base64url(header.to_string().as_bytes()))
    };
    let results = authenticate_concurrently(&fixture, 200, unknown_kid).await;
    assert!(results.iter().all(|result| *result == NO_SUCH_KEY), "{results:?}");
    assert_eq!(fixture.server.requests(), 2);
    fixture.advance(29);
    authenticate_concurrently(&fixture, 200, unknown_kid).await;
    assert_eq!(fixture.server.requests(), 2);
    fixture.advance(1);
    authenticate_concurrently(&fixture, 200, unknown_kid).await;
    assert_eq!(fixture.server.requests(), 3);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
}

#[tokio::test]
async fn bad_signatures_cost_one_fetch_in_thirty_seconds() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    for _ in 0..20 {
        assert_eq!(fixture.status_of_new("old", new_key()).await, BAD_SIGNATURE);
    }
    assert_eq!(fixture.server.requests(), 2);
    fixture.advance(30);
    for _ in 0..20 {
        assert_eq!(fixture.status_of_new("old", new_key()).await, BAD_SIGNATURE);
    }
    assert_eq!(fixture.server.requests(), 3);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
}

#[tokio::test]
async fn a_caller_that_disconnects_does_not_cancel_the_fetch() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    fixture.server.delay(Duration::from_millis(300));
    let token = fixture.token("old", old_key());
    let disconnected =
        tokio::time::timeout(Duration::from_millis(100), fixture.authenticate(&token)).await;
    assert!(disconnected.is_err(), "the call was still waiting");
    assert_eq!(fixture.status(&token).await, ACCEPTED);
    assert_eq!(fixture.server.requests(), 1);
}
