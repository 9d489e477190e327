//! A database that is down, and recovers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use vaultsync_store::{PostgresOptions, PushOutcome, Store, StoreError};
use vaultsync_test_servers::PostgresServer;

use crate::{
    dsl::{
        RECOVERY_WITHIN, RESPONSE_WITHIN, TIMEOUT, open, push, push_applied, retry_until_ok, state,
        try_page, user,
    },
    proxy::Proxy,
    support::postgres_options,
};

fn options(server: &PostgresServer) -> PostgresOptions {
    let primaries = vec![server.url("postgres").parse().expect("an address")];
    PostgresOptions { primaries, timeout: TIMEOUT, ..postgres_options() }
}

/// Every use case reports in time that the database is unavailable.
async fn check_unavailable(store: &Store) {
    let vault = user();
    let pushed = timeout(RESPONSE_WITHIN, push(store, &vault, &[("r", None, "v1")])).await;
    let pushed = pushed.expect("a push returns in time");
    assert!(
        matches!(pushed, Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_))),
        "{pushed:?}"
    );
    let pulled = timeout(RESPONSE_WITHIN, try_page(store, &vault, None, 1)).await;
    let pulled = pulled.expect("a pull returns in time");
    assert!(matches!(pulled, Err(StoreError::Unavailable(_))), "{pulled:?}");
    let checked = timeout(RESPONSE_WITHIN, store.check()).await.expect("the check returns in time");
    assert!(matches!(checked, Err(StoreError::Unavailable(_))), "{checked:?}");
}

/// Every use case works again without intervention.
async fn check_recovered(store: &Store) {
    let vault = user();
    retry_until_ok(RECOVERY_WITHIN, || store.check()).await;
    retry_until_ok(RECOVERY_WITHIN, || push(store, &vault, &[("r", None, "v1")])).await;
    retry_until_ok(RECOVERY_WITHIN, || try_page(store, &vault, None, 1)).await;
    push_applied(store, &vault, &[("s", None, "v1")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_database_is_reported_and_recovers() {
    let server = PostgresServer::start();
    let store = open(options(&server)).await;
    check_recovered(&store).await;
    for _ in 0..2 {
        server.stop();
        check_unavailable(&store).await;
        server.start_again();
        check_recovered(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_database_is_reported_and_recovers() {
    let server = PostgresServer::start();
    let store = open(options(&server)).await;
    check_recovered(&store).await;
    server.pause();
    check_unavailable(&store).await;
    server.resume();
    check_recovered(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_loses_all_bytes_is_reported_and_recovers() {
    let server = PostgresServer::start();
    let proxy = Proxy::to(server.port()).await;
    let primaries = vec![proxy.url("postgres")];
    let store = open(PostgresOptions { primaries, ..options(&server) }).await;
    let vault = user();
    push_applied(&store, &vault, &[("before", None, "v1")]).await;
    proxy.stall(true);
    check_unavailable(&store).await;
    proxy.stall(false);
    check_recovered(&store).await;
    // The vault of a lost push is not locked either.
    retry_until_ok(RECOVERY_WITHIN, || push(&store, &vault, &[("after", None, "v1")])).await;
}

/// Acknowledged writes: their text by record id and version.
type Acknowledged = HashMap<(String, i64), String>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_the_database_loses_no_acknowledged_write() {
    let server = PostgresServer::start();
    let store = Arc::new(open(options(&server)).await);
    let vault = user();
    let acknowledged = Arc::new(Mutex::new(Acknowledged::new()));
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let (store, vault) = (store.clone(), vault.clone());
            let (acknowledged, done) = (acknowledged.clone(), done.clone());
            tokio::spawn(async move { write(&store, &vault, number, &acknowledged, &done).await })
        })
        .collect();
    let rounds = 6;
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.kill();
        server.start_again();
        retry_until_ok(RECOVERY_WITHIN, || store.check()).await;
    }
    done.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.expect("the writer does not fail");
    }
    let state = state(&store, &vault).await;
    let acknowledged = acknowledged.lock().expect("no writer panicked");
    assert!(acknowledged.len() > rounds, "the writers made progress");
    for ((id, version), text) in &*acknowledged {
        let stored = state.iter().find(|(stored, ..)| stored == id);
        let (_, stored, current) = stored.unwrap_or_else(|| panic!("{id} is lost"));
        assert!(
            stored > version || (stored == version && current == text),
            "{id} {version} is lost"
        );
    }
    println!("{rounds} kills, {} versions acknowledged, none lost", acknowledged.len());
}

/// Updates records that other writers update too, until `done`.
async fn write(
    store: &Store,
    vault: &vaultsync_store::Vault,
    number: usize,
    acknowledged: &Mutex<Acknowledged>,
    done: &AtomicBool,
) {
    let mut bases: HashMap<String, i64> = HashMap::new();
    for round in 0.. {
        if done.load(Ordering::SeqCst) {
            return;
        }
        let id = format!("r{}", (number + round) % 12);
        let text = format!("{round} of {number}");
        let write = [(id.as_str(), bases.get(&id).copied(), text.as_str())];
        match retry_until_ok(RECOVERY_WITHIN, || push(store, vault, &write)).await {
            PushOutcome::Applied { results: written, .. } => {
                let version = written[0].version.get();
                bases.insert(id.clone(), version);
                let before = acknowledged.lock().expect("no panic").insert((id, version), text);
                assert_eq!(before, None, "a version is acknowledged twice");
            }
            PushOutcome::Refused(refused) => {
                bases.insert(id, refused.conflicts[0].current_version.get());
            }
            other => panic!("neither an epoch nor a limit is set: {other:?}"),
        }
    }
}
