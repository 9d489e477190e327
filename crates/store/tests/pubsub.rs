//! Notifications between processes, on real servers: PostgreSQL's NOTIFY and NATS.

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "other test programs need the rest")]
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

/// Far longer than a notification takes, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long no notification must arrive before the test concludes that none does.
const QUIET: Duration = Duration::from_millis(500);

fn options() -> StoreOptions {
    StoreOptions { page_bytes_max: 1 << 20, ..StoreOptions::new(|| Epoch::new(Uuid::new_v4())) }
}

async fn node(pubsub: PubsubBackend) -> Store {
    let postgres = PostgresOptions { pubsub, ..postgres_options() };
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
    assert!(matches!(pushed, Ok(PushOutcome::Applied { .. })), "{pushed:?}");
}

fn subscribe(node: &Store, vault: &Vault) -> Subscription {
    node.notifier().subscribe(vault, 10).expect("a subscription")
}

/// Pushes to one node until a subscription of another is notified: the two may not be connected yet.
async fn until_connected(from: &Store, to: &Store) {
    let vault = user();
    let mut subscription = subscribe(to, &vault);
    timeout(TIMEOUT, async {
        loop {
            push(from, &vault).await;
            if timeout(QUIET, subscription.changed()).await.is_ok() {
                return;
            }
        }
    })
    .await
    .expect("notifications arrive");
    // A node that has just connected notifies all subscriptions once more.
    while timeout(QUIET, subscription.changed()).await.is_ok() {}
}

/// What two nodes must do with every backend.
async fn check_notifications(here: &Store, there: &Store) {
    until_connected(here, there).await;
    until_connected(there, here).await;
    let (vault, other) = (user(), user());
    let (mut notified, mut not_notified) = (subscribe(there, &vault), subscribe(there, &other));
    push(here, &vault).await;
    timeout(TIMEOUT, notified.changed()).await.expect("the other node's subscription is notified");
    assert!(timeout(QUIET, not_notified.changed()).await.is_err(), "another vault's is not");

    // A node's own push notifies once, and not again when its message comes back.
    let mut own = subscribe(here, &vault);
    push(here, &vault).await;
    timeout(TIMEOUT, own.changed()).await.expect("the node's own subscription is notified");
    assert!(timeout(QUIET, own.changed()).await.is_err(), "it is notified once");

    // More vaults than fit in one message.
    let vaults: Vec<_> = (0..1000).map(|_| user()).collect();
    let mut subscriptions: Vec<_> = vaults.iter().map(|vault| subscribe(there, vault)).collect();
    let pushes = vaults.chunks(250).map(|vaults| async move {
        for vault in vaults {
            push(here, vault).await;
            push(here, vault).await;
        }
    });
    futures_util::future::join_all(pushes).await;
    for subscription in &mut subscriptions {
        timeout(TIMEOUT, subscription.changed()).await.expect("each of many vaults is notified");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_notify_each_other_with_notify() {
    check_notifications(&node(notify()).await, &node(notify()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_notify_each_other_with_nats() {
    let server = NatsServer::start();
    check_notifications(&node(nats(&server)).await, &node(nats(&server)).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_pubsub_is_not_notified_and_has_every_record() {
    let (here, there) = (node(notify()).await, node(PubsubBackend::None).await);
    let vault = user();
    let mut subscription = subscribe(&there, &vault);
    push(&here, &vault).await;
    assert!(timeout(QUIET, subscription.changed()).await.is_err());
    let pulled = there.pull(&vault, &Pull { limit: 10, ..Pull::default() }, Unbounded).await;
    let (outcome, _) = pulled.expect("the database responds");
    let vaultsync_store::PullOutcome::Page(page) = outcome else { panic!("{outcome:?}") };
    assert_eq!(page.records.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_messages_are_ignored() {
    let (here, there) = (node(notify()).await, node(notify()).await);
    until_connected(&here, &there).await;
    let url = shared_postgres().url("vaultsync");
    for rubbish in ["", "rubbish", "AQ==", "////", &"A".repeat(7999)] {
        query(&url, &format!("notify vaultsync_heads, '{rubbish}'"));
    }
    until_connected(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_resume_after_a_nats_outage_that_no_push_waits_for() {
    let server = NatsServer::start();
    let (here, there) = (node(nats(&server)).await, node(nats(&server)).await);
    until_connected(&here, &there).await;
    server.stop();
    let vault = user();
    let mut subscription = subscribe(&there, &vault);
    for _ in 0..20 {
        push(&here, &vault).await;
    }
    assert!(timeout(QUIET, subscription.changed()).await.is_err(), "no notification arrives");
    server.start_again();
    timeout(TIMEOUT, subscription.changed())
        .await
        .expect("a node that reconnects notifies its subscriptions");
    until_connected(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_while_nats_is_down() {
    let server = NatsServer::start();
    server.stop();
    let (here, there) = (node(nats(&server)).await, node(nats(&server)).await);
    push(&here, &user()).await;
    server.start_again();
    until_connected(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_resume_after_a_database_outage() {
    let server = PostgresServer::start();
    let url: vaultsync_store::DatabaseUrl = server.url("postgres").parse().expect("an address");
    let open = async || {
        let pubsub = PubsubBackend::Notify(Box::new(url.clone()));
        let primaries = vec![url.clone()];
        let postgres = PostgresOptions { pubsub, primaries, ..postgres_options() };
        Store::open_postgres(postgres, options()).await.expect("the database opens")
    };
    let (here, there) = (open().await, open().await);
    until_connected(&here, &there).await;
    let vault = user();
    let mut subscription = subscribe(&there, &vault);
    server.stop();
    assert!(timeout(QUIET, subscription.changed()).await.is_err(), "no notification arrives");
    server.start_again();
    timeout(TIMEOUT, subscription.changed())
        .await
        .expect("a node that reconnects notifies its subscriptions");
    until_connected(&here, &there).await;
}
