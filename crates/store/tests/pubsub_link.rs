//! What an operator is told where hints do not get through, and what the servers see of them.

#[path = "support/mod.rs"]
#[allow(dead_code, reason = "other programs need the rest")]
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

/// Far longer than anything here takes on a machine that has much else to do.
const SOON: Duration = Duration::from_secs(30);

/// What is logged on this thread, which is all of a test's where its runtime has one.
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
    /// Listens from now on to warnings, for as long as the second is held.
    fn of_warnings() -> (Self, impl Drop) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(LevelFilter::WARN)
            .with_writer(log.clone())
            .finish();
        let held = tracing::subscriber::set_default(subscriber);
        (log, held)
    }

    fn count(&self, text: &str) -> usize {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(text)).count()
    }

    async fn has(&self, text: &str) {
        let has = async {
            while self.count(text) == 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, has).await.unwrap_or_else(|_| panic!("it is not told: {text}"));
    }
}

async fn node(pubsub: PubsubBackend) -> Store {
    open(PostgresOptions { pubsub, ..postgres_options() }).await
}

async fn open(options: PostgresOptions) -> Store {
    let new_epoch = || Epoch::new(Uuid::new_v4());
    let store = StoreOptions { page_bytes_max: 1 << 20, new_epoch };
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
    assert!(matches!(pushed, Ok(PushOutcome::Applied(_))), "{pushed:?}");
}

#[tokio::test]
async fn a_pooler_that_keeps_hints_back_is_told_of() {
    let url = postgres_options().primaries[0].clone();
    drop(node(PubsubBackend::Notify(Box::new(url))).await);
    let bouncer = PgBouncer::start(shared_postgres());
    let (log, _held) = Log::of_warnings();
    let _node = node(notify(&bouncer.url("vaultsync"))).await;
    log.has("is there a pooler between?").await;
}

#[tokio::test]
async fn an_outage_is_told_of_once_also_where_it_was_there_first() {
    let server = NatsServer::start();
    server.stop();
    let (log, _held) = Log::of_warnings();
    let node = node(nats(&server.url())).await;
    let interrupted = "hints to and from other nodes are interrupted";
    log.has(interrupted).await;
    // Long enough for a few more tries.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(log.count(interrupted), 1);
    // The first connection wakes who listens.
    let mut listener = node.notifier().subscribe(Vault::of("i", "s").id(), 10).expect("a place");
    server.start_again();
    timeout(SOON, listener.changed()).await.expect("hints are back");
    server.stop();
    let twice = async {
        while log.count(interrupted) < 2 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, twice).await.expect("a second outage is told of too");
}

#[tokio::test]
async fn a_server_without_tls_is_told_of_where_tls_is_asked_for() {
    let server = NatsServer::start();
    let (log, _held) = Log::of_warnings();
    let _node = node(nats(&server.url().replace("nats://", "tls://"))).await;
    log.has("hints to and from other nodes are interrupted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_pushed_last_is_told_before_a_store_is_closed_and_nothing_is_left_open() {
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
    timeout(SOON, both).await.expect("both listen");
    // Their greetings, which wake everybody, are over.
    sleep(Duration::from_secs(1)).await;
    for _ in 0..5 {
        let vault = Vault::of("i", Uuid::new_v4().to_string());
        let mut listener = there.notifier().subscribe(vault.id(), 10).expect("a place");
        let closing = open(options()).await;
        sleep(Duration::from_secs(1)).await;
        push(&closing, &vault).await;
        closing.close().await;
        timeout(SOON, listener.changed()).await.expect("the last push is told");
    }
    here.close().await;
    there.close().await;
    let nobody = async {
        let all = "select count(*) from pg_stat_activity where application_name = 'vaultsync'";
        while server.query("postgres", all) != "0" {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, nobody).await.expect("a closed store leaves no connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_that_pushes_notifies() {
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
    let telling = ["notify vaultsync_heads"];
    let listens = async {
        while processes(&["listen vaultsync_heads"]).is_empty() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, listens).await.expect("the node listens");
    push(&node, &Vault::of("i", "s")).await;
    let told = async {
        let listening = processes(&["listen vaultsync_heads"]);
        while processes(&telling).is_disjoint(&listening) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, told).await.expect("a push is told, where the node listens");
    let pushing = processes(&["insert into records", "update vaults", "insert into vaults"]);
    assert!(!pushing.is_empty(), "pushes are in the log");
    assert!(pushing.is_disjoint(&processes(&telling)));
}
