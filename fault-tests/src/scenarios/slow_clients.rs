//! Clients that take a connection and then do little or nothing with it; each kind is closed in its
//! time, and others are served meanwhile.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    task::JoinSet,
    time::Instant,
};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    judge::{Database, judge},
    load::{Batch, Change, Crowd, Load, Plan, Told},
    process::{Server, Spec},
};

/// See the module.
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
    /// All that it sends.
    sent: &'static str,
    /// How soon it must be closed: the deadline of `docs/PROTOCOL.md`, and half of it more.
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

/// What there is to read for those who do not: more than both ends' systems take off the server's hands.
const PAGE_RECORDS: usize = 100;
const RECORD_BYTES: usize = 1000;

/// What the system of a client that never reads takes for it, in bytes.
const RECEIVE_BUFFER_BYTES: u32 = 4096;

/// A packet's bytes on most lines. Those of a machine with itself are far larger, and by them the server's
/// system would take more than a megabyte of each answer.
const SEGMENT_BYTES: u32 = 1400;

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let path = context.folder().join("vaultsync.sqlite3");
    let spec = Spec::new(&context.program, context.folder(), format!("sqlite:{}", path.display()));
    let server = Server::start(spec).await?;
    let plan = Plan { rest: Duration::from_millis(20), ..Plan::default() };
    let crowd = Crowd::new(&context.program, &context.folder().join("data"), plan.users)?;
    let token = crowd.token(0).to_owned();
    let filled = crowd.session(0, "first").push(&server.url(), &page()).await;
    ensure!(matches!(filled, Told::Applied(_)), "there is nothing to read: {filled:?}");
    let load = Load::start(&crowd, &[server.url()].into(), plan);
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let mut slow = JoinSet::new();
    for number in 0..context.pick(2000, 40) {
        // Some seconds are not enough for the longer deadlines.
        let kind = KINDS[number % context.pick(KINDS.len(), 2)];
        let sent = kind.sent.replace("TOKEN", &token);
        slow.spawn(async move { (kind.name, closed(address, kind, &sent).await) });
        // All at once they would overflow the listener's queue, and wait there for longer than told.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    while let Some(ended) = slow.join_next().await {
        let (kind, closed) = ended?;
        match closed {
            Ok(after) => {
                report.count(&format!("{kind} and closed"), 1);
                report.at_most(&format!("s until {kind} was closed"), after.as_secs());
            }
            Err(error) => report.broken.push(format!("{kind}: {error:#}")),
        }
    }
    load.finish().await?;
    let counted = crowd.tally.so_far();
    let refused = counted.unreached + counted.unanswered + counted.of_status(503);
    report.expect(refused == 0, || format!("{refused} requests of others were not served"));
    report.expect(!server.panicked(), || "the server panicked".to_owned());
    report.broken.extend(counted.faults);
    report.take(judge(&crowd.case, &Database::Sqlite(path))?);
    Ok(report)
}

/// How long the server bore with a client of that kind; of one that never reads it shows only at the end
/// of the time it has.
async fn closed(address: SocketAddr, kind: Kind, sent: &str) -> anyhow::Result<Duration> {
    let longest = Duration::from_secs(kind.seconds_max);
    let socket = TcpSocket::new_v4()?;
    if !kind.reads {
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        SockRef::from(&socket).set_tcp_mss(SEGMENT_BYTES)?;
    }
    let mut stream = socket.connect(address).await?;
    stream.write_all(sent.as_bytes()).await?;
    let begun = Instant::now();
    let mut answer = Vec::new();
    if !kind.reads {
        tokio::time::sleep(longest).await;
    }
    let (until_then, rest) = (begun.elapsed(), longest.saturating_sub(begun.elapsed()));
    // An error is an end too: the connection was reset.
    let ended =
        tokio::time::timeout(rest.max(TO_READ_THE_REST), stream.read_to_end(&mut answer)).await;
    ensure!(ended.is_ok(), "not closed within {longest:?}");
    if kind.reads {
        return Ok(begun.elapsed());
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "was not answered: {}", answer.escape_ascii());
    let all = PAGE_RECORDS * RECORD_BYTES;
    ensure!(answer.len() < all, "still had its whole answer after {longest:?}");
    Ok(until_then)
}

/// For what the systems still hold of an answer that was given up.
const TO_READ_THE_REST: Duration = Duration::from_secs(5);

/// What there is to read first, since nobody else writes these records.
fn page() -> Batch {
    let change = |record| Change {
        record_id: format!("page-{record}"),
        base_version: None,
        ciphertext: vec![b'.'; RECORD_BYTES],
        deleted: false,
    };
    Batch::new(&(0..PAGE_RECORDS).map(change).collect::<Vec<_>>())
}
