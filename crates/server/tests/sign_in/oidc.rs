//! Tokens of issuers other than Clerk, the local one included, and several issuers at once.

use std::time::Duration;

use serde_json::{Map, Value, json};
use vaultsync_server::auth::{Issuer, LOCAL_ISSUER, LocalKey, OidcOptions};
use vaultsync_testkit::forge::{Algorithm, SigningKey};
use vaultsync_testkit::jwks_server::JwksServer;

use crate::{
    ACCEPTED, ALGORITHM, AUDIENCE, EARLY, EXPIRED, FAILED, FOREIGN, FROM_THE_FUTURE, INVALID,
    ISSUER, NO_SUCH_KEY, NOW, SIGNATURE, authenticator, bearer, check, check_all, clerk,
    clerk_options_with_key, clock, forge, set,
};

/// Creates the tokens of an OIDC issuer.
struct OidcForge {
    issuer: String,
    kid: &'static str,
}

impl OidcForge {
    fn header(&self, alg: &str) -> Map<String, Value> {
        let header = json!({ "alg": alg, "typ": "at+jwt", "kid": self.kid });
        header.as_object().expect("an object").clone()
    }

    fn claims(&self) -> Map<String, Value> {
        let claims = json!({
            "iss": self.issuer, "sub": "auth0|someone", "aud": ["other", "vault-api"],
            "iat": 1_800_000_000, "exp": 1_800_003_600,
        });
        claims.as_object().expect("an object").clone()
    }

    fn token(
        &self,
        key: &SigningKey,
        algorithm: Algorithm,
        change: impl FnOnce(&mut Map<String, Value>, &mut Map<String, Value>),
    ) -> String {
        let name = format!("{algorithm:?}");
        let (mut header, mut claims) = (self.header(&name), self.claims());
        change(&mut header, &mut claims);
        key.sign(algorithm, &Value::Object(header), &Value::Object(claims))
    }
}

fn oidc(server: &JwksServer, algorithms: &[&str]) -> Issuer {
    Issuer::oidc(OidcOptions {
        issuer: server.issuer(),
        audience: vec!["vault-api".to_owned()],
        jwks_url: Some(server.jwks_url()),
        algorithms: algorithms.iter().map(|&name| name.to_owned()).collect(),
        ..OidcOptions::default()
    })
    .expect("valid settings")
}

#[tokio::test]
async fn oidc_tokens_have_their_own_rules() {
    let rsa = SigningKey::rsa(0);
    let server = JwksServer::start(&[rsa.jwk("rsa")]).await;
    let forge = OidcForge { issuer: server.issuer(), kid: "rsa" };
    let header = |name: &str, value: Value| {
        forge.token(rsa, Algorithm::RS256, |header, _| set(header, name, value))
    };
    let claim = |name: &str, value: Value| {
        forge.token(rsa, Algorithm::RS256, |_, claims| set(claims, name, value))
    };
    check_all(
        &authenticator(vec![oidc(&server, &[])], &clock()),
        vec![
            ("valid", forge.token(rsa, Algorithm::RS256, |_, _| {}), ACCEPTED),
            ("no typ", header("typ", Value::Null), ACCEPTED),
            ("JWT", header("typ", json!("JWT")), ACCEPTED),
            ("jwt", header("typ", json!("jwt")), ACCEPTED),
            ("spelled out", header("typ", json!("application/at+jwt")), ACCEPTED),
            ("a logout token", header("typ", json!("logout+jwt")), INVALID),
            ("typ is a list", header("typ", json!(["JWT"])), INVALID),
            ("cat is ignored", header("cat", json!("cl_B7d4PD222AAA")), ACCEPTED),
            ("no kid", header("kid", Value::Null), ACCEPTED),
            ("kid is empty", header("kid", json!("")), INVALID),
            ("kid is a number", header("kid", json!(1)), INVALID),
            ("unknown kid", header("kid", json!("other")), NO_SUCH_KEY),
            ("crit", header("crit", json!(["x"])), INVALID),
            ("no aud", claim("aud", Value::Null), FAILED),
            ("aud", claim("aud", json!("vault-api")), ACCEPTED),
            ("an ID token's aud", claim("aud", json!("client-id")), AUDIENCE),
            ("aud is longer", claim("aud", json!("vault-api/")), AUDIENCE),
            ("aud is empty", claim("aud", json!([])), AUDIENCE),
            ("aud is an object", claim("aud", json!({"vault-api": 1})), FAILED),
            ("no exp", claim("exp", Value::Null), FAILED),
            ("expired", claim("exp", json!(1_799_999_995)), EXPIRED),
            ("just not expired", claim("exp", json!(1_799_999_996)), ACCEPTED),
            ("early", claim("nbf", json!(1_800_000_006)), EARLY),
            ("from the future", claim("iat", json!(1_800_000_006)), FROM_THE_FUTURE),
            ("no sub", claim("sub", Value::Null), FAILED),
            ("sub is empty", claim("sub", json!("")), FAILED),
            ("sub of 256", claim("sub", json!("s".repeat(256))), FAILED),
            ("a sub like Clerk's", claim("sub", json!("mch_2")), ACCEPTED),
            ("another iss", claim("iss", json!(format!("{}/", server.issuer()))), FOREIGN),
            ("PS256 is not allowed", forge.token(rsa, Algorithm::PS256, |_, _| {}), ALGORITHM),
            (
                "the modulus as a secret",
                forge.token(
                    &SigningKey::secret(&rsa.public_part("n")),
                    Algorithm::HS256,
                    |_, _| {},
                ),
                ALGORITHM,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_clock_skew_of_an_oidc_issuer_is_a_setting() {
    let rsa = SigningKey::rsa(0);
    let server = JwksServer::start(&[rsa.jwk("rsa")]).await;
    let forge = OidcForge { issuer: server.issuer(), kid: "rsa" };
    let claim = |name: &str, seconds: i64| {
        let time = json!(NOW.as_millis() / 1000 + seconds);
        forge.token(rsa, Algorithm::RS256, |_, claims| set_new(claims, name, time))
    };
    for skew in [0_i64, 30, 60] {
        let issuer = Issuer::oidc(OidcOptions {
            issuer: server.issuer(),
            audience: vec!["vault-api".to_owned()],
            jwks_url: Some(server.jwks_url()),
            clock_skew: Duration::from_secs(skew.unsigned_abs()),
            ..OidcOptions::default()
        });
        check_all(
            &authenticator(vec![issuer.expect("valid settings")], &clock()),
            vec![
                ("expired within the skew", claim("exp", 1 - skew), ACCEPTED),
                ("expired", claim("exp", -skew), EXPIRED),
                ("early within the skew", claim("nbf", skew), ACCEPTED),
                ("early", claim("nbf", skew + 1), EARLY),
                ("issued within the skew", claim("iat", skew), ACCEPTED),
                ("from the future", claim("iat", skew + 1), FROM_THE_FUTURE),
            ],
        )
        .await;
    }
}

fn set_new(claims: &mut Map<String, Value>, name: &str, value: Value) {
    claims.insert(name.to_owned(), value);
}

#[tokio::test]
async fn an_oidc_issuer_may_use_only_its_configured_algorithms() {
    let (ec, ed) = (SigningKey::p256(), SigningKey::ed25519());
    let rsa = SigningKey::rsa(0);
    let mut for_rs256 = SigningKey::rsa(1).jwk("rs256");
    for_rs256["alg"] = json!("RS256");
    let mut for_encryption = SigningKey::rsa(1).jwk("enc");
    for_encryption["use"] = json!("enc");
    let mut for_wrapping = SigningKey::rsa(1).jwk("wrap");
    for_wrapping["key_ops"] = json!(["wrapKey"]);
    let mut for_verifying = SigningKey::rsa(1).jwk("verify");
    for_verifying["key_ops"] = json!(["verify"]);
    let server = JwksServer::start(&[
        rsa.jwk("rsa"),
        ec.jwk("ec"),
        ed.jwk("ed"),
        for_rs256,
        for_encryption,
        for_wrapping,
        for_verifying,
        SigningKey::secret(b"public secret").jwk("secret"),
    ])
    .await;
    let all = ["RS256", "PS256", "ES256", "EdDSA"];
    let auth = authenticator(vec![oidc(&server, &all)], &clock());
    let token = |kid: &'static str, key: &SigningKey, algorithm: Algorithm| {
        OidcForge { issuer: server.issuer(), kid }.token(key, algorithm, |_, _| {})
    };
    let other = SigningKey::rsa(1);
    let secret = SigningKey::secret(b"public secret");
    check_all(
        &auth,
        vec![
            ("RS256", token("rsa", rsa, Algorithm::RS256), ACCEPTED),
            ("PS256", token("rsa", rsa, Algorithm::PS256), ACCEPTED),
            ("ES256", token("ec", &ec, Algorithm::ES256), ACCEPTED),
            ("EdDSA", token("ed", &ed, Algorithm::EdDSA), ACCEPTED),
            ("RS384", token("rsa", rsa, Algorithm::RS384), ALGORITHM),
            ("a key for RS256 by RS256", token("rs256", other, Algorithm::RS256), ACCEPTED),
            ("a key for RS256 by PS256", token("rs256", other, Algorithm::PS256), NO_SUCH_KEY),
            ("a key for encryption", token("enc", other, Algorithm::RS256), NO_SUCH_KEY),
            ("a key for wrapping", token("wrap", other, Algorithm::RS256), NO_SUCH_KEY),
            ("a key for verifying", token("verify", other, Algorithm::RS256), ACCEPTED),
            ("the shared secret", token("secret", &secret, Algorithm::HS256), ALGORITHM),
            ("the kid of another kind", token("ec", rsa, Algorithm::RS256), NO_SUCH_KEY),
            ("another P-256 key", token("ec", &SigningKey::p256(), Algorithm::ES256), SIGNATURE),
            (
                "another Ed25519 key",
                token("ed", &SigningKey::ed25519(), Algorithm::EdDSA),
                SIGNATURE,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_keys_of_one_issuer_do_not_verify_tokens_of_another() {
    let server = JwksServer::start(&[SigningKey::rsa(1).jwk("shared-kid")]).await;
    let clerk = Issuer::clerk(clerk_options_with_key()).expect("valid settings");
    let auth = authenticator(vec![clerk, oidc(&server, &[])], &clock());
    let oidc = OidcForge { issuer: server.issuer(), kid: "shared-kid" };

    let clerk_principal = auth.authenticate(&bearer(&forge().token())).await.expect("Clerk's");
    let same_subject = oidc.token(SigningKey::rsa(1), Algorithm::RS256, |_, claims| {
        claims.insert("sub".to_owned(), json!("user_2someone"));
    });
    let oidc_principal = auth.authenticate(&bearer(&same_subject)).await.expect("the other's");
    assert_eq!(clerk_principal.subject, oidc_principal.subject);
    assert_ne!(
        clerk_principal.issuer, oidc_principal.issuer,
        "the same subject is not the same user"
    );

    let mut clerk_by_oidc = forge();
    clerk_by_oidc.key = SigningKey::rsa(1).clone();
    clerk_by_oidc.kid = "shared-kid".to_owned();
    check_all(
        &auth,
        vec![
            ("Clerk's name, the other's key", clerk_by_oidc.token(), SIGNATURE),
            (
                "the other's name, Clerk's key",
                oidc.token(SigningKey::rsa(0), Algorithm::RS256, |_, _| {}),
                SIGNATURE,
            ),
            (
                "both names",
                forge().token_with(|_, claims| {
                    claims.insert("iss".to_owned(), json!([ISSUER, server.issuer()]));
                }),
                FOREIGN,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn local_tokens_are_accepted_only_if_the_local_issuer_is_enabled() {
    let folder = tempfile::tempdir().expect("a folder");
    let other_folder = tempfile::tempdir().expect("a folder");
    let key = LocalKey::load_or_create(folder.path()).expect("a key");
    let other_key = LocalKey::load_or_create(other_folder.path()).expect("a key");
    let token = key.mint("ada", NOW, Duration::from_hours(1)).expect("a token");
    let clock = clock();
    let auth = authenticator(vec![Issuer::local(&key)], &clock);
    let principal = auth.authenticate(&bearer(&token)).await.expect("a local token");
    assert_eq!((&*principal.issuer, &*principal.subject), (LOCAL_ISSUER, "ada"));
    assert_eq!(principal.expires_at, NOW.plus_millis(3_600_000));

    let clerk = clerk(clerk_options_with_key());
    check("not enabled", &clerk, &bearer(&token), FOREIGN).await;
    let error = clerk.authenticate(&bearer(&token)).await.unwrap_err();
    let expected =
        format!("iss of the token is {LOCAL_ISSUER:?}, and this server accepts {ISSUER:?}");
    assert_eq!(error.detail(), Some(&*expected));
    let foreign = other_key.mint("ada", NOW, Duration::from_hours(1)).expect("a token");
    check("of another server", &auth, &bearer(&foreign), NO_SUCH_KEY).await;
    clock.step(3_604_999);
    check("within the skew", &auth, &bearer(&token), ACCEPTED).await;
    clock.step(1);
    check("expired", &auth, &bearer(&token), EXPIRED).await;
}
