//! Checks before a database is served from: migrations, durability, identity.

use deadpool::managed;
use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow, error::SqlState};
use uuid::Uuid;

use super::{PostgresOptions, citus, migrate};
use crate::{
    OpenError,
    postgres_client::{DatabaseUrl, connect, describe, open_error},
};

type HookError = managed::HookError<Error>;

/// What a new connection must meet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checks {
    /// The id of the database.
    pub(super) deployment: Uuid,
    /// Whether it must accept writes.
    pub(super) is_writable: bool,
    /// Whether it may lose what it acknowledged.
    pub(super) allow_unsafe: bool,
}

const NO_DEPLOYMENT: &str = "the table `deployment` is empty, so the database cannot be identified: \
                             restore its row from a backup";

/// Migrates the first address that is reachable, or checks that no migration is pending. Returns the id of
/// its deployment.
pub(super) async fn prepare(options: &PostgresOptions) -> Result<Uuid, OpenError> {
    let mut unreachable = None;
    for url in &options.primaries {
        match connect(url).await {
            Ok(client) => return prepare_tables(client, url, options.migrate).await,
            Err(error) => {
                tracing::warn!(%error, "a database is unreachable");
                unreachable.get_or_insert(error);
            }
        }
    }
    Err(unreachable.unwrap_or_else(|| OpenError::Database {
        database: "postgres".to_owned(),
        message: "no address is configured: set `database`".to_owned(),
    }))
}

async fn prepare_tables(
    mut client: Client,
    url: &DatabaseUrl,
    may_migrate: bool,
) -> Result<Uuid, OpenError> {
    if may_migrate {
        migrate::run(&mut client, url).await.map_err(|error| open_error(url, error))?;
        citus::distribute_added(&client).await.map_err(|error| open_error(url, error))?;
    } else {
        let pending = migrate::pending(&client).await.map_err(|error| open_error(url, error))?;
        if let Some(first) = pending.first() {
            let message = format!("the migration {first} is pending: run `vaultsync migrate`");
            return Err(open_error(url, message));
        }
    }
    let id = deployment(&client).await.map_err(|error| open_error(url, describe(&error)))?;
    id.ok_or_else(|| open_error(url, NO_DEPLOYMENT))
}

/// The id in the table `deployment`, which is the same on all nodes and replicas of one database.
async fn deployment(client: &Client) -> Result<Option<Uuid>, Error> {
    let rows = client.simple_query("select id from deployment").await?;
    Ok(rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    }))
}

/// Checks a new connection: that it reached the right database, that it can write there if it has to, and
/// that the database keeps what it acknowledges. Returns whether it reached a machine with Citus, whose
/// tables are distributed or may be while the connection is open.
///
/// An error that is a message is final: the database must not be served from. An error of the database
/// itself may pass.
pub(super) async fn check(client: &Client, checks: Checks) -> Result<bool, HookError> {
    let Checks { deployment, is_writable: writable, allow_unsafe } = checks;
    let settings = Settings::read(client).await.map_err(HookError::Backend)?;
    if writable && !allow_unsafe {
        settings.durability.check().map_err(HookError::message)?;
    }
    if settings.encoding != "UTF8" {
        return Err(HookError::message(
            "its encoding is not UTF8, so it cannot store every record id: use a database with \
             encoding UTF8",
        ));
    }
    if writable && settings.read_only == "on" {
        return Err(HookError::message(
            "it is read-only (a replica, or transaction_read_only=on): use the address of the primary",
        ));
    }
    check_deployment(client, deployment, writable).await?;
    let distribution = citus::check(client, &settings).await.map_err(HookError::Backend)?;
    distribution.map_err(HookError::message)?;
    Ok(settings.has_citus)
}

/// Sets settings of a session.
pub(super) async fn set(client: &Client, statements: &str) -> Result<(), HookError> {
    client.batch_execute(statements).await.map_err(HookError::Backend)
}

/// Settings that decide whether a server keeps what it acknowledged. One that it does not know is empty.
pub(super) struct Durability {
    fsync: String,
    synchronous_commit: String,
    has_standbys: bool,
}

impl Durability {
    /// A query of one value, which [`Self::parse`] takes.
    pub(super) const QUERY: &str = "select concat(current_setting('fsync', true), ',', \
        current_setting('synchronous_commit', true), ',', \
        current_setting('synchronous_standby_names', true) <> '')";

    pub(super) fn parse(text: &str) -> Self {
        let mut values = text.split(',').map(str::to_owned);
        let mut next = || values.next().unwrap_or_default();
        Self { fsync: next(), synchronous_commit: next(), has_standbys: next() == "t" }
    }

    /// An error if acknowledged writes can be lost.
    pub(super) fn check(&self) -> Result<(), String> {
        let settings = [("fsync", &self.fsync), ("synchronous_commit", &self.synchronous_commit)];
        for (setting, value) in settings {
            if value == "off" {
                return Err(format!(
                    "{setting}=off can lose acknowledged writes: turn it on, or set \
                     `database_allow_unsafe` to accept the loss"
                ));
            }
        }
        if self.synchronous_commit == "local" && self.has_standbys {
            return Err(
                "synchronous_commit=local with synchronous_standby_names can lose acknowledged writes \
                 in a failover: set synchronous_commit=on, or set `database_allow_unsafe` to accept \
                 the loss"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// Settings of a connection. One that the server does not know is empty.
pub(super) struct Settings {
    durability: Durability,
    read_only: String,
    encoding: String,
    pub(super) has_citus: bool,
}

impl Settings {
    async fn read(client: &Client) -> Result<Self, Error> {
        // Without parameters, so that a pooler has no prepared statement to lose.
        let messages = client
            .simple_query(&format!(
                "select ({}),
                   current_setting('transaction_read_only', true),
                   current_setting('server_encoding', true),
                   current_setting('citus.shard_count', true) is not null",
                Durability::QUERY
            ))
            .await?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let text =
            |column| row.and_then(|row: &SimpleQueryRow| row.get(column)).unwrap_or_default();
        Ok(Self {
            durability: Durability::parse(text(0)),
            read_only: text(1).to_owned(),
            encoding: text(2).to_owned(),
            has_citus: text(3) == "t",
        })
    }
}

async fn check_deployment(
    client: &Client,
    expected: Uuid,
    writable: bool,
) -> Result<(), HookError> {
    let other = "it is a different database from the first address: all addresses must reach the same \
                 database";
    match deployment(client).await {
        Ok(Some(found)) if found == expected => Ok(()),
        Ok(Some(_)) => Err(HookError::message(other)),
        Ok(None) => Err(HookError::message(NO_DEPLOYMENT)),
        // A replica may not have received the tables yet.
        Err(error) if writable && error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            Err(HookError::message(other))
        }
        Err(error) => Err(HookError::Backend(error)),
    }
}

/// Makes a connection plan each statement once, and only by keys.
///
/// A plan lives as long as its connection. One made while the tables were small would read them whole when
/// they are large. By default PostgreSQL plans most of these statements at every call, because the short
/// arrays make it expect less work: that was half of the cost of a small push. Citus needs the values to
/// choose the node, so its plans stay custom.
///
/// Not called if statements are not prepared, as behind an old pooler. The pool of a newer pooler must not
/// be shared with other programs.
pub(super) async fn keep_plans(client: &Client, is_citus: bool) -> Result<(), HookError> {
    let by_keys = "set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off";
    let once = "set plan_cache_mode = force_generic_plan";
    client.batch_execute(by_keys).await.map_err(HookError::Backend)?;
    if !is_citus {
        client.batch_execute(once).await.map_err(HookError::Backend)?;
    }
    Ok(())
}
