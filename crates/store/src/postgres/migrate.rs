//! Migrations, and the distribution of the tables on Citus.
//!
//! Migrations only add: nodes of the previous version keep serving beside those of this one.

use std::time::Duration;

use refinery_core::Runner;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{
    OpenError, migrations,
    postgres_client::{DatabaseUrl, connect, describe, open_error},
};

/// Refinery's table of applied migrations.
const HISTORY: &str = "refinery_schema_history";

/// How often a run is tried. Of several nodes that start at once, all but one fail: the history has each
/// migration once (its primary key), in the transaction that applies it. The others read it again.
const ATTEMPTS_MAX: u32 = 5;
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Applies the pending migrations of a database, and returns their names.
pub async fn migrate(url: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    run(&mut connect(url).await?).await.map_err(|error| open_error(url, error))
}

/// The names of the migrations that [`migrate`] would apply.
pub async fn pending_migrations(url: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    pending(&connect(url).await?).await.map_err(|error| open_error(url, error))
}

/// Distributes the tables by vault over the nodes of a Citus cluster, and returns the statements that were
/// run. No migration may be pending. Tables that are distributed already stay as they are.
pub async fn distribute(url: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    distribute_tables(&connect(url).await?).await.map_err(|error| open_error(url, describe(&error)))
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
    if first_column(client, exists).await? != ["t"] {
        return Ok(Vec::new());
    }
    first_column(client, "select version from refinery_schema_history order by version").await
}

async fn distribute_tables(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    client.batch_execute("create extension if not exists citus").await?;
    let distributed = first_column(
        client,
        "select logicalrelid::text from pg_dist_partition
         where logicalrelid::text in
           ('vaults', 'records', 'deployment', 'refinery_schema_history')",
    )
    .await?;
    // The concurrent variant moves rows without a pause, but needs wal_level=logical.
    let has_rows = first_column(client, "select exists (select from vaults)").await? == ["t"];
    let function =
        if has_rows { "create_distributed_table_concurrently" } else { "create_distributed_table" };
    let vaults = format!(
        "select {function}('vaults', 'vault_id', shard_count => 32, colocate_with => 'none')"
    );
    let records = format!("select {function}('records', 'vault_id', colocate_with => 'vaults')");
    let mut statements = Vec::new();
    for (table, statement) in [
        // Small, and read on every node: each node has a copy.
        ("deployment", "select create_reference_table('deployment')"),
        (HISTORY, "select create_reference_table('refinery_schema_history')"),
        ("vaults", vaults.as_str()),
        ("records", records.as_str()),
    ] {
        if !distributed.iter().any(|name| name == table) {
            client.batch_execute(statement).await?;
            statements.push(statement.to_owned());
        }
    }
    Ok(statements)
}

async fn first_column(client: &Client, query: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    let values = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(values.collect())
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
