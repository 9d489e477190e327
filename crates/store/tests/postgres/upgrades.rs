//! A PostgreSQL database of an earlier version is upgraded, and what its rows lack is filled beside pushes.

use std::time::Duration;

use vaultsync_store::PostgresOptions;
use vaultsync_test_servers::{query, shared_postgres};

use crate::{
    dsl::{RECOVERY_WITHIN, new_database, open, options_for, push_applied, user},
    upgrade::{check_counters, check_records},
};

const FIXTURE: &str = include_str!("../fixtures/vaultsync-0.2.sql");

/// A new database like that of version 0.2: its address, and the one for `query`.
pub(crate) fn old_database() -> (vaultsync_store::DatabaseUrl, String) {
    let url = new_database();
    let psql = shared_postgres().url(url.to_string().rsplit('/').next().expect("a name"));
    query(&psql, FIXTURE);
    (url, psql)
}

/// Waits until the check of digests is validated, which is the last step.
async fn until_filled(psql: &str) {
    let validated = "select convalidated from pg_constraint where conname = 'records_digest'";
    let filled = async {
        while query(psql, validated).trim() != "t" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(RECOVERY_WITHIN, filled).await.expect("all is filled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_version_0_2_is_upgraded() {
    let (url, psql) = old_database();
    let store = open(options_for(vec![url])).await;
    until_filled(&psql).await;
    let filled =
        "select string_agg(record_id || ' ' || (digest = substr(sha256(ciphertext), 1, 16))
           || ' ' || coalesce(created_at = updated_at, false), ', ' order by record_id, vault_id)
         from records";
    assert_eq!(
        query(&psql, filled).trim(),
        "edited true false, gone true false, kept true true, kept true true, large true true"
    );
    check_records(&store).await;
    check_counters(&store).await;
}

/// While the digests are missing, which another session's lock of the vaults prolongs, they are computed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_without_a_digest_are_served() {
    let (url, psql) = old_database();
    vaultsync_store::migrate(&url).await.expect("the migration succeeds");
    // Nothing finds the vaults to fill.
    query(&psql, "update vaults set live_records = -1");
    let store = open(options_for(vec![url])).await;
    let missing = "select count(*) from records where digest is null";
    assert_eq!(query(&psql, missing).trim(), "5");
    check_records(&store).await;
}

/// Nodes of the version before must not write: they would leave stale digests, and ignore guards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_the_version_before_fail_after_the_migration() {
    let (url, psql) = old_database();
    let options = PostgresOptions { connections_max: 2, ..options_for(vec![url]) };
    let store = open(options).await;
    push_applied(&store, &user(), &[("new", None, "v1")]).await;
    let insert =
        "insert into records (vault_id, record_id, version, deleted, ciphertext, updated_at)
         values (gen_random_uuid(), 'theirs', 1, false, 'v1', 1)";
    let code = format!(
        "do $$ begin {insert}; raise 'it was written'; exception when check_violation then null; end $$"
    );
    query(&psql, &code);
}
