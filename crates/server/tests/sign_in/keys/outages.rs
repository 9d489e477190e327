//! Outages of the issuer: how long its last keys are used, and how often a fetch is retried.

use std::sync::Arc;
use std::time::Duration;

use vaultsync_server::auth::{ClerkOptions, Issuer};
use vaultsync_testkit::jwks_server::JwksServer;

use super::{
    ACCEPTED, IssuerFixture, NO_SUCH_KEY, UNREACHABLE, authenticate_concurrently, new_key, old_key,
};
use crate::{ISSUER, clerk_options};

#[tokio::test]
async fn keys_are_used_for_an_hour_of_an_outage_and_then_requests_get_503() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    fixture.server.answer(500, "down");
    fixture.advance(299);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    for _ in 0..33 {
        fixture.advance(100);
        assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    }
    let cached = fixture.token("old", old_key());
    assert_eq!(fixture.status(&cached).await, ACCEPTED);
    assert_eq!(fixture.auth.ready().await, Ok(()));
    // 3599 seconds have passed.
    fixture.advance(1);
    assert_eq!(fixture.status_of_new("old", old_key()).await, UNREACHABLE);
    assert_eq!(fixture.status(&cached).await, UNREACHABLE);
    assert!(fixture.auth.ready().await.is_err());
    fixture.server.show(&[old_key().clerk_jwk("old")]);
    fixture.advance(5);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
}

#[tokio::test]
async fn no_caller_waits_for_an_issuer_that_hangs_after_a_failure() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    fixture.server.answer(500, "down");
    fixture.advance(300);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    fixture.server.delay(Duration::from_mins(1));
    fixture.advance(10);
    let began = tokio::time::Instant::now();
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "the fetch runs in the background because the issuer is down"
    );
    fixture.wait_for("another fetch", |fixture| fixture.server.requests() == 3).await;
}

#[tokio::test]
async fn callers_wait_for_a_failed_issuer_again_after_thirty_seconds() {
    for (seconds, expected) in [(29, ACCEPTED), (30, NO_SUCH_KEY)] {
        let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
        assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
        fixture.server.answer(500, "down");
        fixture.advance(300);
        assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
        assert_eq!(fixture.server.requests(), 2);
        fixture.server.show(&[new_key().clerk_jwk("new")]);
        fixture.server.delay(Duration::from_millis(200));
        fixture.advance(seconds);
        assert_eq!(fixture.status_of_new("old", old_key()).await, expected, "after {seconds} s");
        // The next fixture may reuse this one's port, where a late request would be counted.
        fixture.wait_for("the last fetch", |fixture| fixture.server.requests() > 2).await;
    }
}

#[tokio::test]
async fn a_fetch_times_out_after_five_seconds() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    fixture.server.delay(Duration::from_mins(1));
    let began = tokio::time::Instant::now();
    assert_eq!(fixture.status_of_new("old", old_key()).await, UNREACHABLE);
    assert!(began.elapsed() >= Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn without_keys_requests_get_503_and_a_fetch_is_tried_every_five_seconds() {
    let fixture = IssuerFixture::start(&[]).await;
    fixture.server.answer(503, "down");
    assert_eq!(fixture.status_of_new("old", old_key()).await, UNREACHABLE);
    assert_eq!(fixture.server.requests(), 1);
    for _ in 0..4 {
        fixture.advance(1);
        assert_eq!(fixture.status_of_new("old", old_key()).await, UNREACHABLE);
        let problems = fixture.auth.ready().await.expect_err("no keys");
        assert!(problems[0].contains(ISSUER) && problems[0].contains("503"), "{problems:?}");
    }
    assert_eq!(fixture.server.requests(), 1, "no retry within five seconds");
    fixture.advance(1);
    assert_eq!(fixture.status_of_new("old", old_key()).await, UNREACHABLE);
    assert_eq!(fixture.server.requests(), 2);
    fixture.server.show(&[old_key().clerk_jwk("old")]);
    assert_eq!(fixture.status_of_new("old", old_key()).await, UNREACHABLE, "no retry yet");
    fixture.advance(5);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    assert_eq!(fixture.server.requests(), 3);
    assert_eq!(fixture.auth.ready().await, Ok(()));
}

#[tokio::test]
async fn during_a_retry_other_callers_get_a_response_at_once() {
    let fixture = Arc::new(IssuerFixture::start(&[]).await);
    fixture.server.answer(503, "down");
    assert_eq!(fixture.status_of_new("old", old_key()).await, UNREACHABLE);
    fixture.server.show(&[old_key().clerk_jwk("old")]);
    fixture.server.delay(Duration::from_millis(500));
    fixture.advance(5);
    let results =
        authenticate_concurrently(&fixture, 50, |fixture, _| fixture.token("old", old_key())).await;
    let accepted = results.iter().filter(|result| **result == ACCEPTED).count();
    let unavailable = results.iter().filter(|result| **result == UNREACHABLE).count();
    assert_eq!((accepted, unavailable), (1, 49));
    assert_eq!(fixture.server.requests(), 2);
}

#[tokio::test]
async fn a_readiness_check_fetches_missing_keys() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(fixture.server.requests(), 0);
    assert_eq!(fixture.auth.ready().await, Ok(()));
    assert_eq!(fixture.auth.ready().await, Ok(()));
    assert_eq!(fixture.server.requests(), 1);
}

#[tokio::test]
async fn an_unknown_key_id_during_an_outage_gets_401_because_there_are_keys() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    fixture.server.answer(500, "down");
    assert_eq!(fixture.status_of_new("new", new_key()).await, NO_SUCH_KEY);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
}

#[tokio::test]
async fn an_unreachable_issuer_is_a_503() {
    let server = JwksServer::start(&[]).await;
    // Nothing listens on port 1, which only root can open.
    let issuer = Issuer::clerk(ClerkOptions {
        jwks_url: Some("http://127.0.0.1:1/jwks".to_owned()),
        ..clerk_options()
    });
    let fixture = IssuerFixture::with(server, issuer.expect("valid settings"));
    assert_eq!(fixture.status_of_new("old", old_key()).await, UNREACHABLE);
}
