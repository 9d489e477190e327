//! Two servers behind a balancer are restarted in turn. The balancer does not send a request to another
//! server if one fails, and learns only after a while that a server stops.
//!
//! Without the drain delay, requests that it still sends to the server that stops are refused (502).

use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;
use vaultsync_test_servers::{Nginx, PostgresServer};
use vaultsync_testkit::{
    process::{ServerProcess, is_ready},
    workload::WriterConfig,
};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    verify::Database,
    workload::{LoadPlan, WRITES},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "drain-delay",
    shows: "2 servers behind a slow balancer are restarted in turn; no request fails",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// The drain delay of the servers, in seconds.
const DRAIN_DELAY: &str = "4";

/// How long the balancer takes from the first failed readiness check to the end of new requests.
const REACTION: Duration = Duration::from_secs(1);

/// How long a signal takes to show, on a busy machine.
const NOT_READY_MAX: Duration = Duration::from_secs(20);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let postgres = PostgresServer::start();
    let database = Database::Postgres(postgres.url("postgres"));
    let mut servers = Vec::new();
    for _ in 0..2 {
        let mut config = context.server(&database);
        config.flags.extend(["--drain-delay-seconds".to_owned(), DRAIN_DELAY.to_owned()]);
        servers.push(ServerProcess::start(config).await?);
    }
    let ports: Vec<u16> = servers.iter().map(ServerProcess::port).collect();
    let balancer = Nginx::start(&ports);
    let writes = WriterConfig { pause: Duration::from_millis(20), ..WRITES };
    let plan = LoadPlan { users: 4, writes, ..LoadPlan::default() };
    let workload = context.workload(plan.users)?;
    let address = format!("http://127.0.0.1:{}", balancer.port());
    let clients = workload.start(&[address].into(), &plan);
    for restart in 0..context.pick(10, 2) * 2 {
        let server = &mut servers[restart % 2];
        let others: Vec<u16> =
            ports.iter().copied().filter(|port| *port != server.port()).collect();
        let url = server.url();
        let (stopped, checked) = tokio::join!(server.stop(), take_out(&url, &balancer, &others));
        checked?;
        let status = stopped?;
        report.expect(status.success(), || format!("a server stopped with {status}"));
        server.start_again().await?;
        balancer.set_upstreams(&ports);
        report.count("restarts", 1);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    clients.finish().await?;
    let totals = workload.tally.totals();
    report.count("responses 503", totals.with_status(503));
    // A busy machine, on which the tests run this, may be taken for overload.
    let overloaded = context.pick(totals.with_status(503), 0);
    let failed = totals.unreached + totals.unanswered + overloaded;
    report.expect(failed == 0, || format!("{failed} requests failed: {totals:?}"));
    report.verify(&workload, &database)?;
    Ok(report)
}

/// Waits until a server is not ready, and takes it out of the balancer after a while.
async fn take_out(url: &str, balancer: &Nginx, others: &[u16]) -> anyhow::Result<()> {
    let began = Instant::now();
    while is_ready(url).await {
        ensure!(began.elapsed() < NOT_READY_MAX, "the server is ready, although it stops");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(REACTION).await;
    balancer.set_upstreams(others);
    Ok(())
}
