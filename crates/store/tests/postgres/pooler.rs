//! A PgBouncer between store and database, in transaction mode.

use vaultsync_store::{PostgresOptions, PushOutcome, StoreError};
use vaultsync_test_servers::{PgBouncer, shared_postgres};

use crate::{
    dsl::{all, applied, by, push, state, try_open, user},
    support::postgres_options,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_keeps_no_prepared_statements_works_without_them() {
    postgres_options();
    let bouncer = PgBouncer::start(shared_postgres());
    let url = bouncer.url("vaultsync").parse().expect("an address");
    let options = PostgresOptions { prepare: false, connections_max: 20, ..by(vec![url]) };
    let store = std::sync::Arc::new(try_open(options).await.expect("the database opens"));
    store.check().await.expect("it is well");
    let vault = user();
    assert_eq!(applied(&store, &vault, &[("a", None, "v1"), ("b", None, "v1")]).await, [1, 1]);
    assert_eq!(applied(&store, &vault, &[("a", Some(1), "v2")]).await, [2]);
    // Sent again, and a conflict.
    assert_eq!(applied(&store, &vault, &[("a", Some(1), "v2")]).await, [2]);
    let refused = push(&store, &vault, &[("a", Some(1), "other")]).await;
    let Ok(PushOutcome::Refused(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.conflicts[0].current_version.get(), 2);
    assert_eq!(all(&store, &vault).await.len(), 2);

    // Many at once, so that connections of the pooler change hands.
    let pushes: Vec<_> = (0..200)
        .map(|number| {
            let (store, vault) = (store.clone(), user());
            tokio::spawn(async move {
                let id = format!("r{number}");
                assert_eq!(applied(&store, &vault, &[(&id, None, "v1")]).await, [1]);
                assert_eq!(applied(&store, &vault, &[(&id, Some(1), "v2")]).await, [2]);
                assert_eq!(state(&store, &vault).await, [(id, 2, "v2".to_owned())]);
            })
        })
        .collect();
    for pushed in pushes {
        pushed.await.expect("no push is lost in the pooler");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_loses_prepared_statements_the_error_names_the_setting() {
    postgres_options();
    let bouncer = PgBouncer::start(shared_postgres());
    let url = bouncer.url("vaultsync").parse().expect("an address");
    let store = std::sync::Arc::new(try_open(by(vec![url])).await.expect("the database opens"));
    let pushes: Vec<_> = (0..40)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let vault = user();
                for _ in 0..10 {
                    if let Err(error) = push(&store, &vault, &[("r", None, "v1")]).await {
                        return Some(error);
                    }
                }
                None
            })
        })
        .collect();
    let mut told = Vec::new();
    for pushed in pushes {
        told.extend(pushed.await.expect("no panic"));
    }
    let names_it = |error: &StoreError| error.to_string().contains("`database_prepare`");
    // One from 1.21 on may be set up to keep them, and then all is well.
    assert!(told.is_empty() || told.iter().any(names_it), "{told:?}");
}
