//! What processes tell each other, on real servers: PostgreSQL's NOTIFY and NATS.

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "other programs need the rest")]
mod support;

use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;
use vaultsync_protocol::{Epoch, Pull, Timestamp};
use vaultsync_store::{
    PostgresOptions, PubsubBackend, PushOutcome, Store, StoreOptions, Subscription, Unbounded,
    Vault,
};
use vaultsync_test_servers::{NatsServer, PostgresServer, query, shared_postgres};

use support::{batch, operation, postgres_options};

/// Far longer than a hint takes on a machine that has much else to do.
const SOON: Duration = Duration::from_secs(30);

/// How long nothing must come for it to be said that nothing comes.
const QUIET: Duration = Duration::from_millis(500);

fn options() -> StoreOptions {
    StoreOptions { page_bytes_max: 1 << 20, new_epoch: || Epoch::new(Uuid::new_v4()) }
}

async fn node(via: PubsubBackend) -> Store {
    let postgres = PostgresOptions { pubsub: via, ..postgres_options() };
    Store::open_postgres(postgres, options()).await.expect("the database opens")
}

fn notify() -> PubsubBackend {
    PubsubBackend::Notify(Box::new(postgres_options().primaries[0].clone()))
}

fn nats(server: &NatsServer) -> PubsubBackend {
    PubsubBackend::Nats(vec![server.url().parse().expect("an address")])
}

fn user() -> Vault {
    Vault::of("https://issuer.test", format!("user_{}", Uuid::new_v4()))
}

/// Creates a record in the vault.
async fn push(node: &Store, vault: &Vault) {
    let create = operation(&Uuid::new_v4().to_string(), None, "v1", false);
    let pushed = node.push(vault, batch(&[create], None), Timestamp::from_millis(0), ()).await;
    assert!(matches!(pushed, Ok(PushOutcome::Applied(_))), "{pushed:?}");
}

fn listen(node: &Store, vault: &Vault) -> Subscription {
    node.notifier().subscribe(vault.id(), 10).expect("a place to listen")
}

/// Pushes at one node until a listener of another hears it: at first the two may not be connected.
async fn connected(from: &Store, to: &Store) {
    let vault = user();
    let mut listener = listen(to, &vault);
    timeout(SOON, async {
        loop {
            push(from, &vault).await;
            if timeout(QUIET, listener.changed()).await.is_ok() {
                return;
            }
        }
    })
    .await
    .expect("hints arrive");
    // Who has just connected wakes everybody once more.
    while timeout(QUIET, listener.changed()).await.is_ok() {}
}

/// What must hold whichever way two nodes tell each other.
async fn check_told(here: &Store, there: &Store) {
    connected(here, there).await;
    connected(there, here).await;
    let (vault, other) = (user(), user());
    let (mut told, mut not_told) = (listen(there, &vault), listen(there, &other));
    push(here, &vault).await;
    timeout(SOON, told.changed()).await.expect("the other node's listener is told");
    assert!(timeout(QUIET, not_told.changed()).await.is_err(), "another vault's is not");

    // One's own push is told once, not again when it comes back.
    let mut own = listen(here, &vault);
    push(here, &vault).await;
    timeout(SOON, own.changed()).await.expect("the own listener is told");
    assert!(timeout(QUIET, own.changed()).await.is_err(), "and once only");

    // More vaults at once than one message holds.
    let vaults: Vec<_> = (0..1000).map(|_| user()).collect();
    let mut listeners: Vec<_> = vaults.iter().map(|vault| listen(there, vault)).collect();
    let pushes = vaults.chunks(250).map(|vaults| async move {
        for vault in vaults {
            push(here, vault).await;
            push(here, vault).await;
        }
    });
    futures_util::future::join_all(pushes).await;
    for listener in &mut listeners {
        timeout(SOON, listener.changed()).await.expect("each of many vaults is told");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_tell_each_other_by_notify() {
    check_told(&node(notify()).await, &node(notify()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_tell_each_other_by_nats() {
    let server = NatsServer::start();
    check_told(&node(nats(&server)).await, &node(nats(&server)).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_hints_hears_nothing_and_has_everything() {
    let (here, there) = (node(notify()).await, node(PubsubBackend::None).await);
    let vault = user();
    let mut listener = listen(&there, &vault);
    push(&here, &vault).await;
    assert!(timeout(QUIET, listener.changed()).await.is_err());
    let pulled = there.pull(&vault, &Pull { limit: 10, ..Pull::default() }, Unbounded).await;
    let (outcome, _) = pulled.expect("the database answers");
    let vaultsync_store::PullOutcome::Page(page) = outcome else { panic!("{outcome:?}") };
    assert_eq!(page.records.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_hint_does_no_harm() {
    let (here, there) = (node(notify()).await, node(notify()).await);
    connected(&here, &there).await;
    let url = shared_postgres().url("vaultsync");
    for rubbish in ["", "rubbish", "AQ==", "////", &"A".repeat(7999)] {
        query(&url, &format!("notify vaultsync_heads, '{rubbish}'"));
    }
    connected(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_come_back_with_nats_and_pushes_do_not_wait_for_it() {
    let server = NatsServer::start();
    let (here, there) = (node(nats(&server)).await, node(nats(&server)).await);
    connected(&here, &there).await;
    server.stop();
    let vault = user();
    let mut listener = listen(&there, &vault);
    for _ in 0..20 {
        push(&here, &vault).await;
    }
    assert!(timeout(QUIET, listener.changed()).await.is_err(), "nobody tells");
    server.start_again();
    timeout(SOON, listener.changed()).await.expect("who connects again looks for itself");
    connected(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_before_nats_does() {
    let server = NatsServer::start();
    server.stop();
    let (here, there) = (node(nats(&server)).await, node(nats(&server)).await);
    push(&here, &user()).await;
    server.start_again();
    connected(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_come_back_with_the_database() {
    let server = PostgresServer::start();
    let url: vaultsync_store::DatabaseUrl = server.url("postgres").parse().expect("an address");
    let open = async || {
        let pubsub = PubsubBackend::Notify(Box::new(url.clone()));
        let primaries = vec![url.clone()];
        let postgres = PostgresOptions { pubsub, primaries, ..postgres_options() };
        Store::open_postgres(postgres, options()).await.expect("the database opens")
    };
    let (here, there) = (open().await, open().await);
    connected(&here, &there).await;
    let vault = user();
    let mut listener = listen(&there, &vault);
    server.stop();
    assert!(timeout(QUIET, listener.changed()).await.is_err(), "nobody tells");
    server.start_again();
    timeout(SOON, listener.changed()).await.expect("who connects again looks for itself");
    connected(&here, &there).await;
}
