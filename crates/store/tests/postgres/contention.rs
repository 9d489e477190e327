//! Cancelled callers, many pushes of one vault, exhausted pools.

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;
use tokio::task::JoinHandle;
use vaultsync_store::{PostgresOptions, PushOutcome, Store, StoreError, Vault};
use vaultsync_test_servers::{PostgresServer, query, shared_postgres};

use crate::{
    dsl::{TIMEOUT, new_database, open, options_for, push, push_applied, state, user},
    proxy::Proxy,
    support::postgres_options,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_callers_leave_no_lock_and_no_partial_push() {
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
    assert_eq!(push_applied(&store, &vault, &[("last", None, "v1")]).await, [1]);
    store.close().await;
    let store = open(postgres_options()).await;
    let ids: Vec<_> = state(&store, &vault).await.into_iter().map(|(id, ..)| id).collect();
    for round in 0..60 {
        let has = |letter| ids.contains(&format!("{letter}{round}"));
        assert_eq!(has('a'), has('b'), "push {round} is applied partly");
    }
}

/// A push waits for the row of its vault if another transaction has locked it. Other pushes of the vault must
/// not occupy a connection while they wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pushes_of_one_vault_use_one_connection() {
    let proxy = Proxy::to(shared_postgres().port()).await;
    let url = new_database();
    let name = url.to_string().rsplit('/').next().map(str::to_owned).expect("a name");
    let options = PostgresOptions { connections_max: 4, ..options_for(vec![proxy.url(&name)]) };
    let (store, vault, other) = (Arc::new(open(options).await), user(), user());
    push_applied(&store, &vault, &[("first", None, "v1")]).await;
    let locking = std::thread::spawn(move || {
        let lock = "begin; select from vaults for update; select pg_sleep(2); commit";
        query(&shared_postgres().url(&name), lock);
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
    assert_eq!(push_applied(&store, &other, &[("theirs", None, "v1")]).await, [1]);
    assert!(proxy.connections() <= 3, "{} connections", proxy.connections());
    locking.join().expect("the row was locked");
    for push in pushes {
        let outcome = push.await.expect("no panic");
        assert!(matches!(outcome, Ok(PushOutcome::Applied { .. })), "{outcome:?}");
    }
}

/// A store whose only connection waits for the row of a vault.
pub(crate) struct ExhaustedPool {
    pub(crate) store: Arc<Store>,
    pub(crate) vault: Vault,
    /// The push that waits.
    pub(crate) first: JoinHandle<Result<PushOutcome, StoreError>>,
    /// The session that has locked the row.
    pub(crate) locking: std::thread::JoinHandle<String>,
}

pub(crate) async fn exhausted_pool() -> ExhaustedPool {
    let url = new_database();
    let name = url.to_string().rsplit('/').next().map(str::to_owned).expect("a name");
    let options =
        PostgresOptions { connections_max: 1, timeout: TIMEOUT, ..options_for(vec![url]) };
    let (store, vault) = (Arc::new(open(options).await), user());
    push_applied(&store, &vault, &[("first", None, "v1")]).await;
    let locking = std::thread::spawn(move || {
        let lock = "begin; select from vaults for update; select pg_sleep(6); commit";
        query(&shared_postgres().url(&name), lock)
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (waiting, waited_for) = (store.clone(), vault.clone());
    let first =
        tokio::spawn(async move { push(&waiting, &waited_for, &[("second", None, "v1")]).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    ExhaustedPool { store, vault, first, locking }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_pool_is_reported() {
    let ExhaustedPool { store, vault, first, locking } = exhausted_pool().await;
    let pulled = crate::dsl::try_page(&store, &vault, None, 1).await;
    assert!(matches!(pulled, Err(StoreError::Busy(_))), "{pulled:?}");
    let first = first.await.expect("no panic");
    assert!(matches!(first, Err(StoreError::Unavailable(_))), "{first:?}");
    locking.join().expect("the row was locked");
    assert_eq!(push_applied(&store, &vault, &[("second", None, "v1")]).await, [1]);
}

/// A database that stands still for a moment is no overload, if few pushes wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_queue_is_served_after_a_stall() {
    let server = PostgresServer::start();
    let primaries = vec![server.url("postgres").parse().expect("an address")];
    let timeout = 4 * TIMEOUT;
    let options = PostgresOptions { primaries, timeout, connections_max: 2, ..postgres_options() };
    let (store, shared) = (Arc::new(open(options).await), user());
    // A new connection has a shorter timeout, so all are opened before.
    let first: Vec<_> = (0..20)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { push(&store, &user(), &[("first", None, "v1")]).await })
        })
        .collect();
    for push in first {
        push.await.expect("no panic").expect("the database responds");
    }
    server.pause();
    let pushes: Vec<_> = (0..12)
        .map(|number| {
            let store = store.clone();
            // Half of them wait for one vault, and the others for a batch.
            let vault = if number % 2 == 0 { shared.clone() } else { user() };
            tokio::spawn(async move {
                push(&store, &vault, &[(&format!("r{number}"), None, "v1")]).await
            })
        })
        .collect();
    // Longer than a push waits in a long queue.
    tokio::time::sleep(TIMEOUT + Duration::from_secs(1)).await;
    server.resume();
    for push in pushes {
        let outcome = push.await.expect("no panic");
        assert!(matches!(outcome, Ok(PushOutcome::Applied { .. })), "{outcome:?}");
    }
}
