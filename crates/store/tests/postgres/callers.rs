//! Callers that go away, vaults that are wanted by many, pools that are too small.

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;
use vaultsync_store::{PostgresOptions, PushOutcome, StoreError};
use vaultsync_test_servers::{query, shared_postgres};

use crate::{
    dsl::{TIMEOUT, applied, by, new_database, open, push, state, user},
    proxy::Proxy,
    support::postgres_options,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_leave_no_lock_and_no_half_push() {
    let options = PostgresOptions { connections_max: 3, ..postgres_options() };
    let (store, vault) = (Arc::new(open(options).await), user());
    for round in 0..60 {
        let (task_store, task_vault) = (store.clone(), vault.clone());
        let pushing = tokio::spawn(async move {
            let writes = [(&*format!("a{round}"), None, "v1"), (&*format!("b{round}"), None, "v1")];
            push(&task_store, &task_vault, &writes).await
        });
        tokio::time::sleep(Duration::from_micros(rand::rng().random_range(0..4000))).await;
        pushing.abort();
    }
    assert_eq!(applied(&store, &vault, &[("last", None, "v1")]).await, [1]);
    store.close().await;
    let store = open(postgres_options()).await;
    let ids: Vec<_> = state(&store, &vault).await.into_iter().map(|(id, ..)| id).collect();
    for round in 0..60 {
        let has = |letter| ids.contains(&format!("{letter}{round}"));
        assert_eq!(has('a'), has('b'), "half of push {round}");
    }
}

/// A push to a vault whose row somebody holds waits for it; others of the same vault must not wait
/// with a connection in their hands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pushes_of_one_vault_take_one_connection() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let url = new_database();
    let name = url.to_string().rsplit('/').next().map(str::to_owned).expect("a name");
    let options = PostgresOptions { connections_max: 4, ..by(vec![proxy.url(&name)]) };
    let (store, vault, other) = (Arc::new(open(options).await), user(), user());
    applied(&store, &vault, &[("first", None, "v1")]).await;
    let holding = std::thread::spawn(move || {
        let hold = "begin; select from vaults for update; select pg_sleep(2); commit";
        query(&shared_postgres().url(&name), hold);
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let pushes: Vec<_> = (0..40)
        .map(|number| {
            let (store, vault) = (store.clone(), vault.clone());
            tokio::spawn(async move {
                push(&store, &vault, &[(&format!("r{number}"), None, "v1")]).await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(proxy.connections() <= 2, "{} connections", proxy.connections());
    assert_eq!(applied(&store, &other, &[("theirs", None, "v1")]).await, [1]);
    assert!(proxy.connections() <= 3, "{} connections", proxy.connections());
    holding.join().expect("the row was held");
    for push in pushes {
        let outcome = push.await.expect("no panic");
        assert!(matches!(outcome, Ok(PushOutcome::Applied(_))), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_without_a_free_connection_says_so() {
    let url = new_database();
    let name = url.to_string().rsplit('/').next().map(str::to_owned).expect("a name");
    let options = PostgresOptions { connections_max: 1, timeout: TIMEOUT, ..by(vec![url]) };
    let (store, vault) = (Arc::new(open(options).await), user());
    applied(&store, &vault, &[("first", None, "v1")]).await;
    let holding = std::thread::spawn(move || {
        let hold = "begin; select from vaults for update; select pg_sleep(6); commit";
        query(&shared_postgres().url(&name), hold)
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (waiting, waited_for) = (store.clone(), vault.clone());
    let first =
        tokio::spawn(async move { push(&waiting, &waited_for, &[("second", None, "v1")]).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    // The only connection waits for the row.
    let pulled = crate::dsl::try_page(&store, &vault, None, 1).await;
    assert!(matches!(pulled, Err(StoreError::Unavailable(_))), "{pulled:?}");
    let first = first.await.expect("no panic");
    assert!(matches!(first, Err(StoreError::Unavailable(_))), "{first:?}");
    holding.join().expect("the row was held");
    assert_eq!(applied(&store, &vault, &[("second", None, "v1")]).await, [1]);
}
