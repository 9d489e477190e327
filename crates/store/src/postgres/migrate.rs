//! Migrations.
//!
//! Migrations only add: nodes of the previous version keep serving beside those of this one.
//!
//! Not here: the distribution of the tables on Citus (`citus.rs`).

use std::time::Duration;

use refinery_core::Runner;
use tokio_postgres::Client;

use super::{citus, connection::first_column};
use crate::{
    OpenError, migrations,
    postgres_client::{DatabaseUrl, connect, describe, open_error},
};

/// Refinery's table of applied migrations.
pub(super) const HISTORY: &str = "refinery_schema_history";

/// How often a run is tried. Of several nodes that start at once, all but one fail: the history has each
/// migration once (its primary key), in the transaction that applies it. The others read it again.
const ATTEMPTS_MAX: u32 = 5;
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Applies the pending migrations of a database, and returns their names.
pub async fn migrate(url: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    let mut client = connect(url).await?;
    let applied = run(&mut client).await.map_err(|error| open_error(url, error))?;
    citus::distribute_added(&client).await.map_err(|error| open_error(url, error))?;
    Ok(applied)
}

/// The names of the migrations that [`migrate`] would apply.
pub async fn pending_migrations(url: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    pending(&connect(url).await?).await.map_err(|error| open_error(url, error))
}

/// Missing migrations are no error: a later version may have applied more, which this one does not need.
fn runner() -> Runner {
    migrations::postgres().set_grouped(true).set_abort_missing(false)
}

/// Applies the pending migrations, all or none, and returns their names.
pub(super) async fn run(client: &mut Client) -> Result<Vec<String>, String> {
    let mut attempt = 1;
    loop {
        // Most starts find none, and a role without the right to create tables suffices for that.
        if pending(client).await?.is_empty() {
            return Ok(Vec::new());
        }
        match runner().run_async(client).await {
            Ok(report) => {
                let applied = report.applied_migrations().iter().map(ToString::to_string);
                return Ok(applied.collect());
            }
            Err(error) if attempt == ATTEMPTS_MAX => {
                return Err(format!("its migrations cannot be applied: {}", with_causes(&error)));
            }
            Err(error) => {
                tracing::debug!(
                    error = with_causes(&error),
                    "migrations are tried again: another node may be applying them"
                );
                tokio::time::sleep(RETRY_DELAY).await;
                attempt += 1;
            }
        }
    }
}

/// The names of the pending migrations.
pub(super) async fn pending(client: &Client) -> Result<Vec<String>, String> {
    let applied = applied(client).await.map_err(|error| describe(&error))?;
    let runner = runner();
    let all = runner.get_migrations().iter();
    let pending = all.filter(|migration| !applied.contains(&migration.version().to_string()));
    Ok(pending.map(ToString::to_string).collect())
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

    /// Citus rejects a message with several statements that concern a distributed table. The first
    /// migration creates the tables, so they are not distributed yet.
    #[test]
    fn each_later_migration_is_one_statement() {
        for migration in runner().get_migrations().iter().filter(|one| one.version() > 1) {
            let lines = migration.sql().unwrap_or_default().lines();
            let code: Vec<_> =
                lines.filter_map(|line| line.split("--").next()).map(str::trim_end).collect();
            let code = code.join("\n");
            let statements = code.split(';').filter(|text| !text.trim().is_empty()).count();
            assert_eq!(statements, 1, "{migration}: one file for each statement");
        }
    }
}
