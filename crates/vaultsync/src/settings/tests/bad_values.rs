//! Invalid values, and limits that contradict each other.

use super::{errors_from, settings_from};

#[test]
fn an_invalid_value_is_refused_with_its_setting_and_origin() {
    for (key, value, what) in [
        ("listen", "localhost:80", "expected an IP address and a port"),
        ("listen", "", "is blank: give it a value, or remove it"),
        ("admin_listen", "no", "`off` disables it"),
        ("admin_listen", "127.0.0.1:8787", "must differ from listen"),
        ("data_dir", "", "is blank: give it a value, or remove it"),
        ("local_issuer", "maybe", "expected `auto`, `true` or `false`"),
        ("trusted_proxies", "10.0.0.0/33", "expected a network"),
        ("trusted_proxies", "proxy.example", "expected a network"),
        ("docs_url", "docs.example", "expected the URL of a page"),
        ("docs_url", "ftp://docs.example", "begins with http:// or https://"),
        ("docs_url", "https://docs.example/#errors", "without a fragment"),
        ("cors_origins", "*", "is not an exact origin"),
        ("cors_origins", "null", "is not an exact origin"),
        ("cors_origins", "https://*.example", "is not an exact origin"),
        ("cors_origins", "https://a.example/", "write `https://a.example`"),
        ("cors_origins", "https://a.example/x", "write `https://a.example`"),
        ("cors_origins", "https://A.example", "write `https://a.example`"),
        ("cors_origins", "https://a.example:443", "write `https://a.example`"),
        ("cors_origins", "https://u:p@a.example", "without a user"),
        ("cors_origins", "a.example", "expected an origin"),
        ("log", "info,=x=", "expected a level or directives"),
        ("log_format", "xml", "expected `auto`, `text` or `json`"),
        ("header_seconds", "0", "from 1 to 3600, not 0"),
        ("drain_seconds", "3601", "from 1 to 3600, not 3601"),
        ("drain_delay_seconds", "3601", "from 0 to 3600, not 3601"),
        ("idle_seconds", "-1", "expected a whole number"),
        ("idle_seconds", "1.5", "expected a whole number"),
        ("idle_seconds", "10s", "expected a whole number"),
        ("body_bytes_max", "1023", "from 1024 to"),
        ("header_bytes_max", "8191", "from 8192 to"),
        ("rate_limit", "4294967296", "from 0 to 1000000"),
        ("connections_max", "0", "from 1 to"),
    ] {
        let message = errors_from(&[], &[(key, value)], "");
        let flag = key.replace('_', "-");
        assert!(message.contains(&format!("{key} (--{flag}): ")), "{message}");
        assert!(message.contains(what), "{key} = {value}: {message}");
    }
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    for (toml, key, what) in [
        ("ciphertext_bytes_max = 13000000", "ciphertext_bytes_max", "does not fit"),
        ("body_bytes_max = 1000000", "ciphertext_bytes_max", "does not fit"),
        ("memory_bytes_max = 33554431", "memory_bytes_max", "at least 33554432"),
        ("memory_bytes_per_user_max = 33554431", "memory_bytes_per_user_max", "at least 33554432"),
        ("page_bytes_max = 134217728", "memory_bytes_max", "at least 357913944"),
        ("page_bytes_max = 33554432", "memory_bytes_per_user_max", "at least 89478488"),
        ("token_bytes_max = 32768", "token_bytes_max", "less than header_bytes_max"),
    ] {
        let message = errors_from(&[], &[], toml);
        assert!(message.contains(key) && message.contains(what), "{toml}: {message}");
    }
}

#[test]
fn an_unsupported_database_is_refused_without_showing_its_password() {
    for (url, what) in [
        ("postgres://ann:s3cret@db/x?sslmode=no", "`sslmode` must be disable"),
        ("postgres://ann:s3cret@db:x/x", "invalid"),
        ("postgres://ann:s3cret@a/x,sqlite://b", "must all be PostgreSQL addresses"),
        ("sqlite://b postgres://ann:s3cret@a/x", "must all be PostgreSQL addresses"),
        ("mysql://ann:s3cret@db/x", "mysql: databases are not supported"),
        ("s3cret", "not a database URL"),
        ("s3cret@host:5432", "this kind of database is not supported"),
        ("sqlite:", "the path is missing"),
        ("sqlite::memory:", "would be lost"),
        ("sqlite:x?key=s3cret", "options after `?`"),
    ] {
        for name in ["VAULTSYNC_DATABASE", "DATABASE_URL"] {
            let message = errors_from(&[(name, url)], &[], "");
            assert!(message.contains(&format!("database ({name}): ")), "{message}");
            assert!(message.contains(what) && !message.contains("s3cret"), "{message}");
        }
    }
}

#[test]
fn settings_of_postgresql_need_postgresql_and_must_agree() {
    let database = ("VAULTSYNC_DATABASE", "postgres://ann:s3cret@db/x");
    for (env, what) in [
        (
            &[("VAULTSYNC_NATS_URL", "nats://s3cret@n")][..],
            "nats_url (VAULTSYNC_NATS_URL): needs a",
        ),
        (
            &[("VAULTSYNC_READ_DATABASE", "postgres://r/x")],
            "read_database (VAULTSYNC_READ_DATABASE)",
        ),
        (&[("VAULTSYNC_NOTIFY_DATABASE", "off")], "needs a PostgreSQL `database`"),
        (
            &[("VAULTSYNC_DATABASE_MIGRATE", "false")],
            "database_migrate (VAULTSYNC_DATABASE_MIGRATE): needs a PostgreSQL `database`",
        ),
        (&[("VAULTSYNC_DATABASE_CONNECTIONS_MAX", "11")], "needs a PostgreSQL `database`"),
        (&[("VAULTSYNC_DATABASE_TIMEOUT_MS", "2001")], "needs a PostgreSQL `database`"),
        (&[("VAULTSYNC_DATABASE_PREPARE", "no")], "needs a PostgreSQL `database`"),
        (&[("VAULTSYNC_DATABASE_ALLOW_UNSAFE", "yes")], "needs a PostgreSQL `database`"),
        (&[database, ("VAULTSYNC_NATS_URL", "http://s3cret@n")], "expected nats://"),
        (&[database, ("VAULTSYNC_READ_DATABASE", "sqlite:s3cret")], "expected postgres://"),
        (
            &[database, ("VAULTSYNC_NOTIFY_DATABASE", "postgres://a/x postgres://b/x")],
            "must be one address",
        ),
        (
            &[
                database,
                ("VAULTSYNC_NOTIFY_DATABASE", "postgres://a/x"),
                ("VAULTSYNC_NATS_URL", "nats://n"),
            ],
            "remove one of them",
        ),
        (&[database, ("VAULTSYNC_DATABASE_TIMEOUT_MS", "99")], "from 100 to 60000"),
    ] {
        let message = errors_from(env, &[], "");
        assert!(message.contains(what) && !message.contains("s3cret"), "{env:?}: {message}");
    }
}

#[test]
fn a_default_of_postgresql_that_is_written_out_goes_with_sqlite() {
    let toml = "database_connections_max = 10\ndatabase_migrate = true\nnats_url = []";
    assert!(settings_from(&[("VAULTSYNC_DATABASE_PREPARE", "true")], &[], toml).is_ok());
}

#[test]
fn a_value_that_is_given_and_blank_is_refused() {
    const WHAT: &str = "is blank: give it a value, or remove it to get the default";
    for blank in ["", " ", "\t\n", ",", " , "] {
        for (name, key) in [
            ("VAULTSYNC_DATABASE", "database"),
            ("DATABASE_URL", "database"),
            ("VAULTSYNC_NATS_URL", "nats_url"),
            ("VAULTSYNC_CORS_ORIGINS", "cors_origins"),
            ("CLERK_AUTHORIZED_PARTIES", "clerk_authorized_parties"),
        ] {
            let expected = format!("the settings are invalid:\n  {key} ({name}): {WHAT}");
            assert_eq!(errors_from(&[(name, blank)], &[], ""), expected, "{name}={blank:?}");
            let message = errors_from(&[], &[(key, blank)], "");
            assert!(message.ends_with(&format!("): {WHAT}")), "--{key} {blank:?}: {message}");
        }
    }
    for name in ["VAULTSYNC_DATABASE_FILE", "VAULTSYNC_IDLE_SECONDS", "CLERK_PUBLISHABLE_KEY"] {
        let message = errors_from(&[(name, " ")], &[], "");
        assert!(message.ends_with(&format!(" ({name}): {WHAT}")), "{message}");
    }
    for toml in ["database = ''", "database = ['']", "database_file = ''", "log = ' '"] {
        let message = errors_from(&[], &[], toml);
        assert!(message.ends_with(WHAT), "{toml}: {message}");
    }
}

#[test]
fn an_empty_file_is_refused_with_its_setting() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("database");
    for content in ["", "\n", " \r\n"] {
        std::fs::write(&path, content).expect("a file in a temporary folder");
        let path = path.to_str().expect("a path in UTF-8");
        for name in ["VAULTSYNC_DATABASE_FILE", "DATABASE_URL_FILE", "CLERK_JWT_KEY_FILE"] {
            let message = errors_from(&[(name, path)], &[], "");
            assert!(message.ends_with(&format!(" ({name}): {path} is empty")), "{message}");
        }
    }
}

#[test]
fn a_blank_name_of_the_settings_file_is_refused() {
    let sources = crate::settings::Sources {
        env: [("VAULTSYNC_CONFIG".into(), " ".into())].into(),
        ..crate::settings::Sources::default()
    };
    let message = crate::settings::load(&sources).unwrap_err().to_string();
    assert!(message.contains("VAULTSYNC_CONFIG: is blank"), "{message}");
}

#[test]
fn an_error_names_the_file_and_the_key() {
    let message = errors_from(&[], &[], "header_seconds = 'ten'");
    assert!(
        message.contains("vaultsync.toml: header_seconds): expected a whole number"),
        "{message}"
    );
}

#[test]
fn an_unknown_key_is_refused_with_a_suggestion() {
    let message = errors_from(&[], &[], "header_second = 1\nquux = 2\nlisten_file = 'x'");
    assert!(message.contains("`header_second`; did you mean `header_seconds`?"), "{message}");
    assert!(message.ends_with("there is no setting `quux`"), "{message}");
    assert!(message.contains("there is no setting `listen_file`"), "{message}");
}

#[test]
fn a_value_of_the_wrong_type_is_refused() {
    for (toml, what) in [
        ("listen = ['127.0.0.1:1']", "expected one value"),
        ("idle_seconds = true", "expected a whole number"),
        ("[idle_seconds]\nx = 1", "not a table"),
        ("cors_origins = [['a']]", "expected one value"),
        ("cors_origins = { a = 1 }", "not a table"),
        ("database_file = ['a']", "database_file"),
    ] {
        let message = errors_from(&[], &[], toml);
        assert!(message.contains(what), "{toml}: {message}");
    }
}

#[test]
fn invalid_toml_is_refused_without_showing_its_lines() {
    let message = errors_from(&[], &[], "listen = '127.0.0.1:1'\ndatabase = s3cret");
    assert!(message.contains("vaultsync.toml: line 2: "), "{message}");
    assert!(!message.contains("s3cret"), "{message}");
}

#[test]
fn all_errors_are_reported_together() {
    let env = &[("VAULTSYNC_LISTEN", "x"), ("VAULTSYNC_IDLE_SECONDS", "0")];
    let message = errors_from(env, &[("rate_limit", "fast")], "colour = 'blue'");
    assert_eq!(message.lines().count(), 5, "{message}");
}
