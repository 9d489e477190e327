//! Key rotation: new, replaced and withdrawn keys, and the refresh in the background.

use std::sync::Arc;
use std::time::Duration;

use super::{
    ACCEPTED, BAD_SIGNATURE, IssuerFixture, NO_SUCH_KEY, authenticate_concurrently, new_key,
    old_key,
};

#[tokio::test]
async fn keys_are_fetched_once_for_many_tokens() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    for _ in 0..20 {
        assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    }
    assert_eq!(fixture.server.requests(), 1);
    assert_eq!(fixture.auth.signatures_checked(), 20, "each token is new");
}

#[tokio::test]
async fn a_new_key_works_at_once() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    fixture.server.show(&[old_key().clerk_jwk("old"), new_key().clerk_jwk("new")]);
    assert_eq!(fixture.status_of_new("new", new_key()).await, ACCEPTED);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    assert_eq!(fixture.server.requests(), 2);
}

#[tokio::test]
async fn a_new_key_works_at_once_for_all_concurrent_callers() {
    let fixture = Arc::new(IssuerFixture::start(&[old_key().clerk_jwk("old")]).await);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    fixture.server.show(&[new_key().clerk_jwk("new")]);
    fixture.server.delay(Duration::from_millis(200));
    let results =
        authenticate_concurrently(&fixture, 50, |fixture, _| fixture.token("new", new_key())).await;
    assert!(results.iter().all(|result| *result == ACCEPTED), "{results:?}");
    assert_eq!(fixture.server.requests(), 2);
}

#[tokio::test]
async fn a_key_replaced_under_its_old_id_works_at_once_and_the_old_one_stops_working() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("same")]).await;
    let cached = fixture.token("same", old_key());
    assert_eq!(fixture.status(&cached).await, ACCEPTED);
    fixture.server.show(&[new_key().clerk_jwk("same")]);
    assert_eq!(fixture.status_of_new("same", new_key()).await, ACCEPTED);
    assert_eq!(fixture.status_of_new("same", old_key()).await, BAD_SIGNATURE);
    assert_eq!(fixture.status(&cached).await, BAD_SIGNATURE);
}

#[tokio::test]
async fn a_withdrawn_key_is_rejected_within_five_minutes_of_steady_traffic() {
    let fixture =
        IssuerFixture::start(&[old_key().clerk_jwk("old"), new_key().clerk_jwk("new")]).await;
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    fixture.server.show(&[new_key().clerk_jwk("new")]);
    let mut accepted = 0;
    for _ in 0..59 {
        fixture.advance(5);
        assert_eq!(fixture.status_of_new("new", new_key()).await, ACCEPTED);
        accepted += u32::from(fixture.status_of_new("old", old_key()).await == ACCEPTED);
    }
    assert!(
        accepted > 40,
        "the key was accepted for most of the five minutes, so that the limit is tested"
    );
    fixture.advance(5);
    assert_eq!(fixture.status_of_new("old", old_key()).await, NO_SUCH_KEY);
}

#[tokio::test]
async fn a_withdrawn_key_is_rejected_even_if_its_token_is_cached() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    fixture.advance(230);
    let token = fixture.token("old", old_key());
    assert_eq!(fixture.status(&token).await, ACCEPTED);
    fixture.server.show(&[new_key().clerk_jwk("new")]);
    fixture.advance(20);
    // Starts the refresh in the background, without waiting for it.
    let _ = fixture.authenticate(&token).await;
    fixture.wait_for("the refresh", |fixture| fixture.server.requests() == 2).await;
    fixture.advance(39);
    for _ in 0..100 {
        if fixture.status(&token).await == NO_SUCH_KEY {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the token is still accepted although its key was withdrawn");
}

#[tokio::test]
async fn steady_traffic_never_waits_for_a_refresh() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    fixture.server.delay(Duration::from_mins(1));
    fixture.advance(240);
    let began = tokio::time::Instant::now();
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    assert!(began.elapsed() < Duration::from_secs(4), "the caller did not wait");
    fixture.wait_for("the refresh", |fixture| fixture.server.requests() == 2).await;
    for _ in 0..20 {
        assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    }
    assert_eq!(fixture.server.requests(), 2, "one refresh at a time");
}

#[tokio::test]
async fn a_refresh_extends_the_lifetime_of_the_keys_by_five_minutes() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    fixture.advance(239);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    assert_eq!(fixture.server.requests(), 1);
    fixture.advance(1);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    fixture.wait_for("the refresh", |fixture| fixture.server.requests() == 2).await;
    fixture.advance(200);
    assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
    assert_eq!(fixture.server.requests(), 2);
}
