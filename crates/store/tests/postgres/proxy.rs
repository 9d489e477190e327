//! A line to the database that can be cut, held up, and made to lose an answer.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use vaultsync_store::DatabaseUrl;

/// The message that commits, and the one that says that it is done.
const COMMIT: &[u8] = b"Q\0\0\0\x0bcommit\0";
const COMMITTED: &[u8] = b"COMMIT\0";

/// A line that tests can disturb. It ends when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Counts up to cut all connections that there are.
    cuts: watch::Sender<u64>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// How many commits are still to lose: done by the database, and the answer cut off.
    answers_to_lose: AtomicUsize,
    /// How many commits are still to be cut off before the database gets them.
    commits_to_lose: AtomicUsize,
    /// Bytes go nowhere, and nothing is closed.
    is_stalled: AtomicBool,
    refuses: AtomicBool,
    /// How long an answer is held, so that all of a flight is sent before it.
    held_millis: AtomicUsize,
    flights: AtomicUsize,
    connections: AtomicUsize,
}

impl Proxy {
    /// A line to a PostgreSQL server on this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared::default());
        let (cuts, cut) = watch::channel(0);
        let lines = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if lines.refuses.load(Ordering::SeqCst) {
                    continue;
                }
                let (shared, mut cut) = (lines.clone(), cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    shared.connections.fetch_add(1, Ordering::SeqCst);
                    tokio::select! {
                        () = carry(client, server, &shared) => {}
                        _ = cut.changed() => {}
                    }
                    shared.connections.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, shared, cuts, accepting }
    }

    pub(crate) fn url(&self, database: &str) -> DatabaseUrl {
        let text = format!("postgres://postgres@{}/{database}?sslmode=disable", self.address);
        text.parse().expect("an address")
    }

    /// The next `count` commits are done, and nobody is told.
    pub(crate) fn lose_answers(&self, count: usize) {
        self.shared.answers_to_lose.store(count, Ordering::SeqCst);
    }

    /// The next `count` commits do not reach the database.
    pub(crate) fn lose_commits(&self, count: usize) {
        self.shared.commits_to_lose.store(count, Ordering::SeqCst);
    }

    /// How many commits are still to be lost, of either kind.
    pub(crate) fn left_to_lose(&self) -> usize {
        let left = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        left(&self.shared.answers_to_lose) + left(&self.shared.commits_to_lose)
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Takes no more connections, or takes them again.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Lets bytes go nowhere, without a word to either side, or lets them go on.
    pub(crate) fn stall(&self, is_stalled: bool) {
        self.shared.is_stalled.store(is_stalled, Ordering::SeqCst);
    }

    /// How often something was sent to the database after it had answered, during `work`.
    pub(crate) async fn flights(&self, work: impl Future<Output = ()>) -> usize {
        self.shared.held_millis.store(100, Ordering::SeqCst);
        self.shared.flights.store(0, Ordering::SeqCst);
        work.await;
        self.shared.held_millis.store(0, Ordering::SeqCst);
        self.shared.flights.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

/// Takes one of `left`, if there is one.
fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// Carries bytes both ways until either side ends, or an answer is lost.
async fn carry(mut client: TcpStream, mut server: TcpStream, shared: &Shared) {
    let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut answered = true;
    let mut is_losing = false;
    // The end of what was read before: a message may be cut between two reads.
    let (mut sent, mut told) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(1..) = read else { return };
                let bytes = &from_client[..read.unwrap_or(0)];
                wait_while_stalled(shared).await;
                if std::mem::take(&mut answered) {
                    shared.flights.fetch_add(1, Ordering::SeqCst);
                }
                if ends_within(&mut sent, bytes, COMMIT) {
                    if take(&shared.commits_to_lose) {
                        return;
                    }
                    is_losing = take(&shared.answers_to_lose);
                    told.clear();
                }
                if server.write_all(bytes).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(1..) = read else { return };
                let bytes = &from_server[..read.unwrap_or(0)];
                wait_while_stalled(shared).await;
                if is_losing {
                    if ends_within(&mut told, bytes, COMMITTED) {
                        return;
                    }
                    continue;
                }
                let held = shared.held_millis.load(Ordering::SeqCst) as u64;
                tokio::time::sleep(Duration::from_millis(held)).await;
                answered = true;
                if client.write_all(bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn wait_while_stalled(shared: &Shared) {
    while shared.is_stalled.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether `wanted` ends within these bytes; keeps what the next ones may continue.
fn ends_within(before: &mut Vec<u8>, bytes: &[u8], wanted: &[u8]) -> bool {
    before.extend_from_slice(bytes);
    let found = before.windows(wanted.len()).any(|window| window == wanted);
    let kept = if found { 0 } else { wanted.len() - 1 };
    before.drain(..before.len().saturating_sub(kept));
    found
}
