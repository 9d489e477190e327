//! Indexes of tables that have rows, built without blocking pushes.
//!
//! `create index` blocks writes until it has read the table. `create index concurrently` does not, but cannot be
//! part of a transaction, and leaves an invalid index behind if it is interrupted. So the indexes of migrations are
//! built before the migrations, which then find them. Each step may be repeated.

use std::time::Duration;

use refinery_core::Migration;
use tokio_postgres::{Client, Error, error::SqlState};

use super::{connection::first_column, migrate::HISTORY};
use crate::postgres_client::{DatabaseUrl, connect, describe};

/// How often a node looks whether another one has built the index.
const TURN_RETRY_DELAY: Duration = Duration::from_millis(500);

/// What an index migration looks like.
const CREATE: &str = "create index if not exists ";

/// The index that a migration creates.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Index {
    name: String,
    table: String,
    /// As in `create index DEFINITION`.
    definition: String,
}

/// A node's turn to build an index: one builds it, and the others wait. It ends when this is dropped.
struct Turn {
    _client: Client,
}

impl Index {
    /// `None` if the migration is no index migration.
    pub(super) fn of(migration: &Migration) -> Option<Self> {
        let statement = statement(migration.sql().unwrap_or_default());
        let definition = statement.strip_prefix(CREATE)?.trim_end().trim_end_matches(';');
        let (name, rest) = definition.split_once(" on ")?;
        let table = rest.split([' ', '(']).next()?;
        Some(Self {
            name: name.to_owned(),
            table: table.to_owned(),
            definition: definition.to_owned(),
        })
    }

    /// Builds the index, unless it is complete or the table is empty. Does nothing if the table or a column of
    /// the index is missing, because a migration before it is pending.
    pub(super) async fn build(&self, client: &Client, url: &DatabaseUrl) -> Result<(), String> {
        let has_rows = format!("select exists (select from {})", self.table);
        match value(client, &has_rows).await {
            Ok(has_rows) if has_rows.as_deref() == Some("t") => {}
            Err(error) if error.code() != Some(&SqlState::UNDEFINED_TABLE) => {
                return Err(describe(&error));
            }
            _ => return Ok(()),
        }
        let _turn = Turn::take(url).await?;
        match self.build_now(client).await {
            Err(error) if error.code() != Some(&SqlState::UNDEFINED_COLUMN) => {
                Err(describe(&error))
            }
            _ => Ok(()),
        }
    }

    async fn build_now(&self, client: &Client) -> Result<(), Error> {
        let Self { name, definition, .. } = self;
        let is_valid =
            format!("select indisvalid from pg_index where indexrelid = to_regclass('{name}')");
        match value(client, &is_valid).await?.as_deref() {
            Some("t") => return Ok(()),
            // Left behind by a build that was interrupted.
            Some(_) => client.batch_execute(&format!("drop index concurrently {name}")).await?,
            None => {}
        }
        tracing::info!(index = name, "an index is built; pushes and pulls go on");
        // Not `set local`, because there is no transaction. A role may have timeouts of its own, and the build
        // waits for all transactions that began before it.
        client.batch_execute("set statement_timeout = 0; set lock_timeout = 0").await?;
        let built = client.batch_execute(&format!("create index concurrently {definition}")).await;
        client.batch_execute("reset statement_timeout; reset lock_timeout").await?;
        built
    }
}

impl Turn {
    /// Waits until no other node builds an index, however long that takes.
    ///
    /// Two builds at once would wait for each other. A build also waits for all earlier snapshots, and a
    /// statement that waits for a lock has one, so this tries again and again instead.
    async fn take(url: &DatabaseUrl) -> Result<Self, String> {
        let client = connect(url).await.map_err(|error| error.to_string())?;
        let lock = format!(
            "begin; set local idle_in_transaction_session_timeout = 0;
             lock table {HISTORY} in share update exclusive mode nowait"
        );
        while let Err(error) = client.batch_execute(&lock).await {
            if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) {
                return Err(describe(&error));
            }
            tracing::debug!("another node builds an index");
            client.batch_execute("rollback").await.map_err(|error| describe(&error))?;
            tokio::time::sleep(TURN_RETRY_DELAY).await;
        }
        Ok(Self { _client: client })
    }
}

/// The text of a migration without comments.
pub(super) fn statement(sql: &str) -> String {
    let lines = sql.lines().filter_map(|line| line.split("--").next()).map(str::trim_end);
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

async fn value(client: &Client, query: &str) -> Result<Option<String>, Error> {
    Ok(first_column(&client.simple_query(query).await?).pop())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations;

    #[test]
    fn an_index_migration_names_its_index_and_table() {
        let sql = "-- why\ncreate index if not exists by_user on vaults (issuer, subject);\n";
        let migration = Migration::unapplied("V7__by_user", sql).unwrap();
        let expected = Index {
            name: "by_user".to_owned(),
            table: "vaults".to_owned(),
            definition: "by_user on vaults (issuer, subject)".to_owned(),
        };
        assert_eq!(Index::of(&migration), Some(expected));
    }

    /// Any other way to create an index would block the pushes of nodes that serve. A new table is empty.
    #[test]
    fn each_later_migration_that_creates_an_index_is_an_index_migration() {
        for migration in migrations::postgres().get_migrations().iter().skip(1) {
            let sql = statement(migration.sql().unwrap_or_default()).to_lowercase();
            let creates = ["index", "unique", "primary key"].iter().any(|word| sql.contains(word));
            let creates = creates && !sql.starts_with("create table");
            assert_eq!(Index::of(migration).is_some(), creates, "{migration}");
        }
    }
}
