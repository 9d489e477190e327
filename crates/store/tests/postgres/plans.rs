//! Query plans and round trips: by index, few round trips, and on Citus one node.

use vaultsync_store::{batch_statements, hot_statements, user_statements};
use vaultsync_test_servers::{query, shared_postgres};

use crate::{
    dsl::{new_database, open, options_for, push, push_applied, try_page, user},
    proxy::Proxy,
    support::postgres_options,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_takes_two_round_trips_and_a_pull_one() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    postgres_options();
    let options = vaultsync_store::PostgresOptions {
        connections_max: 1,
        ..options_for(vec![proxy.url("vaultsync")])
    };
    let (store, vault) = (open(options).await, user());
    // Prepare the statements and create the vault.
    push_applied(&store, &vault, &[("warm", None, "v1")]).await;
    push_applied(&store, &vault, &[("warm", Some(1), "v2")]).await;
    push_applied(&store, &vault, &[("x", None, "v1"), ("warm", Some(2), "v3")]).await;
    push(&store, &vault, &[("warm", None, "other")]).await.expect("an outcome");
    try_page(&store, &vault, None, 10).await.expect("a page");

    let writing = proxy.round_trips(async {
        push_applied(&store, &vault, &[("a", None, "v1"), ("warm", Some(3), "v4")]).await;
    });
    assert_eq!(writing.await, 2, "a push that is applied");
    let first = user();
    let writing = proxy.round_trips(async {
        push_applied(&store, &first, &[("a", None, "v1")]).await;
    });
    assert_eq!(writing.await, 2, "the first push of a vault");
    let refused = proxy.round_trips(async {
        push(&store, &vault, &[("warm", Some(2), "v4"), ("b", None, "v1")])
            .await
            .expect("an outcome");
    });
    assert_eq!(refused.await, 2, "a push that is refused");
    let again = proxy.round_trips(async {
        push_applied(&store, &vault, &[("a", None, "v1"), ("warm", Some(3), "v4")]).await;
    });
    assert_eq!(again.await, 2, "a push that is sent again");
    let reading = proxy.round_trips(async {
        try_page(&store, &vault, None, 10).await.expect("a page");
    });
    assert_eq!(Box::pin(reading).await, 1, "a pull");
}

/// A plan that was made while the tables were empty must not read them whole when they are large.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_of_an_empty_vault_read_a_large_one_by_index() {
    let url = new_database();
    let psql = shared_postgres().url(url.to_string().rsplit('/').next().expect("a name"));
    let options = vaultsync_store::PostgresOptions { connections_max: 1, ..options_for(vec![url]) };
    let (store, vault) = (open(options).await, user());
    // More often than PostgreSQL makes custom plans before it keeps a generic one.
    for round in 0..12 {
        push_applied(&store, &vault, &[(&format!("r{round}"), None, "v1")]).await;
        try_page(&store, &vault, None, 1).await.expect("a page");
    }
    let fill = "insert into records select vault_id, 'filled ' || n, 1, false, 'x', clock + n, md5('')::bytea
         from vaults, generate_series(1, 20000) n;
         update vaults set clock = clock + 20000;
         select pg_stat_force_next_flush(); select pg_stat_reset()";
    query(&psql, fill);
    for round in 0..12 {
        push_applied(
            &store,
            &vault,
            &[(&format!("s{round}"), None, "v1"), ("r0", Some(round + 1), "v")],
        )
        .await;
        push(&store, &vault, &[("r1", None, "other")]).await.expect("an outcome");
        try_page(&store, &vault, None, 7).await.expect("a page");
    }
    drop(store);
    // The statistics are complete once the connections have ended.
    let scans = "select coalesce(seq_scan, 0), coalesce(seq_tup_read, 0),
           coalesce(idx_tup_fetch, 0) < 20000, coalesce(idx_scan, 0) > 30
         from pg_stat_user_tables where relname = 'records'";
    let counted = async {
        loop {
            let counts = query(&psql, scans);
            if counts.trim().ends_with("|t") {
                return counts;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let counts = tokio::time::timeout(crate::dsl::RECOVERY_WITHIN, counted).await.expect("counts");
    assert!(counts.starts_with("0|0|t|"), "the vault or the table was read whole: {counts}");
}

/// The settings of the store's connections.
const SETTINGS: &str = "set enable_seqscan = off; set enable_hashjoin = off;
     set enable_mergejoin = off; set plan_cache_mode = force_generic_plan;";

/// The plan of each statement, with its name.
pub(crate) fn explained(
    psql: &str,
    statements: &[(&'static str, &'static str)],
    settings: &str,
) -> Vec<(&'static str, String)> {
    let vault = "'11111111-1111-1111-1111-111111111111'";
    let vaults = "'{11111111-1111-1111-1111-111111111111,22222222-2222-2222-2222-222222222222}'";
    let ids = "'{a,b}'";
    let explained = statements.iter().map(|&(name, text)| {
        let values = match name {
            "lock" => format!("{vault}, 'issuer', 'subject', '', {vault}"),
            "count vaults" => format!("'issuer', 'subject', {vault}"),
            "list vaults" => "'issuer', 'subject'".to_owned(),
            "record states" | "conflicts" => format!("{vault}, {ids}"),
            "insert" | "write" => format!("{vault}, 9, 'a', 1, false, 'x', 1, 'd'"),
            "insert two" | "write two" => {
                format!("{vault}, 9, 'a', 1, false, 'x', 1, 'd', 'b', 1, false, 'y', 2, 'e'")
            }
            "update vault" => format!("{vault}, 1, '', 1, 1, 1, 1"),
            "keep" => format!("{vault}, 9, {ids}, '{{1,2}}'"),
            "keep batch" => format!("{vaults}, {ids}, '{{1,2}}', '{{9,9}}'"),
            "head" | "touch" | "usage" => vault.to_owned(),
            "page" => format!("{vault}, 0, 100, 1000000"),
            "records" => format!("{vault}, {ids}, 1000000"),
            "manifest" => format!("{vault}, 'a', 1001"),
            "history versions" => format!("{vault}, 'a', 9, 1001"),
            "history version" => format!("{vault}, 'a', 9"),
            "revisions" => format!("{vault}, 'a', 9, 1000, 1000000"),
            "history states" => format!("{vault}, 'a', 1001, 9"),
            "heads batch" | "lock batch" => vaults.to_owned(),
            "record states batch" => format!("{vaults}, {ids}"),
            "insert batch" | "write batch" => {
                format!(
                    "{vaults}, {ids}, '{{1,1}}', '{{f,f}}', '{{x,y}}', '{{1,2}}', '{{d,e}}', '{{9,9}}'"
                )
            }
            "update vaults batch" => {
                format!(
                    "{vaults}, '{{1,2}}', '{{x,y}}', '{{1,1}}', '{{1,1}}', '{{1,1}}', '{{1,1}}'"
                )
            }
            other => panic!("a statement without values: {other}"),
        };
        let explain =
            format!("{settings} prepare hot as {text}; explain (costs off) execute hot({values})");
        (name, query(psql, &explain))
    });
    explained.collect()
}

/// By all columns of a key, and never by the first one alone, which would read the whole vault. A plan may be
/// made while the tables are empty, or while every vault has a few records, and kept until a vault has many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_looked_up_by_whole_keys() {
    let url = new_database();
    let psql = shared_postgres().url(url.to_string().rsplit('/').next().expect("a name"));
    vaultsync_store::migrate(&url).await.expect("the migration succeeds");
    check_plans(&psql);
    let small_vaults = "insert into vaults
           select gen_random_uuid(), 'issuer', n::text, 3, gen_random_uuid()
           from generate_series(1, 100) n;
         insert into records select vault_id, n::text, 1, false, repeat('x', 1000)::bytea, n,
             md5('')::bytea
           from vaults, generate_series(1, 3) n;
         analyze";
    query(&psql, small_vaults);
    check_plans(&psql);
}

fn check_plans(psql: &str) {
    let mut plans = explained(psql, &hot_statements(), SETTINGS);
    plans.extend(explained(psql, &batch_statements(), SETTINGS));
    plans.extend(explained(psql, &user_statements(), SETTINGS));
    for (name, plan) in plans {
        assert!(plan.contains("vaults") || plan.contains("records"), "{name}: {plan}");
        for whole in ["Seq Scan", "Hash", "Merge", "Bitmap", "Join Filter"] {
            assert!(!plan.contains(whole), "{name}: {plan}");
        }
        let mut lines = plan.lines();
        while let Some(line) = lines.next() {
            let second = if line.contains("records_pkey on") || line.contains("revisions_pkey on") {
                "record_id"
            } else if line.contains("records_cursor on") {
                "updated_at"
            } else {
                continue;
            };
            let condition = lines.find(|line| line.contains("Index Cond")).expect("a condition");
            assert!(condition.contains("vault_id") && condition.contains(second), "{name}: {plan}");
        }
    }
}
