//! Form of a token and its header.
//!
//! Not here: claims (`claims`), tokens of issuers other than Clerk (`oidc`).

use http::HeaderMap;
use serde_json::{Value, json};
use vaultsync_server::auth::{Authenticator, ClerkOptions, Issuer};
use vaultsync_testkit::forge::{Algorithm, SigningKey, base64url};
use vaultsync_testkit::jwks_server::JwksServer;

use crate::{
    ACCEPTED, ALGORITHM, FOREIGN, INVALID, ISSUER, MISSING, MISTYPED, NO_SUCH_KEY, NOW, SIGNATURE,
    TOKEN_BYTES_MAX, TOO_LONG, bearer, check, check_all, clerk, clerk_options,
    clerk_options_with_key, clock, forge, headers, set, with_claim, with_header,
};

#[tokio::test]
async fn a_valid_token_identifies_the_caller() {
    let principal = clerk(clerk_options_with_key()).authenticate(&bearer(&forge().token())).await;
    let principal = principal.expect("a valid token");
    assert_eq!(&*principal.issuer, ISSUER);
    assert_eq!(&*principal.subject, "user_2someone");
    assert_eq!(principal.expires_at, NOW.plus_millis(60_000));
}

#[tokio::test]
async fn a_request_needs_one_bearer_token_in_one_authorization_header() {
    let auth = clerk(clerk_options_with_key());
    let token = forge().token();
    let line = |before: &str, after: &str| format!("{before}{token}{after}").into_bytes();
    let valid = line("Bearer ", "");
    for (name, values, want) in [
        ("Bearer", vec![valid.clone()], ACCEPTED),
        ("lower case", vec![line("bearer ", "")], ACCEPTED),
        ("upper case", vec![line("BEARER ", "")], ACCEPTED),
        ("two spaces", vec![line("Bearer  ", "")], ACCEPTED),
        ("nothing", vec![], MISSING),
        ("an empty header", vec![b"".to_vec()], MISSING),
        ("a bare token", vec![line("", "")], MISSING),
        ("Basic", vec![b"Basic dXNlcjpwYXNz".to_vec()], MISSING),
        ("a token under Basic", vec![line("Basic ", "")], MISSING),
        ("a longer scheme", vec![line("Bearers ", "")], MISSING),
        ("no space", vec![line("Bearer", "")], MISSING),
        ("a tab", vec![line("Bearer\t", "")], MISSING),
        ("no token", vec![b"Bearer".to_vec()], INVALID),
        ("only spaces", vec![b"Bearer   ".to_vec()], INVALID),
        ("two words", vec![b"Bearer a b".to_vec()], INVALID),
        ("a valid token and a word", vec![line("Bearer ", " b")], INVALID),
        ("a word and a valid token", vec![line("Bearer b ", "")], INVALID),
        ("a comma", vec![line("Bearer ", ",b")], INVALID),
        ("a space after it", vec![line("Bearer ", " ")], INVALID),
        ("not ASCII", vec![line("Bearer ", "\u{e9}")], INVALID),
        ("the same header twice", vec![valid.clone(), valid.clone()], INVALID),
        ("an invalid token first", vec![b"Bearer a.b.c".to_vec(), valid.clone()], INVALID),
        ("Basic first", vec![b"Basic dXNlcjpwYXNz".to_vec(), valid.clone()], INVALID),
        ("Basic second", vec![valid, b"Basic dXNlcjpwYXNz".to_vec()], INVALID),
    ] {
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        check(name, &auth, &headers(&values), want).await;
    }
}

#[tokio::test]
async fn a_token_in_a_cookie_is_ignored() {
    let mut cookie = HeaderMap::new();
    let value = format!("__session={}", forge().token());
    cookie.insert(http::header::COOKIE, value.parse().expect("a header's value"));
    check("cookie only", &clerk(clerk_options_with_key()), &cookie, MISSING).await;
}

#[tokio::test]
async fn a_token_has_three_parts_in_strict_base64url() {
    let valid = forge().token();
    let parts: Vec<&str> = valid.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let sign =
        |header: &str, claims: &str| SigningKey::rsa(0).sign_text(Algorithm::RS256, header, claims);
    let header_text = Value::Object(forge().header()).to_string();
    let claims_text = Value::Object(forge().claims()).to_string();
    let twice = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    // A space before the claims, so that their base64 needs padding.
    let padded = format!("{header}.{}=", base64url(format!(" {claims_text}").as_bytes()));
    let mut bad_last = valid.clone();
    // The last character of an RSA signature of 256 bytes has four unused bits.
    bad_last.pop();
    bad_last.push('_');

    check_all(
        &clerk(clerk_options_with_key()),
        vec![
            ("valid", valid.clone(), ACCEPTED),
            ("signed text", sign(&header_text, &claims_text), ACCEPTED),
            ("one part", "abc".to_owned(), INVALID),
            ("two parts", format!("{header}.{claims}"), INVALID),
            ("four parts", format!("{valid}.{signature}"), INVALID),
            ("five parts", format!("{header}.{claims}.{signature}.a.b"), INVALID),
            ("no header", format!(".{claims}.{signature}"), INVALID),
            ("no claims", format!("{header}..{signature}"), INVALID),
            ("no signature", format!("{header}.{claims}."), INVALID),
            ("only dots", "..".to_owned(), INVALID),
            ("padding at the end", format!("{valid}=="), INVALID),
            ("padding inside", SigningKey::rsa(0).sign_parts(Algorithm::RS256, &padded), INVALID),
            ("unused bits are set", bad_last, INVALID),
            ("base64 of the other alphabet", valid.replacen('.', "+.", 1), INVALID),
            ("a control character", valid.replacen('.', "%00.", 1), INVALID),
            ("header is a list", sign("[]", &claims_text), INVALID),
            ("header is not JSON", sign("header", &claims_text), INVALID),
            ("claims are a string", sign(&header_text, "\"claims\""), INVALID),
            ("claims are a list", sign(&header_text, "[]"), INVALID),
            ("claims are null", sign(&header_text, "null"), INVALID),
            (
                "text after the claims",
                sign(&header_text, &format!("{claims_text}{claims_text}")),
                INVALID,
            ),
            ("truncated claims", sign(&header_text, &claims_text[..20]), INVALID),
            ("alg twice", sign(&twice(&header_text, r#""alg":"RS256""#), &claims_text), INVALID),
            ("kid twice", sign(&twice(&header_text, r#""kid":"other""#), &claims_text), INVALID),
            ("sub twice", sign(&header_text, &twice(&claims_text, r#""sub":"user_2b""#)), INVALID),
            ("iss twice", sign(&header_text, &twice(&claims_text, r#""iss":"x""#)), INVALID),
            (
                "sub twice, once escaped",
                sign(&header_text, &twice(&claims_text, r#""s\u0075b":"user_2b""#)),
                INVALID,
            ),
            (
                "twice within a claim",
                sign(&header_text, &twice(&claims_text, r#""x":{"a":1,"a":2}"#)),
                INVALID,
            ),
            (
                "too deep",
                sign(&header_text, &twice(&claims_text, &format!(r#""x":{deep}"#))),
                INVALID,
            ),
            (
                "exp is larger than any number",
                sign(&header_text, &claims_text.replacen("\"exp\":", "\"exp\":1e999,\"x\":", 1)),
                INVALID,
            ),
            ("opaque machine token", "mt_abcdefghijklmnop".to_owned(), MISTYPED),
            ("old opaque machine token", "m2m_abcdefghijklmnop".to_owned(), MISTYPED),
            ("opaque OAuth token", "oat_abcdefghijklmnop".to_owned(), MISTYPED),
            ("API key", "ak_abcdefghijklmnop".to_owned(), MISTYPED),
            (
                "testing token",
                "1713877200-c_2J2MvPu9PnXcuhbPZNao0LOXqK9A7YrnBn0HmIWxy".to_owned(),
                INVALID,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_length_of_a_token_is_limited() {
    let token = forge().token();
    let issuer = || vec![Issuer::clerk(clerk_options_with_key()).expect("valid settings")];
    for (limit, expected) in [(token.len(), ACCEPTED), (token.len() - 1, TOO_LONG)] {
        let auth = Authenticator::new(issuer(), limit, clock());
        check("at the limit", &auth, &bearer(&token), expected).await;
    }
    let long = with_claim("x", json!("x".repeat(TOKEN_BYTES_MAX)));
    check("oversize", &clerk(clerk_options_with_key()), &bearer(&long), TOO_LONG).await;
    let error = clerk(clerk_options_with_key()).authenticate(&bearer(&long)).await.unwrap_err();
    let expected = format!("the token has {} bytes, and token_bytes_max is 8192", long.len());
    assert!(error.detail().unwrap_or_default().starts_with(&expected), "{error:?}");
}

#[tokio::test]
async fn the_configuration_decides_which_algorithms_are_accepted() {
    let rsa = SigningKey::rsa(0);
    let signed = |key: &SigningKey, algorithm: Algorithm, name: Value| {
        let mut header = forge().header();
        set(&mut header, "alg", name);
        key.sign(algorithm, &Value::Object(header), &Value::Object(forge().claims()))
    };
    let hmac =
        |secret: &[u8]| signed(&SigningKey::secret(secret), Algorithm::HS256, json!("HS256"));
    let valid = forge().token();
    let (_, signature) = valid.rsplit_once('.').expect("three parts");
    let auth = clerk(clerk_options_with_key());
    for none in ["none", "None", "NONE", "nOnE"] {
        let token = with_header("alg", json!(none));
        check(none, &auth, &bearer(&token), ALGORITHM).await;
        let (signed, _) = token.rsplit_once('.').expect("three parts");
        check(none, &auth, &bearer(&format!("{signed}.")), INVALID).await;
        check(none, &auth, &bearer(&format!("{signed}.AA")), ALGORITHM).await;
        check(none, &auth, &bearer(&format!("{signed}.{signature}")), ALGORITHM).await;
    }
    check_all(
        &auth,
        vec![
            ("RS256", signed(rsa, Algorithm::RS256, json!("RS256")), ACCEPTED),
            ("RS384", signed(rsa, Algorithm::RS384, json!("RS384")), ALGORITHM),
            ("RS512", signed(rsa, Algorithm::RS512, json!("RS512")), ALGORITHM),
            ("PS256", signed(rsa, Algorithm::PS256, json!("PS256")), ALGORITHM),
            ("PS256 called RS256", signed(rsa, Algorithm::PS256, json!("RS256")), SIGNATURE),
            ("RS512 called RS256", signed(rsa, Algorithm::RS512, json!("RS256")), SIGNATURE),
            ("rs256", with_header("alg", json!("rs256")), ALGORITHM),
            ("RS256 with a space", with_header("alg", json!("RS256 ")), ALGORITHM),
            ("no alg", with_header("alg", Value::Null), ALGORITHM),
            ("alg is a number", with_header("alg", json!(256)), ALGORITHM),
            ("alg is a list", with_header("alg", json!(["RS256"])), ALGORITHM),
            ("the PEM as a secret", hmac(rsa.public_pem().as_bytes()), ALGORITHM),
            ("the PEM, trimmed", hmac(rsa.public_pem().trim().as_bytes()), ALGORITHM),
            ("the modulus as a secret", hmac(&rsa.public_part("n")), ALGORITHM),
            ("an empty secret", hmac(b""), ALGORITHM),
            (
                "the PEM as a secret, called RS256",
                signed(
                    &SigningKey::secret(rsa.public_pem().as_bytes()),
                    Algorithm::HS256,
                    json!("RS256"),
                ),
                SIGNATURE,
            ),
            ("P-256", signed(&SigningKey::p256(), Algorithm::ES256, json!("ES256")), ALGORITHM),
            (
                "Ed25519",
                signed(&SigningKey::ed25519(), Algorithm::EdDSA, json!("EdDSA")),
                ALGORITHM,
            ),
            (
                "another RSA key",
                signed(SigningKey::rsa(1), Algorithm::RS256, json!("RS256")),
                SIGNATURE,
            ),
            ("a signature of one byte", format!("{}.AA", &valid[..valid.len() - 343]), SIGNATURE),
            (
                "claims of another token",
                {
                    let other = with_claim("sub", json!("user_2other"));
                    let (signed, _) = other.rsplit_once('.').expect("three parts");
                    format!("{signed}.{signature}")
                },
                SIGNATURE,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_header_may_only_name_a_key() {
    let with_kid = |kid: &str| with_header("kid", json!(kid));
    let unnamed_by = |key: &SigningKey| {
        let mut forge = forge();
        forge.key = key.clone();
        forge.token_with(|header, _| set(header, "kid", Value::Null))
    };
    check_all(
        &clerk(clerk_options_with_key()),
        vec![
            ("no kid", with_header("kid", Value::Null), ACCEPTED),
            ("any kid", with_kid("ins_other"), ACCEPTED),
            ("no kid, and another key", unnamed_by(SigningKey::rsa(1)), SIGNATURE),
            ("kid is a number", with_header("kid", json!(1)), INVALID),
            ("kid is an object", with_header("kid", json!({})), INVALID),
            ("empty kid", with_kid(""), INVALID),
            ("kid with NUL", with_kid("ins_\0"), INVALID),
            ("kid with a line break", with_kid("ins_\r\nx: y"), INVALID),
            ("kid not in ASCII", with_kid("ins_\u{e9}"), INVALID),
            ("kid of 256", with_kid(&"k".repeat(256)), ACCEPTED),
            ("kid of 257", with_kid(&"k".repeat(257)), INVALID),
            ("crit", with_header("crit", json!(["exp"])), INVALID),
            ("empty crit", with_header("crit", json!([])), INVALID),
            ("b64", with_header("b64", json!(false)), INVALID),
            ("an unknown member", with_header("x", json!({"y": [1]})), ACCEPTED),
            ("no typ", with_header("typ", Value::Null), ACCEPTED),
            ("OAuth", with_header("typ", json!("at+jwt")), MISTYPED),
            ("OAuth, spelled out", with_header("typ", json!("application/at+jwt")), MISTYPED),
            ("typ jwt", with_header("typ", json!("jwt")), INVALID),
            ("another typ", with_header("typ", json!("logout+jwt")), INVALID),
            ("typ is a number", with_header("typ", json!(1)), INVALID),
            ("no cat", with_header("cat", Value::Null), ACCEPTED),
            ("cat to ignore", with_header("cat", json!("cl_I7d4PD111III")), ACCEPTED),
            ("JWT template", with_header("cat", json!("cl_B7d4PD222AAA")), MISTYPED),
            ("machine", with_header("cat", json!("cl_B7d4PD333AAA")), MISTYPED),
            ("unknown cat", with_header("cat", json!("cl_B7d4PD444AAA")), MISTYPED),
            ("empty cat", with_header("cat", json!("")), MISTYPED),
            ("cat is a list", with_header("cat", json!(["cl_B7d4PD111AAA"])), MISTYPED),
        ],
    )
    .await;
}

#[tokio::test]
async fn keys_and_urls_in_a_token_are_never_used() {
    let attacker = JwksServer::start(&[SigningKey::rsa(1).clerk_jwk("evil")]).await;
    let issuer = JwksServer::start(&[SigningKey::rsa(0).clerk_jwk(&forge().kid)]).await;
    let auth = clerk(ClerkOptions { jwks_url: Some(issuer.jwks_url()), ..clerk_options() });
    let url = attacker.jwks_url();
    let forged = |name: &str, value: Value| {
        let mut forge = forge();
        forge.key = SigningKey::rsa(1).clone();
        forge.token_with(|header, _| set(header, name, value))
    };
    let own_key = SigningKey::rsa(1).jwk(&forge().kid);
    for (name, token, expected) in [
        ("jku", forged("jku", json!(url)), SIGNATURE),
        ("x5u", forged("x5u", json!(url)), SIGNATURE),
        ("jwk", forged("jwk", own_key), SIGNATURE),
        ("x5c", forged("x5c", json!([SigningKey::rsa(1).public_base64()])), SIGNATURE),
        ("kid is a URL", forged("kid", json!(url)), NO_SUCH_KEY),
        ("kid is a path", forged("kid", json!("../../../../dev/null")), NO_SUCH_KEY),
        ("kid is SQL", forged("kid", json!("x' UNION SELECT 'key';--")), NO_SUCH_KEY),
        ("kid is a prototype", forged("kid", json!("__proto__")), NO_SUCH_KEY),
        ("a valid token that names the URL", with_header("jku", json!(url)), ACCEPTED),
    ] {
        check(name, &auth, &bearer(&token), expected).await;
    }
    for path in ["/.well-known/jwks.json", "/.well-known/openid-configuration", "/"] {
        assert_eq!(attacker.requests_at(path), 0, "{path}");
    }
    // The first fetch, and the one that the first bad signature caused.
    assert_eq!(issuer.requests(), 2);

    let foreign = forge().token_with(|_, claims| set(claims, "iss", json!(attacker.issuer())));
    check("iss is a URL", &auth, &bearer(&foreign), FOREIGN).await;
    assert_eq!(attacker.requests() + issuer.requests(), 2, "an unknown issuer costs no fetch");
}
