//! Whose tokens are accepted.

use super::super::sign_in::{OidcAlgorithm, SignIn};
use super::{PK_LIVE, PK_TEST, check, check_loaded, refusal};

/// A public key, for its form only.
pub(super) const PEM: &str = "-----BEGIN PUBLIC KEY-----\nAAECAwQF\n-----END PUBLIC KEY-----\n";

const OIDC: &str = "oidc_issuer = 'https://id.example'\noidc_audience = 'vault'\n";

fn sign_in(toml: &str) -> SignIn {
    check(&[], &[], toml).expect("valid settings").sign_in
}

fn clerk(rest: &str) -> String {
    format!("clerk_publishable_key = '{PK_TEST}'\n{rest}")
}

#[test]
fn the_local_issuer_is_on_where_nothing_else_is_set_or_where_it_is_said() {
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
fn settings_of_sign_in_that_do_not_fit_together_are_refused() {
    let live = format!("clerk_publishable_key = '{PK_LIVE}'\nlocal_issuer = true");
    for (toml, key, what) in [
        ("listen = '0.0.0.0:80'", "local_issuer (", "say --local-issuer"),
        ("local_issuer = false", "local_issuer (", "nobody could sign in"),
        (&live, "local_issuer (", "refused beside a pk_live_ key"),
        ("oidc_issuer = 'https://id.example'", "oidc_audience (", "is needed"),
        ("oidc_audience = 'x'", "oidc_audience (", "without oidc_issuer"),
        ("oidc_algorithms = ['ES256']", "oidc_algorithms (", "without oidc_issuer"),
        ("clerk_audience = 'x'", "clerk_audience (", "has no effect without"),
        ("clerk_allow_missing_azp = true", "clerk_allow_missing_azp (", "has no effect"),
        ("clerk_clock_skew_ms = 1", "clerk_clock_skew_ms (", "has no effect"),
        (&format!("clerk_jwt_key = '''{PEM}'''"), "clerk_jwt_key (", "has no effect"),
        (&format!("{OIDC}oidc_algorithms = []"), "oidc_algorithms (", "at least one"),
    ] {
        let said = refusal(&[], &[], toml);
        assert!(said.contains(key) && said.contains(what), "{toml}: {said}");
        assert_eq!(said.lines().count(), 2, "one problem: {said}");
    }
}

#[test]
fn values_of_sign_in_that_do_not_fit_are_refused() {
    for (toml, what) in [
        ("clerk_publishable_key = 'sk_test_x'", "not the secret key"),
        ("clerk_publishable_key = 'x'", "expected a publishable key"),
        ("clerk_publishable_key = 'pk_test_!!!'", "damaged"),
        ("clerk_publishable_key = 'pk_test_Y2xlcmsuZXhhbXBsZS5jb20'", "damaged"),
        ("clerk_issuer = 'http://clerk.example.com'", "https:// URL"),
        ("clerk_issuer = 'clerk.example.com'", "https:// URL"),
        ("clerk_issuer = 'https://u:p@clerk.example.com'", "a user or a password"),
        ("clerk_issuer = 'https://clerk.example.com?x=1'", "a query"),
        (&clerk("clerk_clock_skew_ms = 60001"), "from 0 to 60000"),
        (&clerk("clerk_jwt_key = 'x'"), "public keys in PEM"),
        (&clerk("clerk_authorized_parties = ['https://a.example/']"), "write `https://a.example`"),
        (&clerk("clerk_allow_missing_azp = 'perhaps'"), "`true` or `false`"),
        (&format!("{OIDC}oidc_algorithms = ['HS256']"), "expected RS256, PS256"),
        (&format!("{OIDC}oidc_jwks_url = 'ftp://x'"), "https:// URL"),
    ] {
        let said = refusal(&[], &[], toml);
        assert!(said.contains(what), "{toml}: {said}");
        assert_eq!(said.lines().count(), 2, "one problem: {said}");
    }
}

#[test]
fn a_private_key_is_refused_and_not_shown() {
    let key = PEM.replace("PUBLIC", "PRIVATE");
    let said = refusal(&[("CLERK_JWT_KEY", &key)], &[("clerk_publishable_key", PK_TEST)], "");
    assert!(said.contains("not a PRIVATE KEY") && !said.contains("AAECAwQF"), "{said}");
}

#[test]
fn issuer_and_key_url_follow_from_the_publishable_key() {
    let found = sign_in(&clerk("")).clerk.expect("Clerk is set");
    assert_eq!(found.issuer, "https://clerk.example.com");
    assert_eq!(found.jwks_url.as_deref(), Some("https://clerk.example.com/.well-known/jwks.json"));
    assert_eq!(found.clock_skew.as_millis(), 5000);

    let proxied = sign_in(&clerk("clerk_issuer = 'https://app.example/__clerk'"));
    let proxied = proxied.clerk.expect("Clerk is set");
    assert_eq!(proxied.issuer, "https://app.example/__clerk");
    assert_eq!(proxied.jwks_url, found.jwks_url);

    let local = sign_in("clerk_issuer = 'http://127.0.0.1:4000/'").clerk;
    let local = local.expect("Clerk is set");
    assert_eq!(local.issuer, "http://127.0.0.1:4000/");
    assert_eq!(local.jwks_url.as_deref(), Some("http://127.0.0.1:4000/.well-known/jwks.json"));
}

#[test]
fn keys_are_read_in_every_form_in_which_people_keep_them() {
    let two = format!("{PEM}{PEM}");
    let escaped = PEM.replace('\n', "\\n");
    let windows = PEM.replace('\n', "\r\n");
    for (text, count) in
        [(PEM, 1), (two.as_str(), 2), (escaped.as_str(), 1), (windows.as_str(), 1), ("AAECAwQF", 1)]
    {
        let env = &[("CLERK_JWT_KEY", text), ("CLERK_PUBLISHABLE_KEY", PK_TEST)];
        let clerk = check(env, &[], "").expect("valid settings").sign_in.clerk;
        let clerk = clerk.expect("Clerk is set");
        assert_eq!(clerk.jwt_keys.len(), count, "{text}");
        assert_eq!(clerk.jwks_url, None, "keys that are given are not fetched");
        for key in clerk.jwt_keys {
            assert_eq!(key.replace("\r\n", "\n"), PEM);
        }
    }
    let array = sign_in(&clerk(&format!("clerk_jwt_key = ['''{PEM}''', '''{PEM}''']")));
    assert_eq!(array.clerk.expect("Clerk is set").jwt_keys.len(), 2);
}

#[test]
fn oidc_is_read() {
    let oidc = sign_in(&format!("{OIDC}oidc_algorithms = 'ES256,EdDSA'")).oidc;
    let oidc = oidc.expect("OpenID Connect is set");
    assert_eq!(oidc.issuer, "https://id.example");
    assert_eq!(oidc.audience, ["vault"]);
    assert_eq!(oidc.algorithms, [OidcAlgorithm::Es256, OidcAlgorithm::EdDsa]);
    assert_eq!(oidc.jwks_url, None);
}

#[test]
fn clerk_without_authorized_parties_warns() {
    for (toml, warnings) in [
        (clerk(""), 1),
        (clerk("clerk_authorized_parties = 'https://a.example'"), 0),
        (String::new(), 0),
    ] {
        let loaded = check_loaded(&[], &[], &toml).expect("valid settings");
        assert_eq!(loaded.warnings.len(), warnings, "{:?}", loaded.warnings);
    }
}
