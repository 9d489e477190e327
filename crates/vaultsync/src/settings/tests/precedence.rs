//! Precedence: flags before environment before file before defaults.

use std::path::{Path, PathBuf};

use super::super::Database;
use super::{PK_TEST, errors_from, load_from, settings_from};

const ENV: &[(&str, &str)] = &[("VAULTSYNC_IDLE_SECONDS", "3")];
const FLAGS: &[(&str, &str)] = &[("idle_seconds", "4")];
const TOML: &str = "idle_seconds = 2";

#[test]
fn a_flag_overrides_a_variable_overrides_the_file_overrides_the_default() {
    for (env, flags, toml, seconds) in [
        (&[][..], &[][..], "", 60),
        (&[], &[], TOML, 2),
        (ENV, &[], TOML, 3),
        (ENV, FLAGS, TOML, 4),
        (&[], FLAGS, TOML, 4),
        (ENV, &[], "", 3),
    ] {
        let settings = settings_from(env, flags, toml).expect("valid settings");
        assert_eq!(settings.limits.idle_seconds.as_secs(), seconds);
    }
}

#[test]
fn a_list_is_comma_separated_or_an_array_or_a_repeated_flag() {
    let expected = ["https://a.example", "http://b.example:81"];
    let list = "https://a.example, http://b.example:81,";
    for (env, flags, toml) in [
        (&[("VAULTSYNC_CORS_ORIGINS", list)][..], &[][..], String::new()),
        (&[], &[("cors_origins", list)], String::new()),
        (&[], &[("cors_origins", expected[0]), ("cors_origins", expected[1])], String::new()),
        (&[], &[], format!("cors_origins = {expected:?}")),
        (&[], &[], format!("cors_origins = {list:?}")),
    ] {
        let settings = settings_from(env, flags, &toml).expect("valid settings");
        assert_eq!(settings.cors_origins, expected);
    }
}

#[test]
fn the_database_comes_from_the_first_source_that_names_one() {
    let own = ("VAULTSYNC_DATABASE", "sqlite:own");
    let shared = ("DATABASE_URL", "sqlite:///shared");
    let file = "database = 'sqlite:file'";
    for (env, flags, toml, path) in [
        (&[][..], &[][..], "", "./vaultsync-data/vaultsync.sqlite3"),
        (&[], &[], "data_dir = '/d'", "/d/vaultsync.sqlite3"),
        (&[], &[], file, "file"),
        (&[shared], &[], file, "/shared"),
        (&[shared, own], &[], file, "own"),
        (&[shared, own], &[("database", "sqlite:flag")], file, "flag"),
    ] {
        let settings = settings_from(env, flags, toml).expect("valid settings");
        assert_eq!(settings.database, Database::Sqlite(PathBuf::from(path)));
    }
}

#[test]
fn a_value_can_come_from_its_own_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("database");
    std::fs::write(&path, "sqlite:elsewhere\r\n").expect("a file in a temporary folder");
    let path = path.to_str().expect("a path in UTF-8");
    let elsewhere = Database::Sqlite(PathBuf::from("elsewhere"));

    for name in ["VAULTSYNC_DATABASE_FILE", "DATABASE_URL_FILE"] {
        let settings = settings_from(&[(name, path)], &[], "").expect("valid settings");
        assert_eq!(settings.database, elsewhere, "{name}");
    }
    let toml = format!("database_file = {path:?}");
    let settings = settings_from(&[], &[], &toml).expect("valid settings");
    assert_eq!(settings.database, elsewhere);
}

#[test]
fn a_value_and_its_file_cannot_both_be_set() {
    let env = &[("VAULTSYNC_DATABASE", "sqlite:a"), ("VAULTSYNC_DATABASE_FILE", "/b")];
    assert!(errors_from(env, &[], "").contains("are both set"));
    let toml = "database = 'sqlite:a'\ndatabase_file = '/b'";
    assert!(errors_from(&[], &[], toml).contains("are both set"));
}

#[test]
fn a_named_file_must_exist() {
    let env = &[("VAULTSYNC_DATABASE_FILE", "/nowhere/at-all")];
    let message = errors_from(env, &[], "");
    assert!(
        message.contains("VAULTSYNC_DATABASE_FILE")
            && message.contains("/nowhere/at-all cannot be read"),
        "{message}"
    );
}

#[test]
fn a_flag_overrides_the_file_that_a_variable_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("key");
    std::fs::write(&file, "not a key").expect("a file in a temporary folder");
    let env = &[("CLERK_JWT_KEY_FILE", file.to_str().expect("a path in UTF-8"))];
    let flags = &[("clerk_publishable_key", PK_TEST), ("clerk_jwt_key", super::sign_in::PEM)];
    let settings = settings_from(env, flags, "").expect("valid settings");
    let clerk = settings.sign_in.clerk.expect("Clerk is set");
    assert_eq!(clerk.jwt_keys.len(), 1);
}

#[test]
fn an_unknown_variable_only_causes_a_warning() {
    let env = &[
        ("VAULTSYNC_SERVICE_HOST", "10.0.0.1"),
        ("VAULTSYNC_HEADER_SECOND", "1"),
        ("VAULTSYNC_TEST_CHROMIUM", "/usr/bin/chromium"),
        ("HOME", "/"),
    ];
    let warnings = load_from(env, &[], "").expect("valid settings").warnings;
    let [typo, other] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(typo.ends_with("did you mean `VAULTSYNC_HEADER_SECONDS`?"), "{typo}");
    assert!(other.contains("VAULTSYNC_SERVICE_HOST is not a setting"), "{other}");
}

#[test]
fn default_settings_are_the_defaults_of_the_server() {
    let settings = settings_from(&[], &[], "").expect("valid settings");
    assert_eq!(settings.limits, vaultsync_server::Limits::default());
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8787");
    assert_eq!(
        settings.admin_listen.map(|address| address.to_string()),
        Some("127.0.0.1:9464".to_owned())
    );
    assert_eq!(settings.data_dir, Path::new("./vaultsync-data"));
    assert!(settings.sign_in.local);
}
