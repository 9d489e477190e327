//! Bringing the tables up to date, and onto Citus.
//!
//! Migrations only add: nodes of the version before serve on beside those of this one.

use std::time::Duration;

use refinery::Runner;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{
    DatabaseUrl,
    db_error::told,
    open::{connect, refused},
};
use crate::OpenError;

mod embedded {
    refinery::embed_migrations!("migrations/postgres");
}

/// Refinery's own table.
const HISTORY: &str = "refinery_schema_history";

/// How often a run is tried. Several nodes that start at once race, and all but one lose: the history
/// has each migration once (its primary key), in the transaction that applies it. Who lost looks again.
const ATTEMPTS: u32 = 5;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(200);

/// Brings the tables of a database up to date; answers the names of the steps that were taken.
pub async fn migrate(url: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    run(&mut connect(url).await?).await.map_err(|error| refused(url, error))
}

/// The names of the steps that [`migrate`] would take.
pub async fn pending_migrations(url: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    pending(&connect(url).await?).await.map_err(|error| refused(url, error))
}

/// Spreads the tables, which must be up to date, over the nodes of a Citus cluster, by vault; answers
/// the statements that were run. What is spread already stays as it is.
pub async fn distribute(url: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    spread(&connect(url).await?).await.map_err(|error| refused(url, told(&error)))
}

/// A database of a later version is fine: what its migrations added is not needed here.
fn runner() -> Runner {
    embedded::migrations::runner().set_grouped(true).set_abort_missing(false)
}

/// Applies what is missing, all or none; answers the names of what was applied.
pub(super) async fn run(client: &mut Client) -> Result<Vec<String>, String> {
    let mut attempt = 1;
    loop {
        // Most starts find nothing to do, and need no right to create tables for that.
        if pending(client).await?.is_empty() {
            return Ok(Vec::new());
        }
        match runner().run_async(client).await {
            Ok(report) => {
                let applied = report.applied_migrations().iter().map(ToString::to_string);
                return Ok(applied.collect());
            }
            Err(error) if attempt == ATTEMPTS => {
                return Err(format!("its tables cannot be brought up to date: {}", whole(&error)));
            }
            Err(error) => {
                tracing::debug!(error = whole(&error), "another node may be migrating too");
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
                attempt += 1;
            }
        }
    }
}

/// The names of the migrations that are not applied yet.
pub(super) async fn pending(client: &Client) -> Result<Vec<String>, String> {
    let applied = applied(client).await.map_err(|error| told(&error))?;
    let runner = runner();
    let all = runner.get_migrations().iter();
    let missing = all.filter(|migration| !applied.contains(&migration.version().to_string()));
    Ok(missing.map(ToString::to_string).collect())
}

/// The versions in the history; none where there is no history.
async fn applied(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    let exists = "select to_regclass('refinery_schema_history') is not null";
    if first_column(client, exists).await? != ["t"] {
        return Ok(Vec::new());
    }
    first_column(client, "select version from refinery_schema_history order by version").await
}

async fn spread(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    client.batch_execute("create extension if not exists citus").await?;
    let done_before = first_column(
        client,
        "select logicalrelid::text from pg_dist_partition
         where logicalrelid::text in
           ('vaults', 'records', 'deployment', 'refinery_schema_history')",
    )
    .await?;
    // Without a pause only where rows are to be moved: it needs wal_level=logical.
    let has_rows = first_column(client, "select exists (select from vaults)").await? == ["t"];
    let way =
        if has_rows { "create_distributed_table_concurrently" } else { "create_distributed_table" };
    let vaults =
        format!("select {way}('vaults', 'vault_id', shard_count => 32, colocate_with => 'none')");
    let records = format!("select {way}('records', 'vault_id', colocate_with => 'vaults')");
    let mut done = Vec::new();
    for (table, statement) in [
        // Small, and asked for on every node: each has a copy.
        ("deployment", "select create_reference_table('deployment')"),
        (HISTORY, "select create_reference_table('refinery_schema_history')"),
        ("vaults", vaults.as_str()),
        ("records", records.as_str()),
    ] {
        if !done_before.iter().any(|name| name == table) {
            client.batch_execute(statement).await?;
            done.push(statement.to_owned());
        }
    }
    Ok(done)
}

async fn first_column(client: &Client, query: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    let values = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(values.collect())
}

/// The error with its causes: refinery's own words do not have the database's.
fn whole(error: &refinery::Error) -> String {
    let mut told = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}
