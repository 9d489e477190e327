//! A proxy to the database that can cut connections, delay them, and lose requests and responses.

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

/// The message that commits, and the response to it.
const COMMIT: &[u8] = b"Q\0\0\0\x0bcommit\0";
const COMMITTED: &[u8] = b"COMMIT\0";

/// A proxy that tests can disturb. It stops when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Increased to cut all open connections.
    cuts: watch::Sender<u64>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// How many responses to commits to lose: the database commits, and the connection is cut.
    responses_to_lose: AtomicUsize,
    /// How many commits to lose before they reach the database.
    commits_to_lose: AtomicUsize,
    /// Bytes are not forwarded, and connections stay open.
    is_stalled: AtomicBool,
    refuses: AtomicBool,
    /// How long a response is delayed, so that all requests of a round trip are sent before it.
    delay_millis: AtomicUsize,
    round_trips: AtomicUsize,
    connections: AtomicUsize,
}

impl Proxy {
    /// A proxy to a PostgreSQL server on this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared::default());
        let (cuts, cut) = watch::channel(0);
        let accepting_shared = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if accepting_shared.refuses.load(Ordering::SeqCst) {
                    continue;
                }
                let (shared, mut cut) = (accepting_shared.clone(), cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    shared.connections.fetch_add(1, Ordering::SeqCst);
                    tokio::select! {
                        () = forward(client, server, &shared) => {}
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

    /// Loses the responses to the next `count` commits.
    pub(crate) fn lose_responses(&self, count: usize) {
        self.shared.responses_to_lose.store(count, Ordering::SeqCst);
    }

    /// Loses the next `count` commits before they reach the database.
    pub(crate) fn lose_commits(&self, count: usize) {
        self.shared.commits_to_lose.store(count, Ordering::SeqCst);
    }

    /// How many responses and commits are still to be lost.
    pub(crate) fn left_to_lose(&self) -> usize {
        let left = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        left(&self.shared.responses_to_lose) + left(&self.shared.commits_to_lose)
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Refuses new connections, or accepts them again.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Stops forwarding bytes while connections stay open, or resumes.
    pub(crate) fn stall(&self, is_stalled: bool) {
        self.shared.is_stalled.store(is_stalled, Ordering::SeqCst);
    }

    /// The number of round trips during `work`: how often a request was sent after a response.
    pub(crate) async fn round_trips(&self, work: impl Future<Output = ()>) -> usize {
        self.shared.delay_millis.store(100, Ordering::SeqCst);
        self.shared.round_trips.store(0, Ordering::SeqCst);
        work.await;
        self.shared.delay_millis.store(0, Ordering::SeqCst);
        self.shared.round_trips.load(Ordering::SeqCst)
    }

    /// The number of open connections.
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

/// Decrements `left`, unless it is zero.
fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// Forwards bytes in both directions until either side closes, or a response is lost.
async fn forward(mut client: TcpStream, mut server: TcpStream, shared: &Shared) {
    let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut has_responded = true;
    let mut is_losing = false;
    // The last bytes of earlier reads: a message may be split between two reads.
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(1..) = read else { return };
                let bytes = &from_client[..read.unwrap_or(0)];
                wait_while_stalled(shared).await;
                if std::mem::take(&mut has_responded) {
                    shared.round_trips.fetch_add(1, Ordering::SeqCst);
                }
                if ends_within(&mut sent, bytes, COMMIT) {
                    if take(&shared.commits_to_lose) {
                        return;
                    }
                    is_losing = take(&shared.responses_to_lose);
                    received.clear();
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
                    if ends_within(&mut received, bytes, COMMITTED) {
                        return;
                    }
                    continue;
                }
                let delay = shared.delay_millis.load(Ordering::SeqCst) as u64;
                tokio::time::sleep(Duration::from_millis(delay)).await;
                has_responded = true;
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

/// Whether `wanted` ends within these bytes. Keeps the last bytes, which the next ones may continue.
fn ends_within(before: &mut Vec<u8>, bytes: &[u8], wanted: &[u8]) -> bool {
    before.extend_from_slice(bytes);
    let found = before.windows(wanted.len()).any(|window| window == wanted);
    let kept = if found { 0 } else { wanted.len() - 1 };
    before.drain(..before.len().saturating_sub(kept));
    found
}
