//! Clients that take a connection and then do little or nothing with it; each kind is closed in its
//! time, and others are served meanwhile.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};

use crate::{
    Bench, Findings, Scenario,
    judge::{Database, judge},
    load::{Crowd, Load, Plan},
    process::{Server, Spec},
};

/// See the module.
pub(super) const SCENARIO: Scenario = Scenario {
    name: "slow-clients",
    shows: "2,000 slow clients (silent, half a header, stalled body, idle) are closed in time",
    needs_root: false,
    by_default: true,
    run: |bench| Box::pin(run(bench)),
};

/// What a slow client sends, and how soon it must be closed: the deadline of `docs/PROTOCOL.md`, and
/// half of it more.
const KINDS: [(&str, &str, u64); 4] = [
    ("silent", "", 15),
    ("half a header", "GET /api/sync/info HTTP/1.1\r\nhost: a\r\nx-", 15),
    ("stalled body", STALLED, 45),
    ("idle", "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", 90),
];

const STALLED: &str = "POST /api/sync/push HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\nauthorization: Bearer TOKEN\r\n\r\n{";

async fn run(bench: Bench) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let path = bench.folder().join("vaultsync.sqlite3");
    let spec = Spec::new(&bench.program, bench.folder(), format!("sqlite:{}", path.display()));
    let server = Server::start(spec).await?;
    let plan = Plan { rest: Duration::from_millis(20), ..Plan::default() };
    let crowd = Crowd::new(&bench.program, &bench.folder().join("data"), plan.users)?;
    let load = Load::start(&crowd, &[server.url()].into(), plan);
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let mut slow = JoinSet::new();
    for number in 0..bench.pick(2000, 40) {
        // Some seconds are not enough for the longer deadlines.
        let (kind, sent, seconds_max) = KINDS[number % bench.pick(KINDS.len(), 2)];
        let sent = sent.replace("TOKEN", crowd.token(0));
        slow.spawn(async move {
            let closed = closed(address, &sent, Duration::from_secs(seconds_max)).await;
            (kind, closed)
        });
        // All at once they would overflow the listener's queue, and wait there for longer than told.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    while let Some(ended) = slow.join_next().await {
        let (kind, closed) = ended?;
        match closed {
            Ok(after) => {
                findings.count(&format!("{kind} and closed"), 1);
                findings.at_most(&format!("s until {kind} was closed"), after.as_secs());
            }
            Err(error) => findings.broken.push(format!("{kind}: {error:#}")),
        }
    }
    load.finish().await?;
    let counted = crowd.tally.so_far();
    let refused = counted.unreached + counted.unanswered + counted.of_status(503);
    findings.expect(refused == 0, || format!("{refused} requests of others were not served"));
    findings.expect(!server.panicked(), || "the server panicked".to_owned());
    findings.broken.extend(counted.faults);
    findings.take(judge(&crowd.case, &Database::Sqlite(path))?);
    Ok(findings)
}

/// How long the server bore with a client that sends this and nothing more.
async fn closed(address: SocketAddr, sent: &str, longest: Duration) -> anyhow::Result<Duration> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(sent.as_bytes()).await?;
    let begun = Instant::now();
    let mut answer = Vec::new();
    // An error is an end too: the connection was reset.
    let ended = tokio::time::timeout(longest, stream.read_to_end(&mut answer)).await;
    anyhow::ensure!(ended.is_ok(), "not closed within {longest:?}");
    Ok(begun.elapsed())
}
