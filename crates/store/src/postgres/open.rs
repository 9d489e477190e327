//! What a database must be before it is served from, and that its tables are up to date.

use std::fmt;

use tokio_postgres::{Client, Connection, Socket, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use super::{DatabaseUrl, PostgresOptions, failure::told, migrate, tls};
use crate::OpenError;

/// The first of the addresses that answers, with its tables brought up to date: the id of its
/// deployment.
pub(super) async fn prepare(options: &PostgresOptions) -> Result<Uuid, OpenError> {
    let mut unreachable = None;
    for url in &options.primaries {
        let mut client = match connect(url).await {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(%error, "a database cannot be reached");
                unreachable.get_or_insert(error);
                continue;
            }
        };
        if options.migrate {
            migrate::run(&mut client).await.map_err(|error| refused(url, error))?;
        } else {
            let pending = migrate::pending(&client).await.map_err(|error| refused(url, error))?;
            if let Some(first) = pending.first() {
                let told = format!("its tables are not up to date ({first}): `vaultsync migrate`");
                return Err(refused(url, told));
            }
        }
        return deployment(&client).await.map_err(|error| refused(url, told(&error)));
    }
    Err(unreachable.unwrap_or_else(|| OpenError::Database {
        database: "postgres".to_owned(),
        message: "no address is given".to_owned(),
    }))
}

/// A connection outside of any pool. It ends when the client is dropped.
pub(super) async fn connect(url: &DatabaseUrl) -> Result<Client, OpenError> {
    let (client, connection) = connect_raw(url).await.map_err(|error| refused(url, error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the database ended");
        }
    });
    Ok(client)
}

/// The same, with the side of it that has to be polled, and that hears notifications.
pub(crate) async fn connect_raw(url: &DatabaseUrl) -> Result<(Client, RawConnection), String> {
    let tls = tls::connector(&url.tls).map_err(|error| error.to_string())?;
    let mut config = url.config.clone();
    config.connect_timeout(super::OPEN_TIMEOUT);
    config.connect(tls).await.map_err(|error| told(&error))
}

type RawConnection = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

async fn deployment(client: &Client) -> Result<Uuid, tokio_postgres::Error> {
    let rows = client.simple_query("select id from deployment").await?;
    let id = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    Ok(id.unwrap_or_default())
}

/// Checks a new connection: that it leads to the right database, that one may write there, and that
/// what is acknowledged there is on a disk.
pub(super) async fn check(
    client: &Client,
    expected: Uuid,
    writable: bool,
    allow_unsafe: bool,
) -> Result<(), String> {
    // Without parameters, so that a pooler has no prepared statement to lose.
    let settings = client
        .simple_query(
            "select current_setting('fsync', true), current_setting('synchronous_commit', true),
               current_setting('transaction_read_only', true)",
        )
        .await
        .map_err(|error| told(&error))?;
    let row = settings.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let is = |column, value| row.is_some_and(|row| row.get(column) == Some(value));
    if writable && !allow_unsafe {
        for (column, setting) in [(0, "fsync"), (1, "synchronous_commit")] {
            if is(column, "off") {
                return Err(format!(
                    "it has {setting}=off: what it acknowledges can be lost. Turn it on, or accept \
                     that with the setting `database_allow_unsafe`"
                ));
            }
        }
    }
    if writable && is(2, "on") {
        return Err("it takes no writes: it is a replica, or set to be read only".to_owned());
    }
    let found = deployment(client).await.map_err(|error| told(&error))?;
    if found != expected {
        return Err("it is another database than the first one: all addresses must lead to the \
                    same one"
            .to_owned());
    }
    Ok(())
}

/// Why that database cannot be served from.
pub(super) fn refused(url: &DatabaseUrl, error: impl fmt::Display) -> OpenError {
    OpenError::Database { database: url.to_string(), message: error.to_string() }
}
