//! Which key verifies a token: by key id, or without one if only one key fits.

use serde_json::{Value, json};
use vaultsync_server::auth::{Issuer, OidcOptions};
use vaultsync_testkit::forge::{Algorithm, ClerkForge, SigningKey};
use vaultsync_testkit::jwks_server::JwksServer;

use super::{ACCEPTED, BAD_SIGNATURE, IssuerFixture, NO_SUCH_KEY, new_key, old_key};
use crate::{ISSUER, NOW, authenticator, bearer, clock, outcome};

/// The public half of a key without `kid`.
fn unnamed(key: &SigningKey) -> Value {
    let mut jwk = key.jwk("");
    jwk.as_object_mut().expect("an object").remove("kid");
    jwk
}

/// A token that is signed by `key`.
fn token(kid: Option<&str>, key: &SigningKey) -> String {
    ClerkForge::new(ISSUER, key, NOW).token_with(|header, _| {
        header.remove("kid");
        if let Some(kid) = kid {
            header.insert("kid".to_owned(), json!(kid));
        }
    })
}

#[tokio::test]
async fn a_token_without_a_key_id_needs_an_issuer_with_one_key_that_fits() {
    let (old, new) = (old_key(), new_key());
    let mut for_encryption = new.jwk("new");
    for_encryption["use"] = json!("enc");
    let mut for_ps256 = new.jwk("new");
    for_ps256["alg"] = json!("PS256");
    let p256 = SigningKey::p256();
    for (name, keys, kid, expected) in [
        ("one key with an id", vec![old.jwk("old")], None, ACCEPTED),
        ("one key without an id", vec![unnamed(old)], None, ACCEPTED),
        ("one key without an id, any kid", vec![unnamed(old)], Some("some"), ACCEPTED),
        ("the same key twice", vec![old.jwk("old"), old.clerk_jwk("old")], None, ACCEPTED),
        ("a key of another kind beside it", vec![old.jwk("old"), p256.jwk("ec")], None, ACCEPTED),
        ("a key for encryption beside it", vec![unnamed(old), for_encryption], None, ACCEPTED),
        ("a key for PS256 beside it", vec![unnamed(old), for_ps256], None, ACCEPTED),
        ("two keys with ids", vec![old.jwk("old"), new.jwk("new")], None, NO_SUCH_KEY),
        ("two keys without ids", vec![unnamed(old), unnamed(new)], None, NO_SUCH_KEY),
        ("two keys without ids, a kid", vec![unnamed(old), unnamed(new)], Some("a"), NO_SUCH_KEY),
        ("one of two has an id", vec![unnamed(old), new.jwk("new")], None, NO_SUCH_KEY),
        (
            "the other one has the id",
            vec![unnamed(old), new.jwk("new")],
            Some("new"),
            BAD_SIGNATURE,
        ),
        ("no other has the id", vec![unnamed(old), new.jwk("new")], Some("old"), ACCEPTED),
        ("an unknown kid", vec![old.jwk("old")], Some("other"), NO_SUCH_KEY),
        ("another key without an id", vec![unnamed(new)], None, BAD_SIGNATURE),
        ("another key, no kid", vec![new.jwk("new")], None, BAD_SIGNATURE),
        ("only a key of another kind", vec![unnamed(&p256)], None, NO_SUCH_KEY),
    ] {
        let fixture = IssuerFixture::start(&keys).await;
        assert_eq!(fixture.status(&token(kid, old)).await, expected, "{name}");
    }
}

#[tokio::test]
async fn the_error_says_which_keys_fit() {
    let fixture = IssuerFixture::start(&[unnamed(old_key()), unnamed(new_key())]).await;
    for (kid, expected) in [
        (None, "the token has no kid, and 2 keys of the issuer fit RS256"),
        (Some("a\"b"), r#"the token has the kid "a\"b", and 2 keys of the issuer fit RS256"#),
    ] {
        let error = fixture.authenticate(&token(kid, old_key())).await.unwrap_err();
        let detail = error.detail().unwrap_or_default();
        assert!(detail.starts_with(expected), "{detail}");
    }
    let fixture = IssuerFixture::start(&[old_key().jwk("old")]).await;
    let error = fixture.authenticate(&token(Some("new"), new_key())).await.unwrap_err();
    let expected = r#"the token has the kid "new", and no key of the issuer fits it and RS256"#;
    assert_eq!(error.detail(), Some(expected));
}

#[tokio::test]
async fn a_token_without_a_key_id_is_verified_after_the_only_key_changed() {
    let fixture = IssuerFixture::start(&[unnamed(old_key())]).await;
    assert_eq!(fixture.status(&token(None, old_key())).await, ACCEPTED);
    fixture.server.show(&[unnamed(new_key())]);
    assert_eq!(fixture.status(&token(None, new_key())).await, ACCEPTED);
    assert_eq!(fixture.server.requests(), 2);
}

#[tokio::test]
async fn without_a_key_id_the_algorithm_selects_the_key() {
    let (rsa, p256) = (old_key(), SigningKey::p256());
    let server = JwksServer::start(&[unnamed(rsa), unnamed(&p256)]).await;
    let issuer = Issuer::oidc(OidcOptions {
        issuer: server.issuer(),
        audience: vec!["vault".to_owned()],
        jwks_url: Some(server.jwks_url()),
        algorithms: ["RS256", "ES256"].map(str::to_owned).to_vec(),
        ..OidcOptions::default()
    });
    let auth = authenticator(vec![issuer.expect("valid settings")], &clock());
    let now = NOW.as_millis() / 1000;
    let claims = json!({ "iss": server.issuer(), "aud": "vault", "sub": "ada", "exp": now + 60 });
    for (key, algorithm, expected) in [
        (rsa, Algorithm::RS256, ACCEPTED),
        (&p256, Algorithm::ES256, ACCEPTED),
        (new_key(), Algorithm::RS256, BAD_SIGNATURE),
    ] {
        let token = key.sign(algorithm, &json!({ "alg": format!("{algorithm:?}") }), &claims);
        let (status, _, reason) = outcome(&auth.authenticate(&bearer(&token)).await);
        assert_eq!((status, reason), expected, "{algorithm:?}");
    }
}
