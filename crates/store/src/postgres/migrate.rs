//! Migrations, which are applied while nodes of the previous version serve.
//!
//! Each is a transaction of its own, so that no lock is kept while another one is waited for. A statement that
//! changes a table waits for all transactions that use it, and every later pull and push of the table waits behind
//! it. It therefore gives up soon, and is tried again after a pause.
//!
//! Not here: the distribution of the tables on Citus (`citus.rs`), and how an index is built (`index_build.rs`).

use std::time::Duration;

use refinery_core::{
    AsyncMigrate, Migration, Runner, SchemaVersion, Target,
    error::Kind,
    traits::r#async::{AsyncQuery, AsyncTransaction},
};
use tokio_postgres::{Client, Error, error::SqlState};

use super::{citus, connection::first_column, index_build::Index};
use crate::{
    OpenError, migrations,
    postgres_client::{DatabaseUrl, connect, describe, open_error},
};

/// Refinery's table of applied migrations.
pub(super) const HISTORY: &str = "refinery_schema_history";

/// How long a migration waits for a lock. PostgreSQL cancels an autovacuum that has it after its
/// `deadlock_timeout`, a second.
const LOCK_TIMEOUT: Duration = Duration::from_millis(1500);

/// How often a migration that gets no lock is tried. The pause lets the requests through that waited.
const LOCK_ATTEMPTS_MAX: u32 = 30;
const LOCK_RETRY_DELAY: Duration = Duration::from_secs(4);

/// How often a migration is tried that fails otherwise. Of several nodes that start at once, all but one fail: the
/// history has each migration once (its primary key), in the transaction that applies it. The others read it
/// again.
const ATTEMPTS_MAX: u32 = 5;
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Applies the pending migrations of a database, and returns their names.
pub async fn migrate(url: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    let mut client = connect(url).await?;
    let applied = run(&mut client, url).await.map_err(|error| open_error(url, error))?;
    citus::distribute_added(&client).await.map_err(|error| open_error(url, error))?;
    Ok(applied)
}

/// The names of the migrations that [`migrate`] would apply.
pub async fn pending_migrations(url: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    pending(&connect(url).await?).await.map_err(|error| open_error(url, error))
}

/// Missing migrations are no error: a later version may have applied more, which this one does not need.
fn runner() -> Runner {
    migrations::postgres().set_abort_missing(false)
}

/// Applies the pending migrations, one after the other, and returns their names. Those that another node applies
/// meanwhile are not among them.
pub(super) async fn run(client: &mut Client, url: &DatabaseUrl) -> Result<Vec<String>, String> {
    let mut all_applied = Vec::new();
    let mut attempts = Attempts::default();
    // Most starts find none, and a role without the right to create tables suffices for that.
    loop {
        let pending = find_pending(client).await?;
        let Some(next) = pending.first() else { return Ok(all_applied) };
        let failure = match apply_first(client, url, &pending).await {
            Ok(Some(applied)) => {
                all_applied.push(applied);
                continue;
            }
            Ok(None) => Failure::Other("a later one was applied before it".to_owned()),
            Err(failure) => failure,
        };
        let Some(delay) = attempts.count(next, &failure) else {
            return Err(format!("the migration {next} cannot be applied: {failure}"));
        };
        tokio::time::sleep(delay).await;
    }
}

/// Applies the first of the pending migrations, and returns its name. `None` if another node has applied it
/// meanwhile.
///
/// The indexes of all of them come first: their builds take long, and a migration may stop the pushes of nodes of
/// the version before.
async fn apply_first(
    client: &mut Client,
    url: &DatabaseUrl,
    pending: &[Migration],
) -> Result<Option<String>, Failure> {
    for index in pending.iter().filter_map(Index::of) {
        index.build(client, url).await.map_err(Failure::Other)?;
    }
    let version = pending.first().map_or(0, Migration::version);
    let one = runner().set_target(Target::Version(version));
    let report = one.run_async(&mut Session(client)).await.map_err(|error| Failure::of(&error))?;
    Ok(report.applied_migrations().first().map(ToString::to_string))
}

/// Why a migration was not applied.
#[derive(Debug)]
enum Failure {
    /// A transaction has kept a lock for longer than [`LOCK_TIMEOUT`].
    Locked(String),
    Other(String),
}

impl Failure {
    fn of(error: &refinery_core::Error) -> Self {
        let message = with_causes(error);
        let cause = match error.kind() {
            Kind::Connection(_, cause) => cause.downcast_ref::<Error>(),
            _ => None,
        };
        match cause.and_then(Error::code) {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Self::Locked(message),
            _ => Self::Other(message),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked(message) => write!(
                f,
                "a transaction keeps a lock on the table: end it (see `pg_locks`), and try again \
                 ({message})"
            ),
            Self::Other(message) => f.write_str(message),
        }
    }
}

/// Failed attempts at one migration.
#[derive(Debug, Default)]
struct Attempts {
    version: Option<SchemaVersion>,
    locked: u32,
    other: u32,
}

impl Attempts {
    /// Counts a failure of a migration. Returns the pause before its next attempt; `None` if there is none.
    fn count(&mut self, migration: &Migration, failure: &Failure) -> Option<Duration> {
        if self.version != Some(migration.version()) {
            *self = Self { version: Some(migration.version()), ..Self::default() };
        }
        match failure {
            Failure::Locked(_) => {
                self.locked += 1;
                tracing::warn!(%migration, "a migration waits for a transaction that uses the table");
                (self.locked < LOCK_ATTEMPTS_MAX).then_some(LOCK_RETRY_DELAY)
            }
            Failure::Other(error) => {
                self.other += 1;
                tracing::debug!(%migration, error, "a migration is tried again: another node may be applying it");
                (self.other < ATTEMPTS_MAX).then_some(RETRY_DELAY)
            }
        }
    }
}

/// A connection on which refinery's transactions wait for locks for [`LOCK_TIMEOUT`] only.
struct Session<'a>(&'a mut Client);

impl AsyncTransaction for Session<'_> {
    type Error = Error;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, Error> {
        let transaction = self.0.transaction().await?;
        // For Citus, which then passes on the next setting; elsewhere it means nothing.
        transaction.batch_execute("set local citus.propagate_set_commands = 'local'").await?;
        let timeout = format!("set local lock_timeout = {}", LOCK_TIMEOUT.as_millis());
        transaction.batch_execute(&timeout).await?;
        let mut count = 0;
        for query in queries {
            transaction.batch_execute(query).await?;
            count += 1;
        }
        transaction.commit().await?;
        Ok(count)
    }
}

impl AsyncQuery<Vec<Migration>> for Session<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Error> {
        self.0.query(query).await
    }
}

impl AsyncMigrate for Session<'_> {}

/// The names of the pending migrations.
pub(super) async fn pending(client: &Client) -> Result<Vec<String>, String> {
    Ok(find_pending(client).await?.iter().map(ToString::to_string).collect())
}

/// The pending migrations in their order.
async fn find_pending(client: &Client) -> Result<Vec<Migration>, String> {
    let applied = applied(client).await.map_err(|error| describe(&error))?;
    let mut all = runner().get_migrations().clone();
    all.retain(|migration| !applied.contains(&migration.version().to_string()));
    Ok(all)
}

/// The versions in the history, or none if there is no history.
async fn applied(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    let exists = "select to_regclass('refinery_schema_history') is not null";
    if column(client, exists).await? != ["t"] {
        return Ok(Vec::new());
    }
    column(client, "select version from refinery_schema_history order by version").await
}

async fn column(client: &Client, query: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    Ok(first_column(&client.simple_query(query).await?))
}

/// The error with its causes: refinery's message does not include the database's.
fn with_causes(error: &refinery_core::Error) -> String {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::index_build::statement;

    /// Citus rejects a message with several statements that concern a distributed table. The first
    /// migration creates the tables, so they are not distributed yet.
    #[test]
    fn each_later_migration_is_one_statement() {
        for migration in runner().get_migrations().iter().filter(|one| one.version() > 1) {
            let code = statement(migration.sql().unwrap_or_default());
            let statements = code.split(';').filter(|text| !text.trim().is_empty()).count();
            assert_eq!(statements, 1, "{migration}: one file for each statement");
        }
    }
}
