//! What a database must be before it is served from, and that its tables are up to date.

use std::fmt;

use deadpool_postgres::HookError;
use tokio::time::timeout;
use tokio_postgres::{
    Client, Connection, Error, SimpleQueryMessage, Socket, error::SqlState, tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use super::{DatabaseUrl, PostgresOptions, db_error::told, migrate, tls};
use crate::OpenError;

const NO_DEPLOYMENT: &str = "its table `deployment` is empty, so that nobody can tell which it is";

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
        let id = deployment(&client).await.map_err(|error| refused(url, told(&error)))?;
        return id.ok_or_else(|| refused(url, NO_DEPLOYMENT));
    }
    Err(unreachable.unwrap_or_else(|| OpenError::Database {
        database: "postgres".to_owned(),
        message: "no address is given".to_owned(),
    }))
}

/// A connection outside of any pool. It ends when the client is dropped.
pub(crate) async fn connect(url: &DatabaseUrl) -> Result<Client, OpenError> {
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
    config.connect_timeout(super::OPEN_TIMEOUT).tcp_user_timeout(super::OPEN_TIMEOUT);
    // The driver's own bound ends where the peer takes the connection, even one that never speaks.
    let connected = timeout(super::OPEN_TIMEOUT, config.connect(tls)).await;
    let connected = connected.map_err(|_| "it does not answer".to_owned())?;
    connected.map_err(|error| told(&error))
}

type RawConnection = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

async fn deployment(client: &Client) -> Result<Option<Uuid>, Error> {
    let rows = client.simple_query("select id from deployment").await?;
    Ok(rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    }))
}

/// Checks a new connection: that it leads to the right database, that one may write there, and that
/// what is acknowledged there is on a disk. A message means that it is not one to serve from; what the
/// database failed with may pass. Answers whether it leads to a machine with Citus, whose tables are
/// spread over several machines, or may come to be while the connection is open.
pub(super) async fn check(
    client: &Client,
    expected: Uuid,
    writable: bool,
    allow_unsafe: bool,
) -> Result<bool, HookError> {
    // Without parameters, so that a pooler has no prepared statement to lose.
    let settings = client
        .simple_query(
            "select current_setting('fsync', true), current_setting('synchronous_commit', true),
               current_setting('transaction_read_only', true),
               current_setting('citus.shard_count', true) is not null,
               current_setting('synchronous_standby_names', true) <> '',
               current_setting('server_encoding', true)",
        )
        .await
        .map_err(HookError::Backend)?;
    let row = settings.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let is = |column, value| row.is_some_and(|row| row.get(column) == Some(value));
    if writable && !allow_unsafe {
        for (column, setting) in [(0, "fsync"), (1, "synchronous_commit")] {
            if is(column, "off") {
                return Err(HookError::message(format!(
                    "it has {setting}=off: what it acknowledges can be lost. Turn it on, or accept \
                     that with the setting `database_allow_unsafe`"
                )));
            }
        }
    }
    if writable && !allow_unsafe && is(1, "local") && is(4, "t") {
        return Err(HookError::message(
            "it has synchronous_commit=local beside synchronous_standby_names: what it acknowledges can be \
             lost in a fail-over. Turn it on, or accept that with the setting `database_allow_unsafe`",
        ));
    }
    if !is(5, "UTF8") {
        let told = "its encoding is not UTF8: it cannot hold every record id";
        return Err(HookError::message(told));
    }
    if writable && is(2, "on") {
        let told = "it takes no writes: it is a replica, or set to be read only";
        return Err(HookError::message(told));
    }
    let another =
        "it is another database than the first one: all addresses must lead to the same one";
    match deployment(client).await {
        Ok(Some(found)) if found == expected => Ok(is(3, "t")),
        Ok(Some(_)) => Err(HookError::message(another)),
        Ok(None) => Err(HookError::message(NO_DEPLOYMENT)),
        // A replica may not have heard of the tables yet.
        Err(error) if writable && error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            Err(HookError::message(another))
        }
        Err(error) => Err(HookError::Backend(error)),
    }
}

/// Has a connection make each plan once, and go by keys in it. A plan is kept for as long as the connection,
/// and one made while the tables were small would else read them whole when they are large.
///
/// Left to itself PostgreSQL plans most of our statements at every call, because it expects less of an
/// array when it sees how short it is: half of what a small push cost it. Citus needs the values to
/// know where to send a statement. Nothing is set where statements are not prepared, as through an old pooler;
/// the pool of a newer one must be ours alone.
pub(super) async fn keep_plans(client: &Client, is_citus: bool) -> Result<(), HookError> {
    let by_keys = "set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off";
    let once = "set plan_cache_mode = force_generic_plan";
    client.batch_execute(by_keys).await.map_err(HookError::Backend)?;
    if !is_citus {
        client.batch_execute(once).await.map_err(HookError::Backend)?;
    }
    Ok(())
}

/// Why that database cannot be served from.
pub(super) fn refused(url: &DatabaseUrl, error: impl fmt::Display) -> OpenError {
    OpenError::Database { database: url.to_string(), message: error.to_string() }
}
