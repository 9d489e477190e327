//! Rules for the claims of a Clerk token, and what the response reveals if one is broken.
//!
//! Not here: the form of a token (`tokens`).

use std::time::Duration;

use serde_json::{Value, json};
use vaultsync_server::auth::{ClerkOptions, Issuer};
use vaultsync_testkit::forge::SigningKey;

use crate::{
    ACCEPTED, AUDIENCE, EARLY, EXPIRED, FAILED, FOREIGN, FROM_THE_FUTURE, IMPERSONATED, ISSUER,
    NOT_A_SESSION, PARTY, PENDING, SIGNATURE, authenticator, bearer, check, check_all, clerk,
    clerk_options_with_key, clock, forge, set, with_claim, with_header,
};

#[tokio::test]
async fn claims_must_be_present_and_of_their_type() {
    let long = |chars: usize| json!("\u{e4}".repeat(chars));
    check_all(
        &clerk(clerk_options_with_key()),
        vec![
            ("no iss", with_claim("iss", Value::Null), FOREIGN),
            ("iss of another", with_claim("iss", json!("https://clerk.example.org")), FOREIGN),
            ("iss with a slash", with_claim("iss", json!("https://clerk.example.com/")), FOREIGN),
            ("iss in capitals", with_claim("iss", json!("https://CLERK.example.com")), FOREIGN),
            ("iss is a list", with_claim("iss", json!([ISSUER])), FOREIGN),
            ("iss is a number", with_claim("iss", json!(1)), FOREIGN),
            ("iss is empty", with_claim("iss", json!("")), FOREIGN),
            ("no sub", with_claim("sub", Value::Null), FAILED),
            ("sub is empty", with_claim("sub", json!("")), FAILED),
            ("sub is a number", with_claim("sub", json!(1)), FAILED),
            ("sub is a list", with_claim("sub", json!(["user_2someone"])), FAILED),
            ("sub of 255", with_claim("sub", long(255)), ACCEPTED),
            ("sub of 256", with_claim("sub", long(256)), FAILED),
            ("sub with NUL", with_claim("sub", json!("user_\0")), FAILED),
            ("sub of a machine", with_claim("sub", json!("mch_2machine")), NOT_A_SESSION),
            ("no sid", with_claim("sid", Value::Null), NOT_A_SESSION),
            ("sid is empty", with_claim("sid", json!("")), FAILED),
            ("sid is a number", with_claim("sid", json!(1)), FAILED),
            ("pending", with_claim("sts", json!("pending")), PENDING),
            ("no sts", with_claim("sts", Value::Null), ACCEPTED),
            ("sts is a number", with_claim("sts", json!(1)), FAILED),
            ("no azp", with_claim("azp", Value::Null), ACCEPTED),
            ("no nbf", with_claim("nbf", Value::Null), ACCEPTED),
            ("nbf is a string", with_claim("nbf", json!("1800000000")), FAILED),
            ("no iat", with_claim("iat", Value::Null), ACCEPTED),
            ("iat is a bool", with_claim("iat", json!(true)), FAILED),
            ("no exp", with_claim("exp", Value::Null), FAILED),
            ("exp is a string", with_claim("exp", json!("1800000060")), FAILED),
            ("exp is a list", with_claim("exp", json!([1_800_000_060])), FAILED),
            ("exp is 1e308", with_claim("exp", json!(1e308)), FAILED),
            ("exp is -1e308", with_claim("exp", json!(-1e308)), FAILED),
            ("exp is the largest u64", with_claim("exp", json!(u64::MAX)), FAILED),
            ("exp is the largest i64", with_claim("exp", json!(i64::MAX)), FAILED),
            ("exp in milliseconds", with_claim("exp", json!(1_800_000_060_000_i64)), FAILED),
            ("exp is negative", with_claim("exp", json!(-1)), EXPIRED),
            ("exp is 0", with_claim("exp", json!(0)), EXPIRED),
            ("exp in the year 9999", with_claim("exp", json!(253_402_300_799_i64)), ACCEPTED),
            ("exp in the year 10000", with_claim("exp", json!(253_402_300_800_i64)), FAILED),
            ("aud is not checked", with_claim("aud", json!(1)), ACCEPTED),
            ("a mask beyond u64", with_claim("o", json!({"fpm": 1e30})), ACCEPTED),
            (
                "a token of version 1",
                forge().token_with(|_, claims| {
                    claims.remove("v");
                    claims.remove("o");
                    claims.insert("org_id".to_owned(), json!("org_2"));
                    claims.insert("org_permissions".to_owned(), json!(["org:a:read"]));
                }),
                ACCEPTED,
            ),
            ("act", with_claim("act", json!({"sub": "user_2admin"})), IMPERSONATED),
            ("act of an agent", with_claim("act", json!({"type": "agent"})), IMPERSONATED),
            ("act is a string", with_claim("act", json!("user_2admin")), IMPERSONATED),
            ("act is false", with_claim("act", json!(false)), IMPERSONATED),
            (
                "act in a pending session",
                forge().token_with(|_, claims| {
                    claims.insert("act".to_owned(), json!({}));
                    claims.insert("sts".to_owned(), json!("pending"));
                }),
                PENDING,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn impersonation_is_accepted_only_if_allowed() {
    let token = with_claim("act", json!({"sub": "user_2admin", "sid": "sess_2admin"}));
    let auth = clerk(ClerkOptions { allow_impersonation: true, ..clerk_options_with_key() });
    let principal = auth.authenticate(&bearer(&token)).await.expect("allowed");
    assert_eq!(&*principal.subject, "user_2someone");
}

#[tokio::test]
async fn a_bad_signature_hides_the_errors_of_the_claims() {
    let auth = clerk(ClerkOptions {
        authorized_parties: vec!["https://app.example.com".to_owned()],
        audience: vec!["vault".to_owned()],
        ..clerk_options_with_key()
    });
    for (name, claim, value) in [
        ("expired", "exp", json!(1)),
        ("early", "nbf", json!(1_900_000_000)),
        ("another party", "azp", json!("https://evil.example.com")),
        ("another audience", "aud", json!("other")),
        ("no subject", "sub", json!("")),
        ("pending", "sts", json!("pending")),
        ("impersonated", "act", json!({})),
    ] {
        let mut forge = forge();
        forge.key = SigningKey::rsa(1).clone();
        let token = forge.token_with(|_, claims| set(claims, claim, value));
        check(name, &auth, &bearer(&token), SIGNATURE).await;
    }
}

#[tokio::test]
async fn times_are_valid_up_to_the_skew_to_the_millisecond() {
    // (claim, its seconds from now, skew, the clock's milliseconds from now, expected result)
    let cases = [
        ("exp", json!(60), 5000, 64_999, ACCEPTED),
        ("exp", json!(60), 5000, 65_000, EXPIRED),
        ("exp", json!(60), 5000, 65_001, EXPIRED),
        ("exp", json!(60), 0, 59_999, ACCEPTED),
        ("exp", json!(60), 0, 60_000, EXPIRED),
        ("exp", json!(60), 60_000, 119_999, ACCEPTED),
        ("exp", json!(60), 60_000, 120_000, EXPIRED),
        ("exp", json!(60.5), 0, 60_499, ACCEPTED),
        ("exp", json!(60.5), 0, 60_500, EXPIRED),
        ("nbf", json!(10), 5000, 5000, ACCEPTED),
        ("nbf", json!(10), 5000, 4999, EARLY),
        ("nbf", json!(10), 0, 10_000, ACCEPTED),
        ("nbf", json!(10), 0, 9999, EARLY),
        ("iat", json!(10), 5000, 5000, ACCEPTED),
        ("iat", json!(10), 5000, 4999, FROM_THE_FUTURE),
        ("iat", json!(10), 0, 10_000, ACCEPTED),
        ("iat", json!(10), 0, 9999, FROM_THE_FUTURE),
    ];
    for (claim, after, skew, moved, expected) in cases {
        let clock = clock();
        let options =
            ClerkOptions { clock_skew: Duration::from_millis(skew), ..clerk_options_with_key() };
        let auth = authenticator(vec![Issuer::clerk(options).expect("valid settings")], &clock);
        let value = after.as_f64().expect("a number") + 1_800_000_000.0;
        let token = forge().token_with(|_, claims| {
            claims.remove("nbf");
            claims.remove("iat");
            claims.insert("exp".to_owned(), json!(1_800_001_000));
            claims.insert(claim.to_owned(), json!(value));
        });
        clock.step(moved);
        let name = format!("{claim} {after}s, skew {skew} ms, clock {moved} ms");
        check(&name, &auth, &bearer(&token), expected).await;
    }
}

#[tokio::test]
async fn only_authorized_parties_are_accepted() {
    let parties = || vec!["https://app.example.com".to_owned(), "http://localhost:3000".to_owned()];
    let strict = clerk(ClerkOptions { authorized_parties: parties(), ..clerk_options_with_key() });
    let lenient = clerk(ClerkOptions {
        authorized_parties: parties(),
        allow_missing_azp: true,
        ..clerk_options_with_key()
    });
    let open = clerk(ClerkOptions { allow_missing_azp: false, ..clerk_options_with_key() });
    for (azp, expected_strict, expected_lenient) in [
        (json!("https://app.example.com"), ACCEPTED, ACCEPTED),
        (json!("http://localhost:3000"), ACCEPTED, ACCEPTED),
        (Value::Null, PARTY, ACCEPTED),
        (json!(""), PARTY, PARTY),
        (json!("https://evil.example.com"), PARTY, PARTY),
        (json!("https://app.example.com/"), PARTY, PARTY),
        (json!("https://APP.example.com"), PARTY, PARTY),
        (json!("https://app.example.com.evil.example"), PARTY, PARTY),
        (json!("http://app.example.com"), PARTY, PARTY),
        (json!("null"), PARTY, PARTY),
        (json!(1), PARTY, PARTY),
        (json!(["https://app.example.com"]), PARTY, PARTY),
    ] {
        let name = format!("azp {azp}");
        let token = bearer(&with_claim("azp", azp));
        check(&name, &strict, &token, expected_strict).await;
        check(&name, &lenient, &token, expected_lenient).await;
        check(&name, &open, &token, ACCEPTED).await;
    }
    let null = forge().token_with(|_, claims| {
        claims.insert("azp".to_owned(), Value::Null);
    });
    check("azp is null, not absent", &lenient, &bearer(&null), PARTY).await;
}

#[tokio::test]
async fn a_clerk_audience_is_checked_if_both_sides_name_one() {
    let audience = vec!["vault".to_owned(), "vault-2".to_owned()];
    check_all(
        &clerk(ClerkOptions { audience, ..clerk_options_with_key() }),
        vec![
            ("no aud", forge().token(), ACCEPTED),
            ("ours", with_claim("aud", json!("vault")), ACCEPTED),
            ("ours in a list", with_claim("aud", json!(["other", "vault-2"])), ACCEPTED),
            ("another", with_claim("aud", json!("other")), AUDIENCE),
            ("others", with_claim("aud", json!(["other", "vault-3"])), AUDIENCE),
            ("empty list", with_claim("aud", json!([])), AUDIENCE),
            ("empty", with_claim("aud", json!("")), AUDIENCE),
            ("a number", with_claim("aud", json!(1)), FAILED),
            ("a list with a number", with_claim("aud", json!(["vault", 1])), FAILED),
        ],
    )
    .await;
}

#[tokio::test]
async fn clerk_issuer_sets_the_required_iss() {
    let auth = clerk(ClerkOptions {
        issuer: Some("https://example.com/__clerk".to_owned()),
        ..clerk_options_with_key()
    });
    let proxied = with_claim("iss", json!("https://example.com/__clerk"));
    check("the proxy's", &auth, &bearer(&proxied), ACCEPTED).await;
    check("the host's", &auth, &bearer(&forge().token()), FOREIGN).await;
}

#[tokio::test]
async fn without_issuers_no_token_is_accepted() {
    let auth = authenticator(Vec::new(), &clock());
    check("no issuer", &auth, &bearer(&forge().token()), FOREIGN).await;
    assert!(auth.ready().await.is_err());
}

#[tokio::test]
async fn the_challenge_contains_the_reason_only_if_the_issuer_signed() {
    let auth = clerk(clerk_options_with_key());
    for (token, expected) in [
        (None, r#"Bearer realm="sync""#),
        (Some("a.b.c".to_owned()), r#"Bearer realm="sync", error="invalid_token""#),
        (Some(with_header("kid", json!(1))), r#"Bearer realm="sync", error="invalid_token""#),
        (
            Some(with_claim("exp", json!(1))),
            r#"Bearer realm="sync", error="invalid_token", error_description="token-expired""#,
        ),
        (
            Some(with_claim("sts", json!("pending"))),
            r#"Bearer realm="sync", error="invalid_token", error_description="session-pending""#,
        ),
        (Some(with_claim("act", json!({}))), r#"Bearer realm="sync", error="insufficient_scope""#),
    ] {
        let headers = token.as_deref().map(bearer).unwrap_or_default();
        let error = auth.authenticate(&headers).await.expect_err("rejected");
        assert_eq!(error.www_authenticate().as_deref(), Some(expected));
    }
}
