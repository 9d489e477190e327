//! Migrations beside nodes of the version before: what they wait for, and what waits for them.

use futures_util::future::try_join_all;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use vaultsync_store::{DatabaseUrl, OpenError, migrate, pending_migrations};
use vaultsync_test_servers::query;

use crate::{dsl::until, upgrades::old_database};

/// Whether the indexes that migrations create are complete.
const ARE_VALID: &str = "select count(*) = 3 from pg_index where indisvalid and indexrelid in
     ('vaults_user'::regclass, 'records_tombstones'::regclass, 'vaults_erasing'::regclass)";

/// Another client of the database, with a transaction that has run `sql`.
async fn transaction(psql: &str, sql: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(psql, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client.batch_execute(&format!("begin; {sql}")).await.expect("it runs");
    client
}

async fn pending(url: &DatabaseUrl) -> Vec<String> {
    pending_migrations(url).await.expect("the database responds")
}

fn start_migration(url: &DatabaseUrl) -> JoinHandle<Result<Vec<String>, OpenError>> {
    let url = url.clone();
    tokio::spawn(async move { migrate(&url).await })
}

/// A dump of the database, for example, has read from a table and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_waits_for_a_long_reader_lets_others_through() {
    let (url, psql) = old_database();
    let all = pending(&url).await;
    let reader = transaction(&psql, "select count(*) from records").await;
    let migrating = start_migration(&url);
    let waits = "select count(*) > 0 from pg_locks where relation = 'records'::regclass
         and mode = 'AccessExclusiveLock' and not granted";
    until(&psql, waits).await;
    // The migration before it is complete, and holds no lock.
    assert_eq!(pending(&url).await, all[1..]);
    query(&psql, "set statement_timeout = '1s'; select count(*) from vaults");
    // This one waits behind it.
    query(&psql, "set statement_timeout = '20s'; select count(*) from records");
    assert!(!migrating.is_finished());
    reader.batch_execute("commit").await.expect("it commits");
    let applied = migrating.await.expect("no panic").expect("the migration succeeds");
    assert_eq!(applied, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_go_on_while_an_index_is_built() {
    let (url, psql) = old_database();
    let all = pending(&url).await;
    let push = "update vaults set clock = clock + 1 where subject =";
    let first = transaction(&psql, &format!("{push} 'ada'")).await;
    let migrating = start_migration(&url);
    let waits = "select count(*) > 0 from pg_stat_activity
         where query like 'create index%' and wait_event_type = 'Lock'
         and datname = current_database()";
    until(&psql, waits).await;
    query(&psql, &format!("set statement_timeout = '10s'; {push} 'ben'"));
    assert_eq!(pending(&url).await, all);
    first.batch_execute("commit").await.expect("it commits");
    let applied = migrating.await.expect("no panic").expect("the migration succeeds");
    assert_eq!(applied, all);
    assert_eq!(query(&psql, ARE_VALID).trim(), "t");
}

/// The rest of a build that was interrupted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_index_is_built_again() {
    let (url, psql) = old_database();
    query(&psql, "create index vaults_user on vaults (issuer, subject)");
    query(
        &psql,
        "update pg_index set indisvalid = false where indexrelid = 'vaults_user'::regclass",
    );
    migrate(&url).await.expect("the migration succeeds");
    assert_eq!(query(&psql, ARE_VALID).trim(), "t");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_nodes_may_migrate_at_once() {
    let (url, psql) = old_database();
    let mut all = pending(&url).await;
    all.sort();
    let update = "update vaults set clock = clock where subject = 'ada'";
    let first = transaction(&psql, update).await;
    let migrating: Vec<_> = (0..6).map(|_| start_migration(&url)).collect();
    let one_builds = "select count(*) filter (where query like 'create index%') = 1
           and count(*) filter (where query like '%lock table%' or query = 'rollback') = 6
         from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    until(&psql, one_builds).await;
    first.batch_execute("commit").await.expect("it commits");
    let mut applied = Vec::new();
    for migrated in try_join_all(migrating).await.expect("no panic") {
        applied.extend(migrated.expect("the migration succeeds"));
    }
    applied.sort();
    assert_eq!(applied, all, "each is applied once");
    assert_eq!(query(&psql, ARE_VALID).trim(), "t");
}
