//! Flags before environment before file before defaults.

use std::path::{Path, PathBuf};

use super::super::Database;
use super::{PK_TEST, check, check_loaded, refusal};

const ENV: &[(&str, &str)] = &[("VAULTSYNC_IDLE_SECONDS", "3")];
const FLAGS: &[(&str, &str)] = &[("idle_seconds", "4")];
const TOML: &str = "idle_seconds = 2";

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    for (env, flags, toml, seconds) in [
        (&[][..], &[][..], "", 60),
        (&[], &[], TOML, 2),
        (ENV, &[], TOML, 3),
        (ENV, FLAGS, TOML, 4),
        (&[], FLAGS, TOML, 4),
        (ENV, &[], "", 3),
    ] {
        let settings = check(env, flags, toml).expect("valid settings");
        assert_eq!(settings.limits.idle_timeout.as_secs(), seconds);
    }
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let env = &[("VAULTSYNC_IDLE_SECONDS", ""), ("VAULTSYNC_CONFIG", "")];
    let settings = check(env, &[], TOML).expect("valid settings");
    assert_eq!(settings.limits.idle_timeout.as_secs(), 2);
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
        let settings = check(env, flags, &toml).expect("valid settings");
        assert_eq!(settings.cors_origins, expected);
    }
}

#[test]
fn the_database_comes_from_the_first_place_that_names_one() {
    let own = ("VAULTSYNC_DATABASE", "sqlite:own");
    let common = ("DATABASE_URL", "sqlite:///common");
    let file = "database = 'sqlite:file'";
    for (env, flags, toml, path) in [
        (&[][..], &[][..], "", "./vaultsync-data/vaultsync.sqlite3"),
        (&[], &[], "data_dir = '/d'", "/d/vaultsync.sqlite3"),
        (&[], &[], file, "file"),
        (&[common], &[], file, "/common"),
        (&[common, own], &[], file, "own"),
        (&[common, own], &[("database", "sqlite:flag")], file, "flag"),
    ] {
        let settings = check(env, flags, toml).expect("valid settings");
        assert_eq!(settings.database, Database::Sqlite(PathBuf::from(path)));
    }
}

#[test]
fn a_value_can_come_from_a_file_of_its_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("database");
    std::fs::write(&path, "sqlite:elsewhere\r\n").expect("a file in a temporary folder");
    let path = path.to_str().expect("a path in UTF-8");
    let elsewhere = Database::Sqlite(PathBuf::from("elsewhere"));

    for name in ["VAULTSYNC_DATABASE_FILE", "DATABASE_URL_FILE"] {
        let settings = check(&[(name, path)], &[], "").expect("valid settings");
        assert_eq!(settings.database, elsewhere, "{name}");
    }
    let toml = format!("database_file = {path:?}");
    let settings = check(&[], &[], &toml).expect("valid settings");
    assert_eq!(settings.database, elsewhere);
}

#[test]
fn a_value_and_its_file_cannot_both_be_set() {
    let env = &[("VAULTSYNC_DATABASE", "sqlite:a"), ("VAULTSYNC_DATABASE_FILE", "/b")];
    assert!(refusal(env, &[], "").contains("are both set"));
    let toml = "database = 'sqlite:a'\ndatabase_file = '/b'";
    assert!(refusal(&[], &[], toml).contains("are both set"));
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let env = &[("VAULTSYNC_DATABASE_FILE", "/nowhere/at-all")];
    let said = refusal(env, &[], "");
    assert!(
        said.contains("VAULTSYNC_DATABASE_FILE") && said.contains("/nowhere/at-all cannot be read"),
        "{said}"
    );
}

#[test]
fn a_flag_beats_the_file_that_a_variable_names() {
    let env = &[("CLERK_JWT_KEY_FILE", "/dev/null")];
    let flags = &[("clerk_publishable_key", PK_TEST), ("clerk_jwt_key", super::sign_in::PEM)];
    let settings = check(env, flags, "").expect("valid settings");
    let clerk = settings.sign_in.clerk.expect("Clerk is set");
    assert_eq!(clerk.jwt_keys.len(), 1);
}

#[test]
fn an_unknown_variable_only_warns() {
    let env = &[
        ("VAULTSYNC_SERVICE_HOST", "10.0.0.1"),
        ("VAULTSYNC_HEADER_SECOND", "1"),
        ("VAULTSYNC_TEST_CHROMIUM", "/usr/bin/chromium"),
        ("HOME", "/"),
    ];
    let warnings = check_loaded(env, &[], "").expect("valid settings").warnings;
    let [typo, other] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert!(typo.ends_with("did you mean `VAULTSYNC_HEADER_SECONDS`?"), "{typo}");
    assert!(other.contains("VAULTSYNC_SERVICE_HOST is no setting"), "{other}");
}

#[test]
fn defaults_are_those_of_the_server() {
    let settings = check(&[], &[], "").expect("valid settings");
    assert_eq!(settings.limits, vaultsync_server::Limits::default());
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8787");
    assert_eq!(
        settings.admin_listen.map(|address| address.to_string()),
        Some("127.0.0.1:9464".to_owned())
    );
    assert_eq!(settings.data_dir, Path::new("./vaultsync-data"));
    assert!(settings.sign_in.local);
}
