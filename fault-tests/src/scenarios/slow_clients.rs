//! Clients that open a connection and then do little or nothing with it; each kind is disconnected in time,
//! and other clients are served meanwhile.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    task::JoinSet,
    time::Instant,
};
use vaultsync_protocol::Operation;
use vaultsync_testkit::{history::Outcome, process::ServerProcess, workload::WriterConfig};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    workload::{LoadPlan, WRITES, operation},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "slow-clients",
    shows: "2,000 slow clients (silent, half a header, stalled body, never reading, idle) are closed in time",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// A kind of slow client.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// Everything that it sends.
    sent: &'static str,
    /// When it must be disconnected: the deadline of `docs/PROTOCOL.md`, and half of it in addition.
    seconds_max: u64,
    /// Whether it reads.
    reads: bool,
}

const KINDS: [Kind; 5] = [
    Kind { name: "silent", sent: "", seconds_max: 15, reads: true },
    Kind {
        name: "half a header",
        sent: "GET /api/sync/info HTTP/1.1\r\nhost: a\r\nx-",
        seconds_max: 15,
        reads: true,
    },
    Kind {
        name: "stalled body",
        sent: "POST /api/sync/push HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\
               authorization: Bearer TOKEN\r\n\r\n{",
        seconds_max: 45,
        reads: true,
    },
    Kind {
        name: "never reading",
        sent: "GET /api/sync/pull?limit=100 HTTP/1.1\r\nhost: a\r\n\
               authorization: Bearer TOKEN\r\n\r\n",
        seconds_max: 45,
        reads: false,
    },
    Kind {
        name: "idle",
        sent: "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n",
        seconds_max: 90,
        reads: true,
    },
];

/// Size of the page for clients that never read: more than the socket buffers of both ends take.
const PAGE_RECORDS: usize = 100;
const RECORD_BYTES: usize = 1000;

/// Receive buffer of a client that never reads.
const RECEIVE_BUFFER_BYTES: u32 = 4096;

/// Segment size of most networks. Loopback segments are far larger, and with them the server's socket buffer
/// would take more than a megabyte of each response.
const SEGMENT_BYTES: u32 = 1400;

/// Time to read what the socket buffers still have of a response that was given up.
const READ_REST_MAX: Duration = Duration::from_secs(5);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let database = context.sqlite();
    let server = ServerProcess::start(context.server(&database)).await?;
    let writes = WriterConfig { pause: Duration::from_millis(20), ..WRITES };
    let plan = LoadPlan { writes, ..LoadPlan::default() };
    let workload = context.workload(plan.users)?;
    let addresses = [server.url()].into();
    let filled = workload.client(0, "first", &addresses, 0).push(&page()).await;
    ensure!(matches!(filled, Outcome::Acknowledged { .. }), "the vault is not filled: {filled:?}");
    let clients = workload.start(&addresses, &plan);
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let mut slow = JoinSet::new();
    for number in 0..context.pick(2000, 40) {
        // A quick run does not wait for the longer deadlines.
        let kind = KINDS[number % context.pick(KINDS.len(), 2)];
        let sent = kind.sent.replace("TOKEN", workload.token(0));
        slow.spawn(async move { (kind.name, time_to_close(address, kind, &sent).await) });
        // All at once would overflow the listener's queue, and wait there for longer than the deadline.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    while let Some(ended) = slow.join_next().await {
        let (kind, closed) = ended?;
        match closed {
            Ok(after) => {
                report.count(&format!("{kind} and closed"), 1);
                report.maximum(&format!("s until {kind} was closed"), after.as_secs());
            }
            Err(error) => report.broken.push(format!("{kind}: {error:#}")),
        }
    }
    clients.finish().await?;
    let totals = workload.tally.totals();
    let unserved = totals.unreached + totals.unanswered + totals.with_status(503);
    report
        .expect(unserved == 0, || format!("{unserved} requests of other clients were not served"));
    report.expect_no_panic(&server);
    report.verify(&workload, &database)?;
    Ok(report)
}

/// Returns how long the server kept a client of this kind connected. For a client that never reads, this
/// shows only at its deadline.
async fn time_to_close(address: SocketAddr, kind: Kind, sent: &str) -> anyhow::Result<Duration> {
    let deadline = Duration::from_secs(kind.seconds_max);
    let socket = TcpSocket::new_v4()?;
    if !kind.reads {
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        SockRef::from(&socket).set_tcp_mss(SEGMENT_BYTES)?;
    }
    let mut stream = socket.connect(address).await?;
    stream.write_all(sent.as_bytes()).await?;
    let started = Instant::now();
    let mut response = Vec::new();
    if !kind.reads {
        tokio::time::sleep(deadline).await;
    }
    let (waited, rest) = (started.elapsed(), deadline.saturating_sub(started.elapsed()));
    // A reset of the connection is an error, and closes it too.
    let reading = stream.read_to_end(&mut response);
    let closed = tokio::time::timeout(rest.max(READ_REST_MAX), reading).await;
    ensure!(closed.is_ok(), "not closed within {deadline:?}");
    if kind.reads {
        return Ok(started.elapsed());
    }
    ensure!(response.starts_with(b"HTTP/1.1 200"), "no response: {}", response.escape_ascii());
    let whole = PAGE_RECORDS * RECORD_BYTES;
    ensure!(response.len() < whole, "the whole response was still there after {deadline:?}");
    Ok(waited)
}

/// The first page of the vault, because no other client writes these records.
fn page() -> Vec<Operation> {
    let record = |number| operation(&format!("page-{number}"), None, vec![b'.'; RECORD_BYTES]);
    (0..PAGE_RECORDS).map(record).collect()
}
