//! Several stores on one database, and upgrades.

use std::sync::Arc;

use vaultsync_store::{PostgresOptions, PushOutcome, migrate, pending_migrations};
use vaultsync_test_servers::{query, shared_postgres};

use crate::{
    dsl::{new_database, open, options_for, pull_all, push, push_applied, state, try_page, user},
    support::postgres_options,
};

/// The address of a database for `psql`.
fn psql(url: &vaultsync_store::DatabaseUrl) -> String {
    shared_postgres().url(url.to_string().rsplit('/').next().expect("a name"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_may_be_opened_at_once_on_an_empty_database() {
    for _ in 0..3 {
        let url = new_database();
        let opening = (0..8).map(|_| open(options_for(vec![url.clone()])));
        let stores = futures_util::future::join_all(opening).await;
        let vault = user();
        for (number, store) in stores.iter().enumerate() {
            push_applied(store, &vault, &[(&format!("r{number}"), None, "v1")]).await;
        }
        assert_eq!(state(&stores[0], &vault).await.len(), 8);
        let history = query(&psql(&url), "select count(*) from refinery_schema_history");
        assert_eq!(history.trim(), MIGRATIONS.len().to_string(), "each is applied once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_followers_on_three_stores_lose_no_record() {
    let options = PostgresOptions { connections_max: 4, ..postgres_options() };
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(Arc::new(open(options.clone()).await));
    }
    let users: Vec<_> = (0..4).map(|_| user()).collect();
    let mut writers = Vec::new();
    for (number, vault) in users.iter().cycle().take(16).enumerate() {
        let (store, vault) = (stores[number % 3].clone(), vault.clone());
        writers.push(tokio::spawn(async move {
            for round in 0..30 {
                let (own, shared) = (format!("{number}-{round}"), format!("shared {}", round % 5));
                push_applied(
                    &store,
                    &vault,
                    &[(&own, None, "v1"), (&format!("{own}b"), None, "v1")],
                )
                .await;
                let mut base = None;
                loop {
                    let text = format!("{number} {round}");
                    match push(&store, &vault, &[(&shared, base, &text)]).await {
                        Ok(PushOutcome::Applied { .. }) => break,
                        Ok(PushOutcome::Refused(refused)) => {
                            base = Some(refused.conflicts[0].current_version.get());
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        }));
    }
    let followers: Vec<_> = users
        .iter()
        .map(|vault| {
            let (stores, vault) = (stores.clone(), vault.clone());
            tokio::spawn(async move {
                let (mut seen, mut cursor) = (std::collections::BTreeMap::new(), None);
                for turn in 0.. {
                    let page =
                        try_page(&stores[turn % 3], &vault, cursor, 7).await.expect("a page");
                    for record in page.records {
                        assert!(
                            Some(record.updated_at) > cursor,
                            "a page continues after its cursor"
                        );
                        cursor = Some(record.updated_at);
                        seen.insert(record.record_id.to_string(), record.version.get());
                    }
                    // Each writer creates 60 records of its own, and four writers share a vault.
                    let own: usize = seen.keys().filter(|id| !id.starts_with("shared")).count();
                    let shared: i64 = seen
                        .iter()
                        .filter(|(id, _)| id.starts_with("shared"))
                        .map(|(_, version)| version)
                        .sum();
                    if own == 4 * 60 && shared == 4 * 30 {
                        break;
                    }
                }
                seen
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("the writer does not fail");
    }
    for (follower, vault) in followers.into_iter().zip(&users) {
        let seen = follower.await.expect("the follower does not fail");
        let records = pull_all(&stores[0], vault).await;
        let in_store = records.iter().map(|one| (one.record_id.to_string(), one.version.get()));
        assert_eq!(seen, in_store.collect());
    }
}

/// With a stricter isolation level, all but one of the transactions that wait for the lock would fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_isolation_level_of_the_database_does_not_matter() {
    let url = new_database();
    let name = url.to_string().rsplit('/').next().expect("a name").to_owned();
    for level in ["serializable", "repeatable read"] {
        let set = format!("alter database {name} set default_transaction_isolation = '{level}'");
        query(&shared_postgres().url("postgres"), &set);
        let stores = [
            open(options_for(vec![url.clone()])).await,
            open(options_for(vec![url.clone()])).await,
        ];
        let vault = user();
        let writers = stores.iter().enumerate().map(|(number, store)| {
            let vault = &vault;
            async move {
                for round in 0..40 {
                    let id = format!("{number}-{round}");
                    assert_eq!(push_applied(store, vault, &[(&id, None, "v1")]).await, [1]);
                }
            }
        });
        futures_util::future::join_all(writers).await;
        assert_eq!(pull_all(&stores[0], &vault).await.len(), 80, "{level}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_works_with_tables_of_a_later_version() {
    let url = new_database();
    let (store, vault) = (open(options_for(vec![url.clone()])).await, user());
    push_applied(&store, &vault, &[("before", None, "v1")]).await;
    query(
        &psql(&url),
        "alter table records add column colour text; alter table vaults add column size bigint
           not null default 0;
         insert into refinery_schema_history values (999, 'later', '2030-01-01T00:00:00Z', '1')",
    );
    // A store that was open during the migration, and one that is opened after it.
    push_applied(&store, &vault, &[("during", None, "v1")]).await;
    try_page(&store, &vault, None, 10).await.expect("a page");
    let store = open(options_for(vec![url])).await;
    push_applied(&store, &vault, &[("after", None, "v1")]).await;
    assert_eq!(state(&store, &vault).await.len(), 3);
}

const MIGRATIONS: [&str; 11] = [
    "V1__vaults_and_records",
    "V2__vault_names_and_counters",
    "V3__record_digests_and_times",
    "V4__vaults_of_a_user",
    "V5__history_purge_and_erase",
    "V6__revisions",
    "V7__revisions_outside_rows",
    "V8__tombstones",
    "V9__vaults_that_are_erased",
    "V10__erased_epochs",
    "V11__maintenance_lease",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_migrations_are_returned_and_not_applied() {
    let url = new_database();
    for _ in 0..2 {
        let pending = pending_migrations(&url).await.expect("the database responds");
        assert_eq!(pending, MIGRATIONS);
    }
    let tables = "select count(*) from pg_tables where schemaname = 'public'";
    assert_eq!(query(&psql(&url), tables).trim(), "0");
    assert_eq!(migrate(&url).await.expect("the migration succeeds"), MIGRATIONS);
    assert!(migrate(&url).await.expect("the migration succeeds").is_empty());
    assert!(pending_migrations(&url).await.expect("the database responds").is_empty());
}
