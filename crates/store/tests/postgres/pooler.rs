//! PgBouncer in transaction mode, in front of the database.

use vaultsync_store::{PostgresOptions, PushOutcome, StoreError};
use vaultsync_test_servers::{PgBouncer, shared_postgres};

use crate::{
    dsl::{options_for, pull_all, push, push_applied, state, try_open, user},
    support::postgres_options,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_without_prepared_statements_works_with_them_off() {
    postgres_options();
    let bouncer = PgBouncer::start(shared_postgres());
    let url = bouncer.url("vaultsync").parse().expect("an address");
    let options = PostgresOptions { prepare: false, connections_max: 20, ..options_for(vec![url]) };
    let store = std::sync::Arc::new(try_open(options).await.expect("the database opens"));
    store.check().await.expect("the check passes");
    let vault = user();
    assert_eq!(push_applied(&store, &vault, &[("a", None, "v1"), ("b", None, "v1")]).await, [1, 1]);
    assert_eq!(push_applied(&store, &vault, &[("a", Some(1), "v2")]).await, [2]);
    // A retry, and a conflict.
    assert_eq!(push_applied(&store, &vault, &[("a", Some(1), "v2")]).await, [2]);
    let refused = push(&store, &vault, &[("a", Some(1), "other")]).await;
    let Ok(PushOutcome::Refused(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.conflicts[0].current_version.get(), 2);
    assert_eq!(pull_all(&store, &vault).await.len(), 2);

    // Many pushes at once, so that the pooler's server connections are shared.
    let pushes: Vec<_> = (0..200)
        .map(|number| {
            let (store, vault) = (store.clone(), user());
            tokio::spawn(async move {
                let id = format!("r{number}");
                assert_eq!(push_applied(&store, &vault, &[(&id, None, "v1")]).await, [1]);
                assert_eq!(push_applied(&store, &vault, &[(&id, Some(1), "v2")]).await, [2]);
                assert_eq!(state(&store, &vault).await, [(id, 2, "v2".to_owned())]);
            })
        })
        .collect();
    for pushed in pushes {
        pushed.await.expect("no push fails");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_a_pooler_that_loses_prepared_statements_names_the_setting() {
    postgres_options();
    let bouncer = PgBouncer::start(shared_postgres());
    let url = bouncer.url("vaultsync").parse().expect("an address");
    let store =
        std::sync::Arc::new(try_open(options_for(vec![url])).await.expect("the database opens"));
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
    let mut errors = Vec::new();
    for pushed in pushes {
        errors.extend(pushed.await.expect("no panic"));
    }
    let names_it = |error: &StoreError| error.to_string().contains("`database_prepare`");
    // PgBouncer 1.21 and later can be configured to keep them; then there are no errors.
    assert!(errors.is_empty() || errors.iter().any(names_it), "{errors:?}");
}
