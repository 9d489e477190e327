//! What only Citus needs: the distribution of the tables over its nodes, and checks of all nodes.
//!
//! Not here: statements of pushes and pulls, which are the same on Citus.

use std::time::Duration;

use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::{
    connection::first_column,
    migrate::HISTORY,
    open::{Durability, Settings},
};
use crate::{
    OpenError,
    postgres_client::{DatabaseUrl, connect, describe, open_error},
};

/// Small tables, of which each node has a copy.
const REFERENCE_TABLES: [&str; 2] = ["deployment", HISTORY];

/// Tables that are distributed by vault, each beside the first.
const VAULT_TABLES: [&str; 4] = ["vaults", "records", "revisions", "erased_epochs"];

/// The number of shards of a table. The cost of planning grows with it.
const SHARDS: u32 = 32;

/// How often the connections of servers are counted, before the conversion is refused. The connection of
/// a command that has just ended is listed for a moment.
const ATTEMPTS_MAX: u32 = 10;
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// How the tables of a database are distributed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Distribution {
    /// The database has no Citus.
    NoCitus,
    /// These tables are distributed.
    Tables(Vec<String>),
}

impl Distribution {
    pub(super) async fn read(client: &Client) -> Result<Self, Error> {
        let has_citus = "select to_regclass('pg_dist_partition') is not null";
        if column(client, has_citus).await? != ["t"] {
            return Ok(Self::NoCitus);
        }
        let quoted = |tables: &[&str]| {
            tables.iter().map(|table| format!("'{table}'")).collect::<Vec<_>>().join(", ")
        };
        let (references, by_vault) = (quoted(&REFERENCE_TABLES), quoted(&VAULT_TABLES));
        let tables = format!(
            "select t.name from unnest(array[{references}, {by_vault}]) t (name)
             join pg_dist_partition p on p.logicalrelid = to_regclass(t.name)
             where t.name in ({references}) or p.partmethod = 'h'"
        );
        column(client, &tables).await.map(Self::Tables)
    }

    fn has(&self, table: &str) -> bool {
        matches!(self, Self::Tables(tables) if tables.iter().any(|name| name == table))
    }

    /// Whether only some of the tables that belong together are distributed. Pushes and pulls are not
    /// correct then: a page and the vault's row would be of different moments.
    pub(super) fn is_partial(&self) -> bool {
        let distributed = VAULT_TABLES.iter().filter(|table| self.has(table)).count();
        (1..VAULT_TABLES.len()).contains(&distributed)
    }

    /// Whether the tables that servers of every version use are distributed. Others were added since, and no
    /// server has used them.
    fn is_of_an_older_version(&self) -> bool {
        self.has("vaults") && self.has("records")
    }

    /// The statements that are still to be run.
    fn steps(&self) -> Steps {
        let extension = match self {
            Self::NoCitus => Some("create extension if not exists citus".to_owned()),
            Self::Tables(_) => None,
        };
        let references = REFERENCE_TABLES.into_iter().filter(|table| !self.has(table));
        let references =
            references.map(|table| format!("select create_reference_table('{table}')"));
        let mut first = VAULT_TABLES.into_iter().find(|table| self.has(table));
        let mut together = Vec::new();
        for table in VAULT_TABLES.into_iter().filter(|table| !self.has(table)) {
            let beside = match first {
                Some(first) => format!("colocate_with => '{first}'"),
                None => format!("shard_count => {SHARDS}, colocate_with => 'none'"),
            };
            first = first.or(Some(table));
            together
                .push(format!("select create_distributed_table('{table}', 'vault_id', {beside})"));
        }
        Steps {
            extension: extension.into_iter().collect(),
            references: references.collect(),
            together,
        }
    }
}

/// Statements that distribute the tables.
struct Steps {
    extension: Vec<String>,
    /// Each in a transaction of its own.
    references: Vec<String>,
    /// In one transaction, so that no server ever finds one table distributed and the other not.
    together: Vec<String>,
}

impl Steps {
    fn into_all(self) -> Vec<String> {
        [self.extension, self.references, self.together].concat()
    }
}

/// Distributes the tables by vault over the nodes of a Citus cluster, and returns the statements that were
/// run. No migration may be pending, and no server may be connected: it would wait for the whole copy, and
/// its clients with it. Tables that are distributed already stay as they are, so it can be repeated.
pub async fn distribute(url: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    let client = connect(url).await?;
    distribute_tables(&client).await.map_err(|message| open_error(url, message))
}

/// The statements that [`distribute`] would run.
pub async fn pending_distribution(url: &DatabaseUrl) -> Result<Vec<String>, OpenError> {
    let client = connect(url).await?;
    let read = Distribution::read(&client).await;
    Ok(read.map_err(|error| open_error(url, describe(&error)))?.steps().into_all())
}

async fn distribute_tables(client: &Client) -> Result<Vec<String>, String> {
    let of = |error: Error| describe(&error);
    let distribution = Distribution::read(client).await.map_err(of)?;
    let steps = distribution.steps();
    for statement in &steps.extension {
        client.batch_execute(statement).await.map_err(of)?;
    }
    if !steps.together.is_empty() && !distribution.is_of_an_older_version() {
        refuse_servers(client).await?;
    }
    for statement in &steps.references {
        client.batch_execute(statement).await.map_err(of)?;
    }
    if !steps.together.is_empty() {
        client.batch_execute("begin").await.map_err(of)?;
        // Citus requires it for several tables in one transaction.
        let sequential = "set local citus.multi_shard_modify_mode = 'sequential'";
        client.batch_execute(sequential).await.map_err(of)?;
        for statement in &steps.together {
            client.batch_execute(statement).await.map_err(of)?;
        }
        client.batch_execute("commit").await.map_err(of)?;
    }
    Ok(steps.into_all())
}

/// Distributes the tables that a migration has added to a distributed database, beside servers of the version
/// before.
pub(super) async fn distribute_added(client: &Client) -> Result<(), String> {
    let distribution = Distribution::read(client).await.map_err(|error| describe(&error))?;
    if distribution.is_of_an_older_version() && distribution.is_partial() {
        distribute_tables(client).await?;
    }
    Ok(())
}

async fn refuse_servers(client: &Client) -> Result<(), String> {
    let mut attempt = 1;
    loop {
        let servers = column(
            client,
            "select count(*) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()
               and application_name in ('vaultsync', current_setting('application_name'))",
        );
        let servers = servers.await.map_err(|error| describe(&error))?.pop().unwrap_or_default();
        if servers == "0" {
            return Ok(());
        }
        if attempt == ATTEMPTS_MAX {
            return Err(format!(
                "the tables cannot be distributed while servers are connected, and {servers} \
                 connections of servers are open: stop every `vaultsync serve` on this database, and \
                 run the command again"
            ));
        }
        tokio::time::sleep(RETRY_DELAY).await;
        attempt += 1;
    }
}

/// Checks that every node keeps what it acknowledges. A node that does not respond is reported in the
/// log: it may be down, and others can serve.
pub(super) async fn check_nodes(client: &Client) -> Result<(), String> {
    let read = client
        .simple_query(&format!(
            "select coalesce(n.nodename || ':' || n.nodeport, 'the node that was asked'),
               r.success, r.result
             from run_command_on_all_nodes($command${}$command$) r
             left join pg_dist_node n on n.nodeid = r.nodeid",
            Durability::QUERY
        ))
        .await;
    let messages = match read {
        Ok(messages) => messages,
        Err(error) => {
            let error = describe(&error);
            tracing::warn!(error, "the durability settings of the Citus nodes cannot be checked");
            return Ok(());
        }
    };
    for message in &messages {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let (node, result) = (row.get(0).unwrap_or_default(), row.get(2).unwrap_or_default());
        if row.get(1) == Some("t") {
            Durability::parse(result).check().map_err(|reason| format!("on {node}, {reason}"))?;
        } else {
            tracing::warn!(
                node,
                result,
                "the durability settings of a Citus node cannot be checked"
            );
        }
    }
    Ok(())
}

/// Logs a warning if NOTIFY is sent to a node of Citus that is not the coordinator. Nodes do not pass it
/// on, so servers that name different nodes do not notify each other, and nothing else would show that.
pub(super) async fn check_notify(url: &DatabaseUrl) {
    let Ok(client) = connect(url).await else { return };
    let is_worker = "select count(*) > 0 from pg_dist_local_group where groupid <> 0";
    if column(&client, is_worker).await.is_ok_and(|found| found == ["t"]) {
        tracing::warn!(
            address = %url,
            "NOTIFY goes to a Citus worker, and reaches only servers that name the same one: set \
             `notify_database` to the coordinator's address on every server, or set `nats_url`"
        );
    }
}

/// Whether a machine with Citus is behind a connection, and whether its tables can be served from.
pub(super) async fn check(
    client: &Client,
    settings: &Settings,
) -> Result<Result<(), String>, Error> {
    if !settings.has_citus || !Distribution::read(client).await?.is_partial() {
        return Ok(Ok(()));
    }
    Ok(Err("its tables are distributed in part: stop every `vaultsync serve` on it, and run `vaultsync \
            migrate --citus` again"
        .to_owned()))
}

async fn column(client: &Client, query: &str) -> Result<Vec<String>, Error> {
    Ok(first_column(&client.simple_query(query).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_steps(distribution: &Distribution, expected: &[&str]) {
        let steps = distribution.steps().into_all();
        let short: Vec<_> = steps.iter().map(|step| short(step)).collect();
        assert_eq!(short, expected);
    }

    /// A step without what all have in common.
    fn short(step: &str) -> String {
        step.replace("select create_", "").replace(", 'vault_id'", "").replace("=> ", "")
    }

    fn tables(tables: &[&str]) -> Distribution {
        Distribution::Tables(tables.iter().map(|&table| table.to_owned()).collect())
    }

    #[test]
    fn a_distribution_continues_from_any_point() {
        let deployment = "reference_table('deployment')";
        let history = "reference_table('refinery_schema_history')";
        let vaults = "distributed_table('vaults', shard_count 32, colocate_with 'none')";
        let beside = |table| format!("distributed_table('{table}', colocate_with 'vaults')");
        let (records, revisions, erased) =
            (&*beside("records"), &*beside("revisions"), &*beside("erased_epochs"));
        let added = [revisions, erased];
        let all = [deployment, history, vaults, records, revisions, erased];
        let extension = "create extension if not exists citus";
        check_steps(&Distribution::NoCitus, &[&[extension], &all[..]].concat());
        check_steps(&tables(&[]), &all);
        check_steps(&tables(&["deployment"]), &all[1..]);
        check_steps(&tables(&["deployment", HISTORY]), &all[2..]);
        check_steps(&tables(&["deployment", HISTORY, "vaults"]), &all[3..]);
        let others = ["vaults", "revisions", "erased_epochs"]
            .map(|table| format!("distributed_table('{table}', colocate_with 'records')"));
        let others = others.each_ref().map(|other| &**other);
        check_steps(&tables(&["deployment", HISTORY, "records"]), &others);
        check_steps(&tables(&["records", HISTORY, "vaults", "deployment"]), &added);
        let every = [&REFERENCE_TABLES[..], &VAULT_TABLES].concat();
        check_steps(&tables(&every), &[]);
    }

    #[test]
    fn the_tables_of_vaults_are_served_together_or_not_at_all() {
        assert!(!Distribution::NoCitus.is_partial() && !tables(&[]).is_partial());
        assert!(!tables(&VAULT_TABLES).is_partial());
        assert!(!tables(&["deployment", HISTORY]).is_partial());
        for some in [&VAULT_TABLES[..1], &VAULT_TABLES[1..], &VAULT_TABLES[..2]] {
            assert!(tables(some).is_partial(), "{some:?}");
        }
    }
}
