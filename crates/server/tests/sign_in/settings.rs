//! Settings of issuers, and the errors about invalid ones.
//!
//! Not here: tokens (`tokens`).

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use vaultsync_server::auth::{
    ClerkOptions, Issuer, LOCAL_ISSUER, LocalKey, LocalKeyError, OidcOptions,
};
use vaultsync_server::secret_file::SecretFileError;
use vaultsync_testkit::forge::{ClerkForge, SigningKey, publishable_key};

use crate::{ISSUER, NOW, authenticator, bearer, clerk_options, clock};

fn oidc() -> OidcOptions {
    OidcOptions {
        issuer: "https://id.example.com/realms/home".to_owned(),
        audience: vec!["vault".to_owned()],
        ..OidcOptions::default()
    }
}

fn list(items: &[&str]) -> Vec<String> {
    items.iter().map(|&item| item.to_owned()).collect()
}

fn with_publishable_key(key: &str) -> ClerkOptions {
    ClerkOptions { publishable_key: Some(key.to_owned()), ..ClerkOptions::default() }
}

fn with_issuer(issuer: &str) -> ClerkOptions {
    ClerkOptions { issuer: Some(issuer.to_owned()), ..clerk_options() }
}

fn with_jwks_url(url: &str) -> ClerkOptions {
    ClerkOptions { jwks_url: Some(url.to_owned()), ..clerk_options() }
}

fn with_jwt_key(key: &str) -> ClerkOptions {
    ClerkOptions { jwt_keys: list(&[key]), ..clerk_options() }
}

fn with_authorized_party(party: &str) -> ClerkOptions {
    ClerkOptions { authorized_parties: list(&[party]), ..clerk_options() }
}

#[test]
fn an_error_names_the_invalid_clerk_setting() {
    let private = SigningKey::rsa(0).private_pem();
    let secret = private.lines().nth(1).expect("a line of the key").to_owned();
    let pem = SigningKey::rsa(0).public_pem();
    let cases: Vec<(&str, ClerkOptions)> = vec![
        ("CLERK_PUBLISHABLE_KEY", ClerkOptions::default()),
        ("CLERK_PUBLISHABLE_KEY", with_publishable_key("sk_test_abc")),
        ("CLERK_PUBLISHABLE_KEY", with_publishable_key(&publishable_key("127.0.0.1:80/x"))),
        ("CLERK_ISSUER", with_issuer("clerk.example.com")),
        ("CLERK_ISSUER", with_issuer("http://example.com")),
        ("CLERK_ISSUER", with_issuer("https://example.com/?a")),
        ("CLERK_ISSUER", with_issuer(" https://example.com")),
        ("CLERK_ISSUER", with_issuer(LOCAL_ISSUER)),
        ("CLERK_JWKS_URL", with_jwks_url("http://example.com/k")),
        ("CLERK_JWKS_URL", with_jwks_url("https://u:p@example.com")),
        ("CLERK_JWKS_URL", with_jwks_url("file:///etc/passwd")),
        ("CLERK_JWT_KEY", with_jwt_key("")),
        ("CLERK_JWT_KEY", with_jwt_key("not base64!")),
        ("CLERK_JWT_KEY", with_jwt_key("YWJj")),
        ("CLERK_JWT_KEY", with_jwt_key(&private)),
        ("CLERK_JWT_KEY", with_jwt_key(&SigningKey::p256().public_pem())),
        ("CLERK_JWT_KEY", with_jwt_key(&SigningKey::ed25519().public_pem())),
        ("CLERK_JWT_KEY", with_jwt_key(&format!("{pem}and more"))),
        ("CLERK_JWT_KEY", with_jwt_key(&pem[..200])),
        ("CLERK_JWT_KEY", with_jwt_key(RSA_1024)),
        ("CLERK_AUTHORIZED_PARTIES", with_authorized_party("")),
        ("CLERK_AUTHORIZED_PARTIES", with_authorized_party("https://app.example.com/")),
        ("CLERK_AUTHORIZED_PARTIES", with_authorized_party("https://*.example.com")),
        ("CLERK_AUDIENCE", ClerkOptions { audience: list(&["vault", ""]), ..clerk_options() }),
        (
            "CLERK_CLOCK_SKEW_MS",
            ClerkOptions { clock_skew: Duration::from_millis(60_001), ..clerk_options() },
        ),
    ];
    for (setting, options) in cases {
        let shown = format!("{options:?}");
        let error = Issuer::clerk(options).expect_err(&shown);
        assert_eq!(error.setting(), setting, "{shown}");
        assert!(error.to_string().starts_with(setting), "{error}");
        assert!(!error.to_string().contains(&secret), "{error}");
    }
}

#[test]
fn an_error_names_the_invalid_oidc_setting() {
    for (setting, options) in [
        ("VAULTSYNC_OIDC_ISSUER", OidcOptions::default()),
        ("VAULTSYNC_OIDC_ISSUER", OidcOptions { issuer: "http://id.example.com".into(), ..oidc() }),
        ("VAULTSYNC_OIDC_ISSUER", OidcOptions { issuer: LOCAL_ISSUER.into(), ..oidc() }),
        (
            "VAULTSYNC_OIDC_CLOCK_SKEW_MS",
            OidcOptions { clock_skew: Duration::from_millis(60_001), ..oidc() },
        ),
        ("VAULTSYNC_OIDC_AUDIENCE", OidcOptions { audience: Vec::new(), ..oidc() }),
        ("VAULTSYNC_OIDC_AUDIENCE", OidcOptions { audience: list(&[" "]), ..oidc() }),
        (
            "VAULTSYNC_OIDC_JWKS_URL",
            OidcOptions { jwks_url: Some("http://10.0.0.1/k".to_owned()), ..oidc() },
        ),
        ("VAULTSYNC_OIDC_ALGORITHMS", OidcOptions { algorithms: list(&["HS256"]), ..oidc() }),
        ("VAULTSYNC_OIDC_ALGORITHMS", OidcOptions { algorithms: list(&["none"]), ..oidc() }),
        ("VAULTSYNC_OIDC_ALGORITHMS", OidcOptions { algorithms: list(&["rs256"]), ..oidc() }),
    ] {
        let shown = format!("{options:?}");
        let error = Issuer::oidc(options).expect_err(&shown);
        assert_eq!(error.setting(), setting, "{shown}");
    }
}

#[test]
fn valid_settings_are_accepted() {
    for options in [
        clerk_options(),
        ClerkOptions {
            issuer: Some("https://example.com/__clerk".to_owned()),
            ..ClerkOptions::default()
        },
        ClerkOptions { clock_skew: Duration::from_mins(1), ..clerk_options() },
        ClerkOptions { clock_skew: Duration::ZERO, ..clerk_options() },
        with_jwks_url("http://localhost:4000/k"),
        with_authorized_party("chrome-extension://abcdef"),
    ] {
        let shown = format!("{options:?}");
        Issuer::clerk(options).expect(&shown);
    }
    let all = list(&["RS256", "PS256", "ES256", "EdDSA"]);
    let issuer = Issuer::oidc(OidcOptions { algorithms: all, ..oidc() }).expect("valid settings");
    assert_eq!(issuer.name(), "https://id.example.com/realms/home");
}

#[tokio::test]
async fn a_configured_key_may_have_several_forms() {
    let (first, second) = (SigningKey::rsa(0), SigningKey::rsa(1));
    let pem = first.public_pem();
    for (name, count, keys) in [
        ("PEM", 1, vec![pem.clone()]),
        ("PEM with CRLF", 1, vec![pem.replace('\n', "\r\n")]),
        ("PEM with literal line ends", 1, vec![pem.replace('\n', "\\n")]),
        ("PEM in one line", 1, vec![pem.replace('\n', " ")]),
        ("PEM between spaces", 1, vec![format!("  {pem}  ")]),
        ("base64", 1, vec![first.public_base64()]),
        ("base64 in lines", 1, vec![pem.lines().filter(|l| !l.starts_with('-')).collect()]),
        ("two in one", 2, vec![format!("{}{pem}", second.public_pem())]),
        ("two in one line", 2, vec![format!("{}{pem}", second.public_pem()).replace('\n', "\\n")]),
        ("two", 2, vec![second.public_pem(), pem.clone()]),
    ] {
        let issuer = Issuer::clerk(ClerkOptions { jwt_keys: keys, ..clerk_options() }).expect(name);
        assert_eq!(issuer.keys_in_settings(), count, "{name}");
        let auth = authenticator(vec![issuer], &clock());
        let token = ClerkForge::new(ISSUER, first, NOW).token();
        assert!(auth.authenticate(&bearer(&token)).await.is_ok(), "{name}");
        let forged = ClerkForge::new(ISSUER, SigningKey::rsa(2), NOW).token();
        assert!(auth.authenticate(&bearer(&forged)).await.is_err(), "{name}");
        assert_eq!(auth.ready().await, Ok(()), "{name}");
    }
}

fn key_file(folder: &Path) -> std::path::PathBuf {
    folder.join("local-issuer.key")
}

#[test]
fn the_local_key_is_created_once_and_loaded_afterwards() {
    let folder = tempfile::tempdir().expect("a folder");
    LocalKey::load_or_create(folder.path()).expect("created");
    let text = fs::read_to_string(key_file(folder.path())).expect("written");
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let first = LocalKey::load_or_create(folder.path()).expect("loaded");
    let second = LocalKey::load_or_create(folder.path()).expect("loaded");
    assert_eq!(fs::read_to_string(key_file(folder.path())).expect("still there"), text);
    assert_eq!(mint(&first), mint(&second), "Ed25519 signatures are deterministic");
    let names: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(names.len(), 1, "no temporary file is left");
    assert!(!format!("{first:?}").contains(text.lines().nth(1).expect("the key")));
}

fn mint(key: &LocalKey) -> String {
    key.mint("ada", NOW, Duration::from_mins(1)).expect("a token")
}

#[test]
fn concurrent_creations_of_the_local_key_get_the_same_key() {
    const CREATORS: usize = 16;
    let folder = tempfile::tempdir().expect("a folder");
    let start = Barrier::new(CREATORS);
    let tokens: Vec<String> = std::thread::scope(|scope| {
        let creators: Vec<_> = (0..CREATORS)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    mint(&LocalKey::load_or_create(folder.path()).expect("a key"))
                })
            })
            .collect();
        creators.into_iter().map(|creator| creator.join().expect("no panic")).collect()
    });
    assert!(tokens.iter().all(|token| *token == tokens[0]));
}

#[cfg(unix)]
#[test]
fn the_local_key_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    LocalKey::load_or_create(folder.path()).expect("created");
    let path = key_file(folder.path());
    let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    for mode in [0o640, 0o604, 0o660, 0o644, 0o610, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .expect("the test owns the file");
        let error = LocalKey::load_or_create(folder.path()).expect_err("exposed");
        assert!(matches!(error, LocalKeyError::File(SecretFileError::Exposed { .. })), "{error}");
        assert!(error.to_string().contains(&format!("{mode:03o}")), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("the test owns the file");
    LocalKey::load_or_create(folder.path()).expect("the owner may read");
}

#[test]
fn a_file_that_is_not_a_key_is_rejected_and_kept() {
    for content in
        ["", "key", &SigningKey::p256().private_pem(), &SigningKey::ed25519().public_pem()]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let path = key_file(folder.path());
        fs::write(&path, content).expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                .expect("the test owns the file");
        }
        let error = LocalKey::load_or_create(folder.path()).expect_err("no key");
        assert!(matches!(error, LocalKeyError::NotAKey { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("still there"), content);
    }
    let missing = tempfile::tempdir().expect("a folder").path().join("gone");
    let error = LocalKey::load_or_create(&missing).expect_err("no folder");
    assert!(matches!(error, LocalKeyError::File(SecretFileError::Io { .. })), "{error}");
}

#[test]
fn a_local_token_has_a_valid_user_and_lifetime() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = LocalKey::load_or_create(folder.path()).expect("created");
    let minute = Duration::from_mins(1);
    for (user, ttl, valid) in [
        ("ada", minute, true),
        (&"\u{e4}".repeat(255), minute, true),
        (&"a".repeat(256), minute, false),
        ("", minute, false),
        ("a\0b", minute, false),
        ("ada", Duration::from_secs(1), true),
        ("ada", Duration::from_millis(999), false),
        ("ada", Duration::ZERO, false),
        ("ada", Duration::MAX, false),
        ("ada", Duration::from_secs(300_000_000_001), false),
    ] {
        assert_eq!(key.mint(user, NOW, ttl).is_ok(), valid, "{user} {ttl:?}");
    }
}

/// RSA public key of 1024 bits, which is too short to be accepted.
const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDAfGjKt+KbzjaOxodVE2hpXuNe
a2CT0Hx52lv2xYIHMze40YJWo6DBd/Yt+PxylVodYJgF2FYaEaepTTffkxDuZbAX
ebSGYdlK7J7XOR63bi0mzBJmksLal+k3K9ktln9Ccm1tUY7VvtQz43a13iAzldPB
eGcEZeX6aC3bdLp4EwIDAQAB
-----END PUBLIC KEY-----";
