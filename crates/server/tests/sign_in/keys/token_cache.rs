//! Cache of verified tokens: what it saves, and when an entry becomes invalid.

use std::time::Duration;

use serde_json::json;
use vaultsync_testkit::forge::{ClerkForge, SigningKey};

use super::{ACCEPTED, IssuerFixture, NO_SUCH_KEY, new_key, old_key};
use crate::{ISSUER, NOW};

#[tokio::test]
async fn a_busy_client_costs_one_signature_check_a_minute() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    let forge = {
        let mut forge = ClerkForge::new(ISSUER, old_key(), NOW);
        forge.kid = "old".to_owned();
        forge
    };
    let long = forge.token_with(|_, claims| {
        claims.insert("exp".to_owned(), json!(1_800_003_600));
    });
    let first = fixture.authenticate(&long).await.expect("a valid token");
    for _ in 0..59 {
        fixture.advance(1);
        assert_eq!(fixture.authenticate(&long).await.expect("a valid token"), first);
    }
    assert_eq!(fixture.auth.signatures_checked(), 1);
    fixture.advance(1);
    assert_eq!(fixture.authenticate(&long).await.expect("a valid token"), first);
    assert_eq!(fixture.auth.signatures_checked(), 2);
}

#[tokio::test]
async fn a_cached_token_expires_at_its_exp() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    let token = fixture.token("old", old_key());
    fixture.advance(30);
    assert_eq!(fixture.status(&token).await, ACCEPTED);
    fixture.clock.advance(Duration::from_millis(29_999));
    assert_eq!(fixture.status(&token).await, ACCEPTED);
    assert_eq!(fixture.auth.signatures_checked(), 1, "cached");
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(fixture.status(&token).await, ACCEPTED, "within the skew");
    assert_eq!(fixture.auth.signatures_checked(), 2, "verified again");
    fixture.clock.advance(Duration::from_secs(5));
    assert_eq!(fixture.status(&token).await, (401, "token-expired"));
}

#[tokio::test]
async fn a_rejected_token_is_not_cached() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
    let token = fixture.token("old", old_key());
    fixture.clock.step(65_000);
    assert_eq!(fixture.status(&token).await, (401, "token-expired"));
    fixture.clock.step(-65_000);
    assert_eq!(fixture.status(&token).await, ACCEPTED);
}

#[tokio::test]
async fn a_cached_token_is_invalidated_only_when_the_keys_change() {
    let (old, spare) = (old_key().clerk_jwk("old"), SigningKey::rsa(2).clerk_jwk("spare"));
    let fixture = IssuerFixture::start(&[old.clone(), spare.clone()]).await;
    let token = fixture.token("old", old_key());
    assert_eq!(fixture.status(&token).await, ACCEPTED);
    // Only the order of the keys changes.
    fixture.server.show(&[spare, old]);
    assert_eq!(fixture.status_of_new("unknown", new_key()).await, NO_SUCH_KEY);
    assert_eq!(fixture.server.requests(), 2);
    assert_eq!(fixture.status(&token).await, ACCEPTED);
    assert_eq!(fixture.auth.signatures_checked(), 1, "still cached");
    fixture.advance(30);
    fixture.server.show(&[new_key().clerk_jwk("new")]);
    assert_eq!(fixture.status_of_new("new", new_key()).await, ACCEPTED);
    assert_eq!(fixture.status(&token).await, NO_SUCH_KEY);
}

#[tokio::test]
async fn every_change_of_the_keys_invalidates_cached_tokens() {
    let fixture = IssuerFixture::start(&[old_key().clerk_jwk("0")]).await;
    let mut token = fixture.token("0", old_key());
    assert_eq!(fixture.status(&token).await, ACCEPTED);
    for kid in ["1", "2", "3"] {
        fixture.advance(30);
        fixture.server.show(&[old_key().clerk_jwk(kid)]);
        let next = fixture.token(kid, old_key());
        assert_eq!(fixture.status(&next).await, ACCEPTED, "{kid}");
        assert_eq!(fixture.status(&token).await, NO_SUCH_KEY, "the key before {kid}");
        token = next;
    }
}
