//! The database and the notifications between its nodes.

use vaultsync_store::{PostgresOptions, PubsubBackend};

use super::{load_from, settings_from};
use crate::settings::{Database, in_force};

const FIRST: &str = "postgres://ann:s3cret@a:1,b:2/x";
const SECOND: &str = "postgres://ann:s3cret@c/x?sslmode=require";

fn postgres(env: &[(&str, &str)], flags: &[(&str, &str)], toml: &str) -> PostgresOptions {
    match settings_from(env, flags, toml).expect("valid settings").database {
        Database::Postgres(options) => options,
        Database::Sqlite(path) => panic!("{} is not PostgreSQL", path.display()),
    }
}

#[test]
fn every_source_accepts_several_addresses() {
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
fn nodes_use_notify_by_default() {
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
fn the_path_in_the_data_folder_is_printed_so_that_it_reads_back() {
    for (folder, shown) in [
        ("a", r#"database = ["sqlite:a/vaultsync.sqlite3"]"#),
        ("a b, c", r#"database = ["sqlite:a b, c/vaultsync.sqlite3"]"#),
        ("a@b", r#"database = ["sqlite:a@b/vaultsync.sqlite3"]"#),
        ("/a", r#"database = ["sqlite:/a/vaultsync.sqlite3"]"#),
        // As a database, these would be read as an option and as another path.
        ("a ?", r"database = []"),
        ("//a", r"database = []"),
    ] {
        let toml = format!("data_dir = '{folder}'");
        let loaded = load_from(&[], &[], &toml).expect("valid settings");
        let printed = in_force(&loaded);
        assert!(printed.contains(shown), "{shown} in {printed}");
        let again = load_from(&[], &[], &printed).expect("the printed settings are valid");
        assert_eq!(again.settings, loaded.settings, "{folder}");
    }
}

#[test]
fn no_password_of_an_address_is_shown() {
    let env = &[
        ("DATABASE_URL", FIRST),
        ("VAULTSYNC_READ_DATABASE", SECOND),
        ("VAULTSYNC_NATS_URL", "nats://s3cret@n"),
    ];
    let loaded = load_from(env, &[], "").expect("valid settings");
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
