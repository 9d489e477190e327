//! A database that is gone, and comes back.

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
        BACK_WITHIN, TIMEOUT, TOLD_WITHIN, applied, open, push, state, try_page, until_ok, user,
    },
    proxy::Proxy,
    support::postgres_options,
};

fn options(server: &PostgresServer) -> PostgresOptions {
    let primaries = vec![server.url("postgres").parse().expect("an address")];
    PostgresOptions { primaries, timeout: TIMEOUT, ..postgres_options() }
}

/// Every use case says soon that the database cannot be had.
async fn check_gone(store: &Store) {
    let vault = user();
    let pushed = timeout(TOLD_WITHIN, push(store, &vault, &[("r", None, "v1")])).await;
    let pushed = pushed.expect("a push is answered soon");
    assert!(
        matches!(pushed, Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_))),
        "{pushed:?}"
    );
    let pulled = timeout(TOLD_WITHIN, try_page(store, &vault, None, 1)).await;
    let pulled = pulled.expect("a pull is answered soon");
    assert!(matches!(pulled, Err(StoreError::Unavailable(_))), "{pulled:?}");
    let checked = timeout(TOLD_WITHIN, store.check()).await.expect("the check ends soon");
    assert!(matches!(checked, Err(StoreError::Unavailable(_))), "{checked:?}");
}

/// Everything works again by itself.
async fn check_back(store: &Store) {
    let vault = user();
    until_ok(BACK_WITHIN, || store.check()).await;
    until_ok(BACK_WITHIN, || push(store, &vault, &[("r", None, "v1")])).await;
    until_ok(BACK_WITHIN, || try_page(store, &vault, None, 1)).await;
    applied(store, &vault, &[("s", None, "v1")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stops_is_told_of_and_found_again() {
    let server = PostgresServer::start();
    let store = open(options(&server)).await;
    check_back(&store).await;
    for _ in 0..2 {
        server.stop();
        check_gone(&store).await;
        server.start_again();
        check_back(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_answers_nobody_is_told_of_and_found_again() {
    let server = PostgresServer::start();
    let store = open(options(&server)).await;
    check_back(&store).await;
    server.pause();
    check_gone(&store).await;
    server.resume();
    check_back(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_swallows_everything_is_told_of_and_found_again() {
    let server = PostgresServer::start();
    let proxy = Proxy::to(server.port()).await;
    let primaries = vec![proxy.url("postgres")];
    let store = open(PostgresOptions { primaries, ..options(&server) }).await;
    let vault = user();
    applied(&store, &vault, &[("before", None, "v1")]).await;
    proxy.stall(true);
    check_gone(&store).await;
    proxy.stall(false);
    check_back(&store).await;
    // Also a vault whose push was swallowed is locked by nobody.
    until_ok(BACK_WITHIN, || push(&store, &vault, &[("after", None, "v1")])).await;
}

/// What writers were told, and what must therefore be there.
#[derive(Default)]
struct Told {
    /// By record and version, what was written.
    acknowledged: HashMap<(String, i64), String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_every_process_of_the_database_loses_nothing_acknowledged() {
    let server = PostgresServer::start();
    let store = Arc::new(open(options(&server)).await);
    let vault = user();
    let told = Arc::new(Mutex::new(Told::default()));
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let (store, vault) = (store.clone(), vault.clone());
            let (told, done) = (told.clone(), done.clone());
            tokio::spawn(async move { write(&store, &vault, number, &told, &done).await })
        })
        .collect();
    let rounds = 6;
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.kill();
        server.start_again();
        until_ok(BACK_WITHIN, || store.check()).await;
    }
    done.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.expect("no promise is broken");
    }
    let state = state(&store, &vault).await;
    let told = told.lock().expect("no writer panicked");
    assert!(told.acknowledged.len() > rounds, "there was a load");
    for ((id, version), text) in &told.acknowledged {
        let held = state.iter().find(|(held, ..)| held == id);
        let (_, there, current) = held.unwrap_or_else(|| panic!("{id} is lost"));
        assert!(there > version || (there == version && current == text), "{id} {version} is lost");
    }
    println!("{rounds} kills, {} versions acknowledged, none lost", told.acknowledged.len());
}

/// Writes records that others write too, until told to stop.
async fn write(
    store: &Store,
    vault: &vaultsync_store::Vault,
    number: usize,
    told: &Mutex<Told>,
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
        match until_ok(BACK_WITHIN, || push(store, vault, &write)).await {
            PushOutcome::Applied(written) => {
                let version = written[0].version.get();
                bases.insert(id.clone(), version);
                let before =
                    told.lock().expect("no panic").acknowledged.insert((id, version), text);
                assert_eq!(before, None, "a version is acknowledged twice");
            }
            PushOutcome::Refused(refused) => {
                bases.insert(id, refused.conflicts[0].current_version.get());
            }
            PushOutcome::EpochChanged => panic!("nobody named an epoch"),
        }
    }
}
