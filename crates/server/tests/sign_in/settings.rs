//! What an operator may configure an issuer with, and what is said about a mistake.
//!
//! Not here: the tokens (`tokens`).

use std::fs;
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use vaultsync_server::auth::{
    ClerkOptions, Issuer, LOCAL_ISSUER, LocalKey, LocalKeyError, OidcOptions,
};
use vaultsync_server::secret_file::SecretFileError;
use vaultsync_testkit::forge::{ClerkForge, SigningKey, publishable_key};

use crate::{ISSUER, NOW, authenticator, bearer, clock, instance};

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

#[test]
fn a_mistake_in_a_clerk_setting_is_named() {
    let private = SigningKey::rsa(0).private_pem();
    let secret = private.lines().nth(1).expect("a line of the key").to_owned();
    let pem = SigningKey::rsa(0).public_pem();
    let cases: Vec<(&str, ClerkOptions)> = vec![
        ("CLERK_PUBLISHABLE_KEY", ClerkOptions::default()),
        (
            "CLERK_PUBLISHABLE_KEY",
            ClerkOptions {
                publishable_key: Some("sk_test_abc".to_owned()),
                ..ClerkOptions::default()
            },
        ),
        (
            "CLERK_PUBLISHABLE_KEY",
            ClerkOptions {
                publishable_key: Some(publishable_key("127.0.0.1:80/x")),
                ..ClerkOptions::default()
            },
        ),
        (
            "CLERK_ISSUER",
            ClerkOptions { issuer: Some("clerk.example.com".to_owned()), ..instance() },
        ),
        (
            "CLERK_ISSUER",
            ClerkOptions { issuer: Some("http://example.com".to_owned()), ..instance() },
        ),
        (
            "CLERK_ISSUER",
            ClerkOptions { issuer: Some("https://example.com/?a".to_owned()), ..instance() },
        ),
        (
            "CLERK_ISSUER",
            ClerkOptions { issuer: Some(" https://example.com".to_owned()), ..instance() },
        ),
        ("CLERK_ISSUER", ClerkOptions { issuer: Some(LOCAL_ISSUER.to_owned()), ..instance() }),
        (
            "CLERK_JWKS_URL",
            ClerkOptions { jwks_url: Some("http://example.com/k".to_owned()), ..instance() },
        ),
        (
            "CLERK_JWKS_URL",
            ClerkOptions { jwks_url: Some("https://u:p@example.com".to_owned()), ..instance() },
        ),
        (
            "CLERK_JWKS_URL",
            ClerkOptions { jwks_url: Some("file:///etc/passwd".to_owned()), ..instance() },
        ),
        ("CLERK_JWT_KEY", ClerkOptions { jwt_keys: list(&[""]), ..instance() }),
        ("CLERK_JWT_KEY", ClerkOptions { jwt_keys: list(&["not base64!"]), ..instance() }),
        ("CLERK_JWT_KEY", ClerkOptions { jwt_keys: list(&["YWJj"]), ..instance() }),
        ("CLERK_JWT_KEY", ClerkOptions { jwt_keys: vec![private], ..instance() }),
        (
            "CLERK_JWT_KEY",
            ClerkOptions { jwt_keys: vec![SigningKey::p256().public_pem()], ..instance() },
        ),
        (
            "CLERK_JWT_KEY",
            ClerkOptions { jwt_keys: vec![SigningKey::ed25519().public_pem()], ..instance() },
        ),
        ("CLERK_JWT_KEY", ClerkOptions { jwt_keys: vec![format!("{pem}and more")], ..instance() }),
        ("CLERK_JWT_KEY", ClerkOptions { jwt_keys: vec![pem[..200].to_owned()], ..instance() }),
        ("CLERK_JWT_KEY", ClerkOptions { jwt_keys: list(&[RSA_1024]), ..instance() }),
        (
            "CLERK_AUTHORIZED_PARTIES",
            ClerkOptions { authorized_parties: list(&[""]), ..instance() },
        ),
        (
            "CLERK_AUTHORIZED_PARTIES",
            ClerkOptions { authorized_parties: list(&["https://app.example.com/"]), ..instance() },
        ),
        (
            "CLERK_AUTHORIZED_PARTIES",
            ClerkOptions { authorized_parties: list(&["https://*.example.com"]), ..instance() },
        ),
        ("CLERK_AUDIENCE", ClerkOptions { audience: list(&["vault", ""]), ..instance() }),
        (
            "CLERK_CLOCK_SKEW_MS",
            ClerkOptions { clock_skew: Duration::from_millis(60_001), ..instance() },
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
fn a_mistake_in_an_oidc_setting_is_named() {
    for (setting, options) in [
        ("VAULTSYNC_OIDC_ISSUER", OidcOptions::default()),
        ("VAULTSYNC_OIDC_ISSUER", OidcOptions { issuer: "http://id.example.com".into(), ..oidc() }),
        ("VAULTSYNC_OIDC_ISSUER", OidcOptions { issuer: LOCAL_ISSUER.into(), ..oidc() }),
        ("VAULTSYNC_OIDC_ISSUER", OidcOptions { clock_skew: Duration::from_secs(61), ..oidc() }),
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
fn good_settings_are_taken() {
    for options in [
        instance(),
        ClerkOptions {
            issuer: Some("https://example.com/__clerk".to_owned()),
            ..ClerkOptions::default()
        },
        ClerkOptions { clock_skew: Duration::from_mins(1), ..instance() },
        ClerkOptions { clock_skew: Duration::ZERO, ..instance() },
        ClerkOptions { jwks_url: Some("http://localhost:4000/k".to_owned()), ..instance() },
        ClerkOptions { authorized_parties: list(&["chrome-extension://abcdef"]), ..instance() },
    ] {
        let shown = format!("{options:?}");
        Issuer::clerk(options).expect(&shown);
    }
    let all = list(&["RS256", "PS256", "ES256", "EdDSA"]);
    let issuer = Issuer::oidc(OidcOptions { algorithms: all, ..oidc() }).expect("good");
    assert_eq!(issuer.name(), "https://id.example.com/realms/home");
}

#[tokio::test]
async fn a_written_down_key_may_come_in_many_forms() {
    let (first, second) = (SigningKey::rsa(0), SigningKey::rsa(1));
    let pem = first.public_pem();
    for (name, keys_in, keys) in [
        ("PEM", 1, vec![pem.clone()]),
        ("PEM with CRLF", 1, vec![pem.replace('\n', "\r\n")]),
        ("PEM with literal line ends", 1, vec![pem.replace('\n', "\\n")]),
        ("PEM in one line", 1, vec![pem.replace('\n', " ")]),
        ("PEM in quotes of spaces", 1, vec![format!("  {pem}  ")]),
        ("base64", 1, vec![first.public_base64()]),
        ("base64 in lines", 1, vec![pem.lines().filter(|l| !l.starts_with('-')).collect()]),
        ("two in one", 2, vec![format!("{}{pem}", second.public_pem())]),
        ("two in one line", 2, vec![format!("{}{pem}", second.public_pem()).replace('\n', "\\n")]),
        ("two", 2, vec![second.public_pem(), pem.clone()]),
    ] {
        let issuer = Issuer::clerk(ClerkOptions { jwt_keys: keys, ..instance() }).expect(name);
        assert_eq!(issuer.keys_in_settings(), keys_in, "{name}");
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
fn the_local_key_is_made_once_and_found_again() {
    let folder = tempfile::tempdir().expect("a folder");
    LocalKey::load_or_create(folder.path()).expect("made");
    let text = fs::read_to_string(key_file(folder.path())).expect("written");
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    let first = LocalKey::load_or_create(folder.path()).expect("found");
    let second = LocalKey::load_or_create(folder.path()).expect("found");
    assert_eq!(fs::read_to_string(key_file(folder.path())).expect("still there"), text);
    assert_eq!(mint(&first), mint(&second), "Ed25519 signs the same way each time");
    let names: Vec<_> = fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(names.len(), 1, "nothing is left of making it");
    assert!(!format!("{first:?}").contains(text.lines().nth(1).expect("the key")));
}

fn mint(key: &LocalKey) -> String {
    key.mint("ada", NOW, Duration::from_mins(1)).expect("a token")
}

#[test]
fn those_who_make_the_local_key_at_once_get_the_same_one() {
    const MAKERS: usize = 16;
    let folder = tempfile::tempdir().expect("a folder");
    let start = Barrier::new(MAKERS);
    let tokens: Vec<String> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..MAKERS)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    mint(&LocalKey::load_or_create(folder.path()).expect("a key"))
                })
            })
            .collect();
        makers.into_iter().map(|maker| maker.join().expect("no panic")).collect()
    });
    assert!(tokens.iter().all(|token| *token == tokens[0]));
}

#[cfg(unix)]
#[test]
fn the_local_key_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    LocalKey::load_or_create(folder.path()).expect("made");
    let path = key_file(folder.path());
    let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    for mode in [0o640, 0o604, 0o660, 0o644, 0o610, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        let error = LocalKey::load_or_create(folder.path()).expect_err("exposed");
        assert!(matches!(error, LocalKeyError::File(SecretFileError::Exposed { .. })), "{error}");
        assert!(error.to_string().contains(&format!("{mode:03o}")), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("it is ours");
    LocalKey::load_or_create(folder.path()).expect("the owner may read");
}

#[test]
fn what_is_no_local_key_is_refused_and_kept() {
    for content in
        ["", "key", &SigningKey::p256().private_pem(), &SigningKey::ed25519().public_pem()]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let path = key_file(folder.path());
        fs::write(&path, content).expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        }
        let error = LocalKey::load_or_create(folder.path()).expect_err("no key");
        assert!(matches!(error, LocalKeyError::NotAKey { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("still there"), content);
    }
    let nowhere = tempfile::tempdir().expect("a folder").path().join("gone");
    let error = LocalKey::load_or_create(&nowhere).expect_err("no folder");
    assert!(matches!(error, LocalKeyError::File(SecretFileError::Io { .. })), "{error}");
}

#[test]
fn a_local_token_is_for_somebody_and_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = LocalKey::load_or_create(folder.path()).expect("made");
    let minute = Duration::from_mins(1);
    for (user, ttl, good) in [
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
        assert_eq!(key.mint(user, NOW, ttl).is_ok(), good, "{user} {ttl:?}");
    }
}

/// A public key that is too short to be of use: RSA with 1024 bits.
const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDAfGjKt+KbzjaOxodVE2hpXuNe
a2CT0Hx52lv2xYIHMze40YJWo6DBd/Yt+PxylVodYJgF2FYaEaepTTffkxDuZbAX
ebSGYdlK7J7XOR63bi0mzBJmksLal+k3K9ktln9Ccm1tUY7VvtQz43a13iAzldPB
eGcEZeX6aC3bdLp4EwIDAQAB
-----END PUBLIC KEY-----";
