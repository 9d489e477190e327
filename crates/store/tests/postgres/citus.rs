//! Citus: distribution of the tables, checks of its nodes, and statements that one node can run.
//!
//! Most tests run on a plain PostgreSQL with stand-ins for the functions of Citus (`citus_stub.sql`), which
//! shows what is sent and not what Citus does with it. The last ones run only if
//! `VAULTSYNC_TEST_CITUS_URL` is the database of a Citus coordinator, without servers; they change it.

use vaultsync_store::{
    DatabaseUrl, PostgresOptions, distribute, hot_statements, migrate, pending_distribution,
};
use vaultsync_test_servers::{query, shared_postgres};

use crate::{
    dsl::{
        new_database, open, options_for, pull_all, push, push_applied, try_open, try_page, user,
    },
    plans::explained,
};

/// A database with the tables and the stand-ins.
struct Stub {
    url: DatabaseUrl,
    psql: String,
    name: String,
}

impl Stub {
    async fn new() -> Self {
        let url = new_database();
        let name = url.to_string().rsplit('/').next().expect("a name").to_owned();
        let psql = shared_postgres().url(&name);
        migrate(&url).await.expect("the migration succeeds");
        query(&psql, include_str!("citus_stub.sql"));
        let stub = Self { url, psql, name };
        // Its presence is how Citus is recognized.
        stub.set("citus.shard_count", "32");
        stub
    }

    /// Changes a setting of new sessions.
    fn set(&self, name: &str, value: &str) {
        self.query(&format!("alter database {} set {name} = '{value}'", self.name));
    }

    fn query(&self, sql: &str) -> String {
        query(&self.psql, sql)
    }

    fn distributed(&self) -> String {
        let tables = "select string_agg(logicalrelid::text, ' ' order by logicalrelid::text)
             from pg_dist_partition";
        self.query(tables).trim().to_owned()
    }

    async fn distribute(&self) -> Result<Vec<String>, String> {
        distribute(&self.url).await.map_err(|error| error.to_string())
    }
}

const ALL: &str = "deployment erased_epochs records refinery_schema_history revisions vaults";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_distributed_once_and_the_command_may_be_repeated() {
    let stub = Stub::new().await;
    let pending = pending_distribution(&stub.url).await.expect("the database responds");
    let done = stub.distribute().await.expect("the tables are distributed");
    assert_eq!(done, pending);
    assert_eq!((done.len(), stub.distributed().as_str()), (6, ALL));
    for _ in 0..2 {
        assert_eq!(stub.distribute().await, Ok(vec![]));
        assert_eq!(pending_distribution(&stub.url).await.expect("it responds"), [] as [&str; 0]);
    }
    for table in ALL.split(' ') {
        stub.query(&format!(
            "delete from pg_dist_partition where logicalrelid = '{table}'::regclass"
        ));
        let done = stub.distribute().await.expect("it continues");
        assert_eq!((done.len(), stub.distributed().as_str()), (1, ALL), "{table}");
        assert!(done[0].contains(table), "{done:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_distribution_that_fails_distributes_no_table_of_vaults_and_may_be_repeated() {
    for table in ["vaults", "records", "revisions", "erased_epochs"] {
        let stub = Stub::new().await;
        stub.set("stub.fails_at", table);
        let failed = stub.distribute().await.expect_err("the copy fails");
        assert!(failed.contains(&format!("the copy of {table} fails")), "{failed}");
        assert_eq!(stub.distributed(), "deployment refinery_schema_history");
        stub.set("stub.fails_at", "nothing");
        stub.distribute().await.expect("the second run succeeds");
        assert_eq!(stub.distributed(), ALL);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_not_distributed_while_a_server_is_connected() {
    let stub = Stub::new().await;
    let store = open(options_for(vec![stub.url.clone()])).await;
    let vault = user();
    push_applied(&store, &vault, &[("a", None, "v1")]).await;
    let refused = stub.distribute().await.expect_err("a server is connected");
    assert!(refused.contains("stop every `vaultsync serve`"), "{refused}");
    assert_eq!(stub.distributed(), "");
    store.close().await;
    drop(store);
    stub.distribute().await.expect("no server is connected");
    // With nothing left to move, servers do not matter.
    let store = open(options_for(vec![stub.url.clone()])).await;
    assert_eq!(stub.distribute().await, Ok(vec![]));
    push_applied(&store, &vault, &[("a", Some(1), "v2")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partly_distributed_tables_are_not_served_from() {
    for table in ["vaults", "records"] {
        let stub = Stub::new().await;
        stub.query(&format!("insert into pg_dist_partition values ('{table}', 'h')"));
        let refused = try_open(options_for(vec![stub.url.clone()])).await.expect_err("in part");
        assert!(refused.to_string().contains("migrate --citus` again"), "{refused}");
        stub.distribute().await.expect("it continues");
        open(options_for(vec![stub.url.clone()])).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_must_keep_what_it_acknowledged() {
    let stub = Stub::new().await;
    let options = options_for(vec![stub.url.clone()]);
    for (worker, reason) in [
        ("off,on,f", "fsync=off"),
        ("on,off,f", "synchronous_commit=off"),
        ("on,local,t", "synchronous_commit=local"),
    ] {
        stub.set("stub.worker", worker);
        let refused = try_open(options.clone()).await.expect_err("a node can lose writes");
        let refused = refused.to_string();
        assert!(refused.contains(&format!("on worker:5432, {reason}")), "{refused}");
        open(PostgresOptions { allow_unsafe: true, ..options.clone() }).await;
    }
    // A node that does not respond is no reason.
    stub.set("stub.worker", "on,local,f");
    open(options).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_pulls_and_checks_work_with_the_statements_for_citus() {
    let stub = Stub::new().await;
    stub.distribute().await.expect("the tables are distributed");
    for prepare in [true, false] {
        let options = PostgresOptions { prepare, ..options_for(vec![stub.url.clone()]) };
        let (store, vault) = (open(options).await, user());
        push_applied(&store, &vault, &[("a", None, "v1"), ("b", None, "v1")]).await;
        push_applied(&store, &vault, &[("a", Some(1), "v2")]).await;
        push_applied(&store, &vault, &[("a", Some(1), "v2")]).await;
        push(&store, &vault, &[("a", None, "other")]).await.expect("an outcome");
        assert_eq!(pull_all(&store, &vault).await.len(), 2);
        store.check().await.expect("the check passes");
        store.close().await;
    }
}

/// The coordinator's address, if there is a Citus to test with.
fn citus() -> Option<(String, DatabaseUrl)> {
    let Ok(text) = std::env::var("VAULTSYNC_TEST_CITUS_URL") else {
        println!("not run: VAULTSYNC_TEST_CITUS_URL is not set");
        return None;
    };
    let url = text.parse().expect("an address");
    Some((text, url))
}

/// One test, because its parts change the same tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_citus_the_tables_are_distributed_migrated_and_served_by_single_nodes() {
    let Some((psql, url)) = citus() else { return };
    migrate(&url).await.expect("the migration succeeds");
    distribute(&url).await.expect("the tables are distributed");
    assert_eq!(distribute(&url).await.expect("a second run succeeds"), [] as [&str; 0]);
    assert!(migrate(&url).await.expect("the schema is up to date").is_empty());
    check_migrations_of_distributed_tables(&psql);

    let (store, vault) = (open(options_for(vec![url])).await, user());
    push_applied(&store, &vault, &[("a", None, "v1"), ("b", None, "v1")]).await;
    push_applied(&store, &vault, &[("a", Some(1), "v2")]).await;
    push_applied(&store, &vault, &[("a", Some(1), "v2")]).await;
    push(&store, &vault, &[("a", None, "other")]).await.expect("an outcome");
    assert_eq!(try_page(&store, &vault, None, 10).await.expect("a page").records.len(), 2);
    store.check().await.expect("the check passes");

    let nodes = "select count(*) > 1 and bool_and(success) from run_command_on_all_nodes(
         $$select current_setting('fsync') || current_setting('synchronous_commit')$$)";
    assert_eq!(query(&psql, nodes).trim(), "t", "every node can be asked for its settings");

    for (name, plan) in explained(&psql, &hot_statements(), "") {
        assert!(plan.contains("Task Count: 1"), "{name}: {plan}");
        assert!(!plan.contains("pull to coordinator"), "{name}: {plan}");
    }
}

/// A migration of distributed tables, one statement at a time.
fn check_migrations_of_distributed_tables(psql: &str) {
    for statement in [
        "alter table records add column test_only int",
        "create index test_only on records (vault_id, test_only)",
        "insert into refinery_schema_history values (9999, 'test', '2030-01-01T00:00:00Z', '1')",
        "delete from refinery_schema_history where version = 9999",
        "drop index test_only",
        "alter table records drop column test_only",
    ] {
        query(psql, statement);
    }
}
