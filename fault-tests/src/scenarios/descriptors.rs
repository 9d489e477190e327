//! The server may open few files, and more connections arrive than that.
//!
//! Writers and followers keep the connections that they have. Further clients are refused, and never left
//! waiting, by the limit of connections that follows from the limit of open files. That the system gives the
//! process no further descriptor is a test of the process (`crates/vaultsync/tests/process/descriptors.rs`).

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};
use vaultsync_testkit::{process::ServerProcess, workload::WriterConfig};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    workload::{LoadPlan, WRITES, Workload},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "descriptors",
    shows: "the limit of open files is low; further connections get 503",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// The limits of open files at the start of the server.
const SOFT_LIMIT: u32 = 64;
const HARD_LIMIT: u32 = 400;

/// Time in which every connection must get a response, on a busy machine.
const RESPONSE_MAX: Duration = Duration::from_secs(60);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let database = context.sqlite();
    let mut config = context.server(&database);
    let limits =
        format!("ulimit -Sn {SOFT_LIMIT} && ulimit -Hn {HARD_LIMIT} && exec \"$0\" \"$@\"");
    config.wrapper = ["sh".to_owned(), "-c".to_owned(), limits].into();
    let mut server = ServerProcess::start(config).await?;
    let writes = WriterConfig { pause: Duration::from_millis(20), ..WRITES };
    let plan = LoadPlan { writes, ..LoadPlan::default() };
    let workload = context.workload(plan.users)?;
    let clients = workload.start(&[server.url()].into(), &plan);
    tokio::time::sleep(Duration::from_secs(1)).await;

    for _ in 0..context.pick(10, 2) {
        let open = fill(&server).await?;
        report.maximum("connections open", open.len() as u64);
        report.expect(open.len() > SOFT_LIMIT as usize, || "the limit was not raised".to_owned());
        expect_refusals(&server, &workload, &mut report).await?;
        drop(open);
        until_served(&server).await?;
    }

    clients.finish().await?;
    let totals = workload.tally.totals();
    report.count("responses 503", totals.with_status(503));
    report.expect(totals.unanswered == 0, || {
        format!("{} requests got no response: {:?}", totals.unanswered, totals.unanswered_causes)
    });
    report.expect_no_panic(&server);
    let status = server.stop().await?;
    report.expect(status.success(), || format!("the server stopped with {status}"));
    report.verify(&workload, &database)?;
    Ok(report)
}

/// Opens connections until one is refused, and returns the others.
async fn fill(server: &ServerProcess) -> anyhow::Result<Vec<BufReader<TcpStream>>> {
    let mut open = Vec::new();
    loop {
        match connect(server).await? {
            (stream, 200) => open.push(stream),
            (_, 503) => return Ok(open),
            (_, status) => bail!("a connection got {status}"),
        }
        ensure!(open.len() < HARD_LIMIT as usize, "every connection was accepted");
    }
}

/// Expects that further connections are refused, and that clients with a connection are served meanwhile.
async fn expect_refusals(
    server: &ServerProcess,
    workload: &Workload,
    report: &mut ScenarioReport,
) -> anyhow::Result<()> {
    let before = workload.tally.totals().acknowledged;
    let mut refused = 0;
    let serving = async {
        while refused < 20 || workload.tally.totals().acknowledged == before {
            refused += u64::from(connect(server).await?.1 == 503);
        }
        Ok(())
    };
    let outcome: anyhow::Result<_> = timeout(RESPONSE_MAX, serving)
        .await
        .context("clients are not served, or none is refused")?;
    report.count("connections refused with 503", refused);
    outcome
}

/// Sends a request on a new connection, and returns the status of the response.
async fn connect(server: &ServerProcess) -> anyhow::Result<(BufReader<TcpStream>, u16)> {
    let responding = async {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", server.port())).await?);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((stream, status.with_context(|| format!("no response: {line}"))?))
    };
    timeout(RESPONSE_MAX, responding).await.context("a connection got no response")?
}

/// Waits until a new connection is served.
async fn until_served(server: &ServerProcess) -> anyhow::Result<()> {
    let serving = async {
        while connect(server).await?.1 != 200 {}
        Ok(())
    };
    timeout(RESPONSE_MAX, serving).await.context("connections are still refused")?
}
