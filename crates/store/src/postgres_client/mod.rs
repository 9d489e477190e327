//! Connections to PostgreSQL outside of any pool: address, TLS, errors in words.
//!
//! The backend (`postgres/`) and NOTIFY (`pubsub/notify.rs`) both connect through this module.

mod tls;
mod url;

use std::{fmt, io, time::Duration};

use tokio::time::timeout;
use tokio_postgres::{
    Client, Config, Connection, Error, Socket, error::SqlState, tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::url::DatabaseUrl;
use crate::OpenError;

/// How long making a connection may take while the store is opened or migrated.
pub(crate) const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The half of a connection that has to be polled. It receives notifications.
pub(crate) type RawConnection =
    Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A connection that is polled by a task of its own. It ends when the client is dropped.
pub(crate) async fn connect(url: &DatabaseUrl) -> Result<Client, OpenError> {
    let (client, connection) = connect_raw(url).await.map_err(|error| open_error(url, error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the database ended");
        }
    });
    Ok(client)
}

/// A connection that the caller polls.
pub(crate) async fn connect_raw(url: &DatabaseUrl) -> Result<(Client, RawConnection), String> {
    let (config, tls) =
        driver_config(url, OPEN_TIMEOUT, OPEN_TIMEOUT).map_err(|error| error.to_string())?;
    // The driver's own timeout ends when the peer accepts the connection, even if it never sends a byte.
    let connected = timeout(OPEN_TIMEOUT, config.connect(tls)).await;
    let connected = connected.map_err(|_| "the database does not respond".to_owned())?;
    connected.map_err(|error| describe(&error))
}

/// The driver's configuration for an address.
pub(crate) fn driver_config(
    url: &DatabaseUrl,
    connect_timeout: Duration,
    tcp_user_timeout: Duration,
) -> io::Result<(Config, MakeRustlsConnect)> {
    let mut config = url.config.clone();
    config.connect_timeout(connect_timeout).tcp_user_timeout(tcp_user_timeout);
    Ok((config, tls::connector(&url.tls)?))
}

/// The error in words, without its detail: that may quote a record.
pub(crate) fn describe(error: &Error) -> String {
    let Some(response) = error.as_db_error() else {
        let cause = std::error::Error::source(error);
        return cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    };
    let message = format!("{}: {}", response.code().code(), response.message());
    match response.code() {
        &SqlState::INVALID_SQL_STATEMENT_NAME | &SqlState::DUPLICATE_PSTATEMENT => format!(
            "{message} (if a pooler in front of the database does not keep prepared statements, set \
             `database_prepare` to false)"
        ),
        _ => message,
    }
}

/// The error that the database at this address cannot be opened.
pub(crate) fn open_error(url: &DatabaseUrl, error: impl fmt::Display) -> OpenError {
    OpenError::Database { database: url.to_string(), message: error.to_string() }
}
