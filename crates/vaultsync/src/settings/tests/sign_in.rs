//! Issuers whose tokens are accepted.

use super::super::in_force;
use super::super::sign_in::SignIn;
use super::{PK_LIVE, PK_TEST, errors_from, load_from, settings_from};

/// A public key whose private key was not kept.
pub(super) const PEM: &str = include_str!("public_key.pem");

const OIDC: &str = "oidc_issuer = 'https://id.example'\noidc_audience = 'vault'\n";

fn sign_in(toml: &str) -> SignIn {
    settings_from(&[], &[], toml).expect("valid settings").sign_in
}

fn clerk(rest: &str) -> String {
    format!("clerk_publishable_key = '{PK_TEST}'\n{rest}")
}

#[test]
fn the_local_issuer_is_on_by_itself_only_without_another_issuer() {
    for (toml, local) in [
        (String::new(), true),
        (clerk(""), false),
        (OIDC.to_owned(), false),
        (clerk("local_issuer = true"), true),
        (format!("{OIDC}local_issuer = true"), true),
        ("local_issuer = true\nlisten = '0.0.0.0:80'".to_owned(), true),
        ("listen = '[::1]:80'".to_owned(), true),
        (format!("{OIDC}listen = '0.0.0.0:80'"), false),
    ] {
        assert_eq!(sign_in(&toml).local, local, "{toml}");
    }
}

#[test]
fn contradicting_settings_of_sign_in_are_refused() {
    let live = format!("clerk_publishable_key = '{PK_LIVE}'\nlocal_issuer = true");
    for (toml, key, what) in [
        ("listen = '0.0.0.0:80'", "local_issuer (", "set --local-issuer"),
        ("local_issuer = false", "local_issuer (", "no sign-in is left"),
        (&live, "local_issuer (", "cannot be combined with a pk_live_ key"),
        ("oidc_issuer = 'https://id.example'", "oidc_audience (", "missing"),
        ("oidc_audience = 'x'", "oidc_audience (", "without oidc_issuer"),
        ("oidc_algorithms = ['ES256']", "oidc_algorithms (", "without oidc_issuer"),
        ("oidc_clock_skew_ms = 1", "oidc_clock_skew_ms (", "without oidc_issuer"),
        ("clerk_audience = 'x'", "clerk_audience (", "has no effect without"),
        ("clerk_allow_missing_azp = true", "clerk_allow_missing_azp (", "has no effect"),
        ("clerk_clock_skew_ms = 1", "clerk_clock_skew_ms (", "has no effect"),
        (&format!("clerk_jwt_key = '''{PEM}'''"), "clerk_jwt_key (", "has no effect"),
        (&format!("{OIDC}oidc_algorithms = []"), "oidc_algorithms (", "at least one"),
    ] {
        let message = errors_from(&[], &[], toml);
        assert!(message.contains(key) && message.contains(what), "{toml}: {message}");
        assert_eq!(message.lines().count(), 2, "one error: {message}");
    }
}

#[test]
fn invalid_values_of_sign_in_are_refused() {
    for (toml, what) in [
        ("clerk_publishable_key = 'sk_test_x'", "it is a secret key"),
        ("clerk_publishable_key = 'x'", "does not begin with pk_test_"),
        ("clerk_publishable_key = 'pk_test_!!!'", "is not base64"),
        ("clerk_publishable_key = 'pk_test_Y2xlcmsuZXhhbXBsZS5jb20'", "the name of a host"),
        ("clerk_issuer = 'http://clerk.example.com'", "use https"),
        ("clerk_issuer = 'clerk.example.com'", "URL"),
        ("clerk_issuer = 'https://u:p@clerk.example.com'", "password"),
        ("clerk_issuer = 'https://clerk.example.com?x=1'", "a query"),
        (&clerk("clerk_clock_skew_ms = 60001"), "from 0 to 60000"),
        (&clerk("clerk_jwt_key = 'x'"), "key 1: "),
        (&clerk("clerk_authorized_parties = ['https://a.example/']"), "write `https://a.example`"),
        (&clerk("clerk_allow_missing_azp = 'perhaps'"), "`true` or `false`"),
        (&format!("{OIDC}oidc_algorithms = ['HS256']"), "use RS256, PS256"),
        (&format!("{OIDC}oidc_clock_skew_ms = 60001"), "from 0 to 60000"),
        (&format!("{OIDC}oidc_clock_skew_ms = -1"), "a whole number, not `-1`"),
        (&format!("{OIDC}oidc_jwks_url = 'ftp://x'"), "https"),
    ] {
        let message = errors_from(&[], &[], toml);
        assert!(message.contains(what), "{toml}: {message}");
        assert_eq!(message.lines().count(), 2, "one error: {message}");
    }
}

#[test]
fn a_private_key_is_refused_and_not_shown() {
    let key = PEM.replace("PUBLIC", "PRIVATE");
    let message =
        errors_from(&[("CLERK_JWT_KEY", &key)], &[("clerk_publishable_key", PK_TEST)], "");
    assert!(message.contains("it is a private key") && !message.contains("MIIB"), "{message}");
}

#[test]
fn issuer_and_key_url_follow_from_the_publishable_key() {
    let shown = |toml: &str| {
        in_force(&load_from(&[], &[], toml).expect("valid settings"))
            .lines()
            .filter(|line| line.starts_with("clerk_issuer") || line.starts_with("clerk_jwks_url"))
            .map(|line| line.split('"').nth(1).expect("a text").to_owned())
            .collect::<Vec<_>>()
    };
    let keys = "https://clerk.example.com/.well-known/jwks.json";
    assert_eq!(shown(&clerk("")), ["https://clerk.example.com", keys]);
    let proxied = clerk("clerk_issuer = 'https://app.example/__clerk'");
    assert_eq!(shown(&proxied), ["https://app.example/__clerk", keys]);
    assert_eq!(
        shown("clerk_issuer = 'http://127.0.0.1:4000/'"),
        ["http://127.0.0.1:4000/", "http://127.0.0.1:4000/.well-known/jwks.json"]
    );
}

#[test]
fn clerk_and_oidc_are_read() {
    let found = sign_in(&clerk("clerk_audience = 'a, b'\nclerk_clock_skew_ms = 7")).clerk.unwrap();
    assert_eq!(found.publishable_key.as_deref(), Some(PK_TEST));
    assert_eq!(found.audience, ["a", "b"]);
    assert_eq!(found.clock_skew.as_millis(), 7);
    let oidc = format!("{OIDC}oidc_algorithms = 'ES256,EdDSA'\noidc_clock_skew_ms = 30000");
    let oidc = sign_in(&oidc).oidc.unwrap();
    assert_eq!(oidc.clock_skew.as_secs(), 30);
    assert_eq!(sign_in(OIDC).oidc.unwrap().clock_skew.as_secs(), 5);
    assert_eq!(oidc.issuer, "https://id.example");
    assert_eq!(oidc.audience, ["vault"]);
    assert_eq!(oidc.algorithms, ["ES256", "EdDSA"]);
    assert_eq!(oidc.jwks_url, None);
}

#[test]
fn clerk_without_authorized_parties_causes_a_warning() {
    for (toml, warnings) in [
        (clerk(""), 1),
        (clerk("clerk_authorized_parties = 'https://a.example'"), 0),
        (String::new(), 0),
    ] {
        let loaded = load_from(&[], &[], &toml).expect("valid settings");
        assert_eq!(loaded.warnings.len(), warnings, "{:?}", loaded.warnings);
    }
}
