//! Responses of an issuer: valid and invalid key sets, redirects and discovery documents.

use serde_json::{Value, json};
use vaultsync_server::auth::{Issuer, OidcOptions};
use vaultsync_testkit::forge::{ClerkForge, SigningKey};
use vaultsync_testkit::jwks_server::{DISCOVERY_PATH, JWKS_PATH, JwksServer};

use super::{
    ACCEPTED, BAD_SIGNATURE, IssuerFixture, KEYS_INVALID, KEYS_MISSING, UNREACHABLE, new_key,
    old_key,
};
use crate::NOW;

#[tokio::test]
async fn only_a_valid_key_set_is_accepted() {
    let valid = old_key().clerk_jwk("old");
    let many = |count: usize| {
        let others = (1..count).map(|index| new_key().clerk_jwk(&format!("k{index}")));
        let keys: Vec<Value> = others.chain([valid.clone()]).collect();
        json!({ "keys": keys }).to_string()
    };
    let changed = |name: &str, value: Value| {
        let mut key = valid.clone();
        key[name] = value;
        json!({ "keys": [key] }).to_string()
    };
    let without = |name: &str| {
        let mut key = valid.clone();
        key.as_object_mut().expect("an object").remove(name).expect("it had that");
        json!({ "keys": [key] }).to_string()
    };
    let secret = SigningKey::secret(b"secret").jwk("old");
    // Moduli outside of the limits: 1024 bits, and 8200.
    let modulus = |bytes: &[u8]| json!(vaultsync_testkit::forge::base64url(bytes));
    let padded = |bytes: usize| {
        let mut text = json!({ "keys": [valid] }).to_string();
        text.push_str(&" ".repeat(bytes - text.len()));
        text
    };
    for (name, status, body, expected) in [
        ("an error", 500, padded(2000), UNREACHABLE),
        ("not found", 404, padded(2000), UNREACHABLE),
        ("created", 201, padded(2000), UNREACHABLE),
        ("not JSON", 200, "<html>".to_owned(), KEYS_INVALID),
        ("an empty body", 200, String::new(), KEYS_INVALID),
        ("a list", 200, "[]".to_owned(), KEYS_INVALID),
        ("no list", 200, "{}".to_owned(), KEYS_INVALID),
        ("keys is an object", 200, r#"{"keys":{}}"#.to_owned(), KEYS_INVALID),
        ("an empty list", 200, r#"{"keys":[]}"#.to_owned(), KEYS_MISSING),
        ("no keys in the list", 200, r#"{"keys":[1,null,"k",{}]}"#.to_owned(), KEYS_MISSING),
        ("65 keys", 200, many(65), KEYS_INVALID),
        ("64 keys", 200, many(64), ACCEPTED),
        ("256 KiB", 200, padded(256 * 1024), ACCEPTED),
        ("more than 256 KiB", 200, padded(256 * 1024 + 1), UNREACHABLE),
        ("no kid", 200, without("kid"), ACCEPTED),
        ("an empty kid", 200, changed("kid", json!("")), ACCEPTED),
        ("kid is a number", 200, changed("kid", json!(1)), KEYS_MISSING),
        ("no use", 200, without("use"), ACCEPTED),
        ("no alg", 200, without("alg"), ACCEPTED),
        ("another use", 200, changed("use", json!("enc")), KEYS_MISSING),
        ("another alg", 200, changed("alg", json!("RSA-OAEP")), KEYS_MISSING),
        ("an alg for another kind", 200, changed("alg", json!("ES256")), KEYS_MISSING),
        ("an unknown alg", 200, changed("alg", json!("RS1")), KEYS_MISSING),
        ("kty says EC", 200, changed("kty", json!("EC")), KEYS_MISSING),
        ("no n", 200, without("n"), KEYS_MISSING),
        ("n is not base64url", 200, changed("n", json!("+++=")), KEYS_MISSING),
        ("n of 1024 bits", 200, changed("n", modulus(&[0xff; 128])), KEYS_MISSING),
        ("n of 8200 bits", 200, changed("n", modulus(&[0xff; 1025])), KEYS_MISSING),
        (
            "n is padded with zeros",
            200,
            changed("n", modulus(&[&[0; 200], &[0xff; 128][..]].concat())),
            KEYS_MISSING,
        ),
        ("e is even", 200, changed("e", json!("AQAA")), KEYS_MISSING),
        ("e is 1", 200, changed("e", json!("AQ")), KEYS_MISSING),
        ("a private key", 200, changed("d", json!("AQAB")), KEYS_MISSING),
        ("a shared secret", 200, json!({ "keys": [secret] }).to_string(), KEYS_MISSING),
        (
            "a usable key among others",
            200,
            json!({ "keys": [1, {"kty": "RSA"}, secret, {"kty": "new", "kid": "old"}, valid] })
                .to_string(),
            ACCEPTED,
        ),
        (
            "two keys with one id",
            200,
            json!({ "keys": [new_key().clerk_jwk("old"), valid] }).to_string(),
            ACCEPTED,
        ),
    ] {
        let fixture = IssuerFixture::start(&[]).await;
        fixture.server.answer(status, body);
        assert_eq!(fixture.status_of_new("old", old_key()).await, expected, "{name}");
    }
}

#[tokio::test]
async fn the_last_keys_survive_an_invalid_response() {
    for (name, status, body) in [
        ("an empty list", 200, r#"{"keys":[]}"#),
        ("garbage", 200, "<html>"),
        ("unusable keys", 200, r#"{"keys":[{"kty":"oct","k":"AAAA","kid":"old"}]}"#),
        ("an error", 502, ""),
    ] {
        let fixture = IssuerFixture::start(&[old_key().clerk_jwk("old")]).await;
        assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED);
        fixture.server.answer(status, body);
        // The bad signature causes a fetch at once.
        assert_eq!(fixture.status_of_new("old", new_key()).await, BAD_SIGNATURE);
        assert_eq!(fixture.server.requests(), 2);
        assert_eq!(fixture.status_of_new("old", old_key()).await, ACCEPTED, "{name}");
        fixture.advance(400);
        assert_eq!(
            fixture.status_of_new("old", old_key()).await,
            ACCEPTED,
            "{name}, after the keys expired"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = JwksServer::start(&[old_key().clerk_jwk("old")]).await;
    let fixture = IssuerFixture::start(&[]).await;
    fixture.server.redirect(&elsewhere.jwks_url());
    assert_eq!(fixture.status_of_new("old", old_key()).await, UNREACHABLE);
    assert_eq!(elsewhere.requests(), 0);
}

fn oidc_with_discovery(server: &JwksServer) -> Issuer {
    Issuer::oidc(OidcOptions {
        issuer: server.issuer(),
        audience: vec!["vault".to_owned()],
        ..OidcOptions::default()
    })
    .expect("valid settings")
}

#[tokio::test]
async fn discovery_finds_the_keys() {
    let server = JwksServer::start(&[]).await;
    server.answer_at("/keys", 200, json!({ "keys": [old_key().jwk("old")] }).to_string());
    let issuer = oidc_with_discovery(&server);
    let fixture = IssuerFixture::with(server, issuer);
    let mut forge = ClerkForge::new(&fixture.server.issuer(), old_key(), NOW);
    forge.kid = "old".to_owned();
    let token = forge.token_with(|_, claims| {
        claims.insert("aud".to_owned(), json!("vault"));
    });
    let document = |issuer: &str| {
        let keys = format!("{}/keys", fixture.server.issuer());
        json!({ "issuer": issuer, "jwks_uri": keys }).to_string()
    };

    assert_eq!(fixture.status(&token).await, UNREACHABLE, "there is no document");
    fixture.server.answer_at(DISCOVERY_PATH, 200, document("https://id.example.com"));
    fixture.advance(5);
    assert_eq!(fixture.status(&token).await, KEYS_INVALID, "the document is another issuer's");
    assert_eq!(fixture.server.requests_at("/keys"), 0);
    fixture.server.answer_at(DISCOVERY_PATH, 200, document(&fixture.server.issuer()));
    fixture.advance(5);
    assert_eq!(fixture.status(&token).await, ACCEPTED);
    assert_eq!(fixture.server.requests_at("/keys"), 1);
    assert_eq!(fixture.server.requests_at(JWKS_PATH), 0);
}
