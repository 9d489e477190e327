//! Which database the settings mean, and how its nodes tell each other.

use vaultsync_store::{PostgresOptions, PubsubBackend};

use super::{check, check_loaded};
use crate::settings::{Database, in_force};

const FIRST: &str = "postgres://ann:s3cret@a:1,b:2/x";
const SECOND: &str = "postgres://ann:s3cret@c/x?sslmode=require";

fn postgres(env: &[(&str, &str)], flags: &[(&str, &str)], toml: &str) -> PostgresOptions {
    match check(env, flags, toml).expect("valid settings").database {
        Database::Postgres(options) => options,
        Database::Sqlite(path) => panic!("{} is not PostgreSQL", path.display()),
    }
}

#[test]
fn several_addresses_can_be_given_in_each_place() {
    let expected: Vec<_> = [FIRST, SECOND].map(|url| url.parse().expect("an address")).into();
    for (env, flags, toml) in [
        (&[("DATABASE_URL", format!("{FIRST},{SECOND}"))][..], &[][..], String::new()),
        (&[("VAULTSYNC_DATABASE", format!("{FIRST} {SECOND}"))], &[], String::new()),
        (&[], &[("database", FIRST), ("database", SECOND)], String::new()),
        (&[], &[], format!("database = ['{FIRST}', '{SECOND}']")),
    ] {
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(postgres(&env, flags, &toml).primaries, expected, "{env:?} {flags:?} {toml}");
    }
}

#[test]
fn nodes_tell_each_other_by_notify_unless_told_otherwise() {
    let first = || Box::new(FIRST.parse().expect("an address"));
    let second = Box::new(SECOND.parse().expect("an address"));
    for (env, expected) in [
        (&[][..], PubsubBackend::Notify(first())),
        (&[("VAULTSYNC_NOTIFY_DATABASE", SECOND)], PubsubBackend::Notify(second)),
        (&[("VAULTSYNC_NOTIFY_DATABASE", "off")], PubsubBackend::None),
        (
            &[("VAULTSYNC_NATS_URL", "nats://a,tls://b:1")],
            PubsubBackend::Nats(vec!["nats://a".parse().unwrap(), "tls://b:1".parse().unwrap()]),
        ),
    ] {
        assert_eq!(postgres(env, &[("database", FIRST)], "").pubsub, expected, "{env:?}");
    }
}

#[test]
fn what_is_shown_of_a_file_in_the_data_folder_is_read_again() {
    for (folder, shown) in [
        ("a", r#"database = ["sqlite:a/vaultsync.sqlite3"]"#),
        ("a b, c", r#"database = ["sqlite:a b, c/vaultsync.sqlite3"]"#),
        ("a@b", r#"database = ["sqlite:a@b/vaultsync.sqlite3"]"#),
        ("/a", r#"database = ["sqlite:/a/vaultsync.sqlite3"]"#),
        // Given as a database, these would be taken for an option, and for another path.
        ("a ?", r"database = []"),
        ("//a", r"database = []"),
    ] {
        let toml = format!("data_dir = '{folder}'");
        let loaded = check_loaded(&[], &[], &toml).expect("valid settings");
        let all = in_force(&loaded);
        assert!(all.contains(shown), "{shown} in {all}");
        let again = check_loaded(&[], &[], &all).expect("what is shown is valid");
        assert_eq!(again.settings, loaded.settings, "{folder}");
    }
}

#[test]
fn no_address_is_shown_with_its_password() {
    let env = &[
        ("DATABASE_URL", FIRST),
        ("VAULTSYNC_READ_DATABASE", SECOND),
        ("VAULTSYNC_NATS_URL", "nats://s3cret@n"),
    ];
    let loaded = check_loaded(env, &[], "").expect("valid settings");
    let shown = in_force(&loaded);
    for line in [
        r#"database = ["postgres://ann:***@a:1,b:2/x"] # DATABASE_URL"#,
        r#"read_database = ["postgres://ann:***@c/x?sslmode=require"]"#,
        r#"nats_url = ["nats://***@n"]"#,
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    assert!(
        !shown.contains("s3cret") && !format!("{:?}", loaded.settings).contains("s3cret"),
        "{shown}"
    );
}
