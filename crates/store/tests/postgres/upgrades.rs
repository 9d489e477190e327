//! A PostgreSQL database of an earlier version is upgraded, and what its rows lack is filled beside pushes.

use vaultsync_store::{DigestCheck, PostgresOptions, Vault, validate_digests};
use vaultsync_test_servers::{PgBouncer, query, shared_postgres};

use crate::{
    dsl::{new_database, open, options_for, push_applied, state, until, user},
    upgrade::{check_counters, check_history, check_records},
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
    until(psql, "select convalidated from pg_constraint where conname = 'records_digest'").await;
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
    check_history(&store).await;
}

/// While the digests are missing, they are computed. Here they are missing for ever, because each vault looks as
/// if it had been filled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_without_a_digest_are_served() {
    let (url, psql) = old_database();
    vaultsync_store::migrate(&url).await.expect("the migration succeeds");
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
    let store = open(options_for(vec![url])).await;
    let vault = user();
    push_applied(&store, &vault, &[("new", None, "v1")]).await;
    let row = "select r::text from records r where record_id = 'new'";
    let before = query(&psql, row);
    // The statements of version 0.2 for records of which some exist, and for new ones.
    let insert = "insert into records as r (vault_id, record_id, version, deleted, ciphertext, updated_at)
         select vault_id, 'new', 2, false, 'theirs', updated_at + 1 from records where record_id = 'new'
         on conflict (vault_id, record_id) do update set deleted = excluded.deleted,
           ciphertext = excluded.ciphertext, updated_at = excluded.updated_at,
           version = case when r.version = excluded.version - 1 then excluded.version else 0 end";
    for insert in [insert.to_owned(), insert.replace("'new', 2", "'other', 1")] {
        let code = format!(
            "do $$ begin {insert}; raise 'it was written'; exception when check_violation then null; end $$"
        );
        query(&psql, &code);
    }
    assert_eq!(query(&psql, row), before);
    assert_eq!(state(&store, &vault).await, [("new".to_owned(), 1, "v1".to_owned())]);
}

/// How many records a large vault has: many batches.
const LARGE: i64 = 5000;

/// Adds a large vault to a database of version 0.2, and some that are small. Returns the large one.
fn add_vaults(psql: &str) -> Vault {
    let large = user();
    for (vault, records) in [(large.clone(), LARGE), (user(), 3), (user(), 1), (user(), 0)] {
        let (id, issuer, subject) = (vault.id(), vault.issuer(), vault.subject());
        let insert = format!(
            "insert into vaults (vault_id, issuer, subject, clock, epoch)
               values ('{id}', '{issuer}', '{subject}', {records}, gen_random_uuid());
             insert into records (vault_id, record_id, version, deleted, ciphertext, updated_at)
               select '{id}', 'r' || n, 1 + n % 3, n % 7 = 0, convert_to(repeat('x', n), 'UTF8'), n
               from generate_series(1, {records}) n"
        );
        query(psql, &insert);
    }
    large
}

/// Counts what is wrong: digests, times of creation of old records, and vaults' counters.
fn wrong(psql: &str) -> String {
    let wrong = "select
           (select count(*) from records
              where digest is distinct from substr(sha256(ciphertext), 1, 16)),
           (select count(*) from records where written_at is null
              and created_at is distinct from case when version = 1 then updated_at end),
           (select count(*) from vaults v cross join lateral (
              select count(*) filter (where not deleted) as live_records, count(*) as record_rows,
                coalesce(sum(octet_length(ciphertext)), 0)::bigint as bytes
              from records where vault_id = v.vault_id) c
            where (v.live_records, v.record_rows, v.bytes)
              is distinct from (c.live_records, c.record_rows, c.bytes))";
    query(psql, wrong).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_may_fill_at_once_beside_pushes_to_the_same_vault() {
    let (url, psql) = old_database();
    let vault = add_vaults(&psql);
    let options = PostgresOptions { connections_max: 4, ..options_for(vec![url]) };
    let stores = [open(options.clone()).await, open(options).await];
    let filling = tokio::spawn({
        let psql = psql.clone();
        async move { until_filled(&psql).await }
    });
    // Each push creates a record and changes an old one.
    for n in 1..=LARGE {
        let writes = [(&format!("new {n}"), None), (&format!("r{n}"), Some(1 + n % 3))];
        let writes = writes.map(|(id, base)| (id.as_str(), base, "changed"));
        push_applied(&stores[usize::from(n % 2 == 0)], &vault, &writes).await;
        if filling.is_finished() {
            break;
        }
    }
    filling.await.expect("all is filled");
    assert_eq!(wrong(&psql), "0|0|0");
}

/// The role of the servers may not validate the check, which would mark the database as filled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_does_not_own_the_tables_fills_them() {
    let (url, psql) = old_database();
    vaultsync_store::migrate(&url).await.expect("the migration succeeds");
    let validate = || async { validate_digests(&url).await.expect("the database responds") };
    assert_eq!(validate().await, DigestCheck::Unfilled);
    let name = psql.rsplit('/').next().expect("a name");
    let grant = format!(
        "create role of_{name} login;
         grant select, insert, update, delete on all tables in schema public to of_{name}"
    );
    query(&psql, &grant);
    let port = shared_postgres().port();
    let address = format!("postgres://of_{name}@127.0.0.1:{port}/{name}");
    let store = open(options_for(vec![address.parse().expect("an address")])).await;
    until(&psql, "select count(*) = 0 from vaults where live_records is null").await;
    assert_eq!(wrong(&psql), "0|0|0");
    check_records(&store).await;
    check_counters(&store).await;
    assert_eq!(validate().await, DigestCheck::Validated);
    assert_eq!(validate().await, DigestCheck::Valid);
}

/// In transaction mode, PgBouncer lends a session to one client after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_filled_through_a_pooler_whose_sessions_keep_their_settings() {
    let (url, psql) = old_database();
    vaultsync_store::migrate(&url).await.expect("the migration succeeds");
    let bouncer = PgBouncer::start(shared_postgres());
    let pooled = bouncer.url(psql.rsplit('/').next().expect("a name"));
    let options = options_for(vec![pooled.parse().expect("an address")]);
    let store = open(PostgresOptions { prepare: false, ..options }).await;
    until_filled(&psql).await;
    check_records(&store).await;
    check_counters(&store).await;
    for setting in ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] {
        assert_eq!(query(&pooled, &format!("show {setting}")).trim(), "0", "{setting}");
    }
}
