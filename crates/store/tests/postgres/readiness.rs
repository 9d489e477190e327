//! The readiness check: whether the database could take a push, asked apart from the pool.

use std::time::Duration;

use tokio::time::timeout;
use vaultsync_store::{PostgresOptions, StoreError};
use vaultsync_test_servers::PostgresServer;

use crate::{
    contention::{ExhaustedPool, exhausted_pool},
    dsl::{RECOVERY_WITHIN, RESPONSE_WITHIN, TIMEOUT, open, retry_until_ok, try_page},
    support::postgres_options,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_connections_are_all_in_use_is_ready() {
    let ExhaustedPool { store, vault, first, locking } = exhausted_pool().await;
    let pulled = try_page(&store, &vault, None, 1).await;
    assert!(matches!(pulled, Err(StoreError::Busy(_))), "{pulled:?}");
    store.check().await.expect("it is busy, and not gone");
    // The push fails because of the lock.
    first.await.expect("no panic").expect_err("the row is locked");
    locking.join().expect("the row was locked");
    store.check().await.expect("it is free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_respond_is_not_ready() {
    let server = PostgresServer::start();
    let primaries = vec![server.url("postgres").parse().expect("an address")];
    let store = open(PostgresOptions { primaries, timeout: TIMEOUT, ..postgres_options() }).await;
    store.check().await.expect("it responds");
    server.pause();
    let checked = timeout(RESPONSE_WITHIN, store.check()).await.expect("in time");
    assert!(matches!(checked, Err(StoreError::Unavailable(_))), "{checked:?}");
    server.resume();
    retry_until_ok(RECOVERY_WITHIN, || store.check()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_becomes_read_only_is_not_ready() {
    let server = PostgresServer::start();
    let primaries = vec![server.url("postgres").parse().expect("an address")];
    let store = open(PostgresOptions { primaries, timeout: TIMEOUT, ..postgres_options() }).await;
    store.check().await.expect("it can be written to");
    server.query("postgres", "alter system set default_transaction_read_only = on");
    server.query("postgres", "select pg_reload_conf()");
    let refused = async {
        while store.check().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(RECOVERY_WITHIN, refused).await.expect("it is not ready");
}
