//! Which database, and how it is used.

use std::{fmt, path::Path, path::PathBuf, time::Duration};

use vaultsync_store::{DatabaseUrl, PostgresOptions, PubsubBackend};

use super::parse::{self, Address};
use super::reader::Reader;
use super::table;

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    Sqlite(PathBuf),
    Postgres(PostgresOptions),
}

pub(crate) fn read(reader: &mut Reader<'_>, data_dir: &Path) -> Database {
    let mut addresses = reader.list(&table::DATABASE, parse::database).into_iter();
    let first = addresses.next();
    let rest: Vec<_> = addresses.collect();
    match first {
        Some(Address::Postgres(url)) => {
            let primaries = primaries(reader, *url, rest);
            Database::Postgres(postgres(reader, primaries))
        }
        sqlite => {
            if !rest.is_empty() {
                reader.refuse(&table::DATABASE, "several addresses must all be of PostgreSQL");
            }
            for setting in [table::READ_DATABASE, table::NOTIFY_DATABASE, table::NATS_URL] {
                if reader.is_given(&setting) {
                    reader.refuse(&setting, "needs a PostgreSQL `database`");
                }
            }
            Database::Sqlite(match sqlite {
                Some(Address::Sqlite(path)) => path,
                _ => data_dir.join("vaultsync.sqlite3"),
            })
        }
    }
}

fn primaries(reader: &mut Reader<'_>, first: DatabaseUrl, rest: Vec<Address>) -> Vec<DatabaseUrl> {
    let mut primaries = vec![first];
    for address in rest {
        match address {
            Address::Postgres(url) => primaries.push(*url),
            Address::Sqlite(_) => {
                reader.refuse(&table::DATABASE, "several addresses must all be of PostgreSQL");
            }
        }
    }
    primaries
}

fn postgres(reader: &mut Reader<'_>, primaries: Vec<DatabaseUrl>) -> PostgresOptions {
    PostgresOptions {
        pubsub: hints(reader, &primaries[0]),
        replicas: reader.list(&table::READ_DATABASE, parse::postgres),
        primaries,
        connections_max: reader.number(&table::DATABASE_CONNECTIONS_MAX),
        timeout: Duration::from_millis(reader.number(&table::DATABASE_TIMEOUT_MS)),
        prepare: reader.switch(&table::DATABASE_PREPARE),
        migrate: reader.switch(&table::DATABASE_MIGRATE),
        allow_unsafe: reader.switch(&table::DATABASE_ALLOW_UNSAFE),
    }
}

/// How nodes tell each other: by NATS where it is set, else by NOTIFY unless that is off.
fn hints(reader: &mut Reader<'_>, first: &DatabaseUrl) -> PubsubBackend {
    let nats = reader.list(&table::NATS_URL, parse::nats);
    let notify = reader.list(&table::NOTIFY_DATABASE, parse::postgres_or_off);
    if notify.len() > 1 {
        reader.refuse(&table::NOTIFY_DATABASE, "must be one address: the same for all nodes");
    }
    let notify = notify.into_iter().next();
    if !nats.is_empty() {
        if let Some(Some(_)) = notify {
            let what = "nodes tell each other by NATS (nats_url): take one of the two away";
            reader.refuse(&table::NOTIFY_DATABASE, what);
        }
        return PubsubBackend::Nats(nats);
    }
    match notify {
        Some(None) => PubsubBackend::None,
        Some(Some(url)) => PubsubBackend::Notify(Box::new(url)),
        None => PubsubBackend::Notify(Box::new(first.clone())),
    }
}

/// Without user and password.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(options) => {
                for (index, url) in options.primaries.iter().enumerate() {
                    write!(f, "{}{url}", if index == 0 { "" } else { " " })?;
                }
                Ok(())
            }
        }
    }
}
