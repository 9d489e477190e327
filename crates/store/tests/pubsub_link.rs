//! The link to other processes: warnings while it is down, and what the servers see of it.

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "other test programs need the rest")]
mod support;

use std::{
    collections::BTreeSet,
    fs, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};
use uuid::Uuid;
use vaultsync_protocol::{Epoch, Timestamp};
use vaultsync_store::{PostgresOptions, PubsubBackend, PushOutcome, Store, StoreOptions, Vault};
use vaultsync_test_servers::{NatsServer, PgBouncer, PostgresServer, shared_postgres};

use support::{batch, operation, postgres_options};

/// Far longer than anything here takes, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The log of the current thread, which is the only one of a single-threaded test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Records warnings until the returned guard is dropped.
    fn record_warnings() -> (Self, impl Drop) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(LevelFilter::WARN)
            .with_writer(log.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (log, guard)
    }

    fn count(&self, text: &str) -> usize {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until a line contains the text.
    async fn wait_for(&self, text: &str) {
        let logged = async {
            while self.count(text) == 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(TIMEOUT, logged).await.unwrap_or_else(|_| panic!("it is not logged: {text}"));
    }
}

async fn node(pubsub: PubsubBackend) -> Store {
    open(PostgresOptions { pubsub, ..postgres_options() }).await
}

async fn open(options: PostgresOptions) -> Store {
    let new_epoch = || Epoch::new(Uuid::new_v4());
    let store = StoreOptions { page_bytes_max: 1 << 20, ..StoreOptions::new(new_epoch) };
    Store::open_postgres(options, store).await.expect("the database opens")
}

fn nats(url: &str) -> PubsubBackend {
    PubsubBackend::Nats(vec![url.parse().expect("an address")])
}

fn notify(url: &str) -> PubsubBackend {
    PubsubBackend::Notify(Box::new(url.parse().expect("an address")))
}

async fn push(node: &Store, vault: &Vault) {
    let create = operation(&Uuid::new_v4().to_string(), None, "v1", false);
    let pushed = node.push(vault, batch(&[create], None), Timestamp::from_millis(0), ()).await;
    assert!(matches!(pushed, Ok(PushOutcome::Applied { .. })), "{pushed:?}");
}

#[tokio::test]
async fn a_pooler_that_blocks_notifications_is_logged() {
    let url = postgres_options().primaries[0].clone();
    drop(node(PubsubBackend::Notify(Box::new(url))).await);
    let bouncer = PgBouncer::start(shared_postgres());
    let (log, _guard) = Log::record_warnings();
    let _node = node(notify(&bouncer.url("vaultsync"))).await;
    log.wait_for("if a pooler is in front of the database").await;
}

#[tokio::test]
async fn an_outage_is_logged_once_even_if_it_began_before_the_start() {
    let server = NatsServer::start();
    server.stop();
    let (log, _guard) = Log::record_warnings();
    let node = node(nats(&server.url())).await;
    let interrupted = "notifications to and from other nodes are interrupted";
    log.wait_for(interrupted).await;
    // Long enough for a few retries.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(log.count(interrupted), 1);
    // The first connection notifies all subscriptions.
    let mut subscription =
        node.notifier().subscribe(&Vault::of("i", "s"), 10).expect("a subscription");
    server.start_again();
    timeout(TIMEOUT, subscription.changed()).await.expect("notifications are back");
    server.stop();
    let twice = async {
        while log.count(interrupted) < 2 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIMEOUT, twice).await.expect("a second outage is logged, too");
}

#[tokio::test]
async fn a_server_without_tls_is_logged_if_tls_is_required() {
    let server = NatsServer::start();
    let (log, _guard) = Log::record_warnings();
    let _node = node(nats(&server.url().replace("nats://", "tls://"))).await;
    log.wait_for("notifications to and from other nodes are interrupted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_a_store_publishes_the_last_push_and_closes_all_connections() {
    let server = PostgresServer::start();
    let url = server.url("postgres");
    let options = || PostgresOptions {
        primaries: vec![url.parse().expect("an address")],
        pubsub: notify(&url),
        ..postgres_options()
    };
    let (here, there) = (open(options()).await, open(options()).await);
    let listening = "select count(*) from pg_stat_activity where query like 'listen%'
                     or query like 'notify%'";
    let both = async {
        while server.query("postgres", listening) != "2" {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(TIMEOUT, both).await.expect("both nodes listen");
    // Their loopback probes, which notify all subscriptions, are over.
    sleep(Duration::from_secs(1)).await;
    for _ in 0..5 {
        let vault = Vault::of("i", Uuid::new_v4().to_string());
        let mut subscription = there.notifier().subscribe(&vault, 10).expect("a subscription");
        let closing = open(options()).await;
        sleep(Duration::from_secs(1)).await;
        push(&closing, &vault).await;
        closing.close().await;
        timeout(TIMEOUT, subscription.changed()).await.expect("the last push is published");
    }
    here.close().await;
    there.close().await;
    let disconnected = async {
        let all = "select count(*) from pg_stat_activity where application_name = 'vaultsync'";
        while server.query("postgres", all) != "0" {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(TIMEOUT, disconnected).await.expect("a closed store leaves no connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_that_pushes_sends_notify() {
    let server = PostgresServer::start_with(&[
        ("log_statement", "all"),
        ("log_line_prefix", "process=%p "),
        ("log_min_messages", "warning"),
    ]);
    let url = server.url("postgres");
    let primaries = vec![url.parse().expect("an address")];
    let node =
        open(PostgresOptions { primaries, pubsub: notify(&url), ..postgres_options() }).await;
    let folder = server.folder();
    let log = folder.parent().expect("the server's folder").join("log");
    let processes = |statements: &[&str]| -> BTreeSet<String> {
        let log = String::from_utf8_lossy(&fs::read(&log).expect("its log")).to_lowercase();
        let lines = log.lines().filter(|line| statements.iter().any(|part| line.contains(part)));
        lines.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
    };
    let notifying = ["notify vaultsync_heads"];
    let listening = async {
        while processes(&["listen vaultsync_heads"]).is_empty() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(TIMEOUT, listening).await.expect("the node listens");
    push(&node, &Vault::of("i", "s")).await;
    let notified = async {
        let listening = processes(&["listen vaultsync_heads"]);
        while processes(&notifying).is_disjoint(&listening) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(TIMEOUT, notified).await.expect("the listening connection publishes the push");
    let pushing = processes(&["insert into records", "update vaults", "insert into vaults"]);
    assert!(!pushing.is_empty(), "pushes are in the log");
    assert!(pushing.is_disjoint(&processes(&notifying)));
}
