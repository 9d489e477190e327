//! The database and the notifications between nodes.

use std::{fmt, path::Path, path::PathBuf, time::Duration};

use vaultsync_store::{DatabaseUrl, PostgresOptions, PubsubBackend};

use super::parse::{self, Address};
use super::reader::Reader;
use super::table::TABLE;

/// The database that holds the records. Its text contains neither user nor password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite(PathBuf),
    Postgres(PostgresOptions),
}

pub(crate) fn read(reader: &mut Reader<'_>, data_dir: &Path) -> Database {
    let addresses = reader.list("database", parse::database);
    let count = addresses.len();
    let (mut files, mut urls) = (Vec::new(), Vec::new());
    for address in addresses {
        match address {
            Address::Sqlite(path) => files.push(path),
            Address::Postgres(url) => urls.push(*url),
        }
    }
    if count > 1 && !files.is_empty() {
        reader.refuse("database", "several addresses must all be PostgreSQL addresses");
    }
    if !urls.is_empty() {
        return Database::Postgres(postgres(reader, urls));
    }
    if reader.could_read(&["database"]) {
        refuse_settings_of_postgres(reader);
    }
    Database::Sqlite(files.pop().unwrap_or_else(|| data_dir.join("vaultsync.sqlite3")))
}

/// Refuses settings that have no effect on SQLite: the operator expects PostgreSQL, and `database` is
/// missing or wrong.
fn refuse_settings_of_postgres(reader: &mut Reader<'_>) {
    for setting in TABLE.iter().filter(|setting| setting.help.starts_with("PostgreSQL:")) {
        if reader.is_given(setting.key) {
            reader.refuse(setting.key, "needs a PostgreSQL `database`, which is not set");
        }
    }
}

fn postgres(reader: &mut Reader<'_>, primaries: Vec<DatabaseUrl>) -> PostgresOptions {
    PostgresOptions {
        pubsub: pubsub(reader, &primaries[0]),
        replicas: reader.list("read_database", parse::postgres),
        primaries,
        connections_max: reader.number("database_connections_max"),
        timeout: Duration::from_millis(reader.number("database_timeout_ms")),
        prepare: reader.switch("database_prepare"),
        migrate: reader.switch("database_migrate"),
        allow_unsafe: reader.switch("database_allow_unsafe"),
    }
}

/// How nodes notify each other: with NATS if it is set, else with NOTIFY unless that is off.
fn pubsub(reader: &mut Reader<'_>, primary: &DatabaseUrl) -> PubsubBackend {
    let nats = reader.list("nats_url", parse::nats);
    let notify = reader.list("notify_database", parse::postgres_or_off);
    if notify.len() > 1 {
        reader.refuse("notify_database", "must be one address, the same for all nodes");
    }
    let notify = notify.into_iter().next();
    if !nats.is_empty() {
        if let Some(Some(_)) = notify {
            reader
                .refuse("notify_database", "cannot be combined with nats_url: remove one of them");
        }
        return PubsubBackend::Nats(nats);
    }
    match notify {
        Some(None) => PubsubBackend::None,
        Some(Some(url)) => PubsubBackend::Notify(Box::new(url)),
        None => PubsubBackend::Notify(Box::new(primary.clone())),
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(options) => {
                let urls: Vec<_> = options.primaries.iter().map(ToString::to_string).collect();
                f.write_str(&urls.join(" "))
            }
        }
    }
}
