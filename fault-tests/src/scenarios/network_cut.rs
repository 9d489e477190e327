//! The network link between a server and its database is cut, or drops what the server sends, and is
//! restored.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;
use vaultsync_test_servers::PostgresServer;
use vaultsync_testkit::{
    process::ServerProcess,
    workload::{Tally, WriterConfig},
};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    faults::network::{Link, Namespace},
    verify::Database,
    workload::{LoadPlan, WRITES},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "network-cut",
    shows: "the link from a server to PostgreSQL is cut, or drops all packets, and is restored",
    needs_root: true,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// How long the server may take to recover once the link is restored.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    // One link connects the clients with the server, the other one the server with its database.
    let namespace = Namespace::new("vsfault")?;
    let (to_clients, to_database) = (Link::new(&namespace, 91)?, Link::new(&namespace, 92)?);
    let postgres = start_postgres();
    let (host, port) = (to_database.host_address(), postgres.port());
    let url = format!("postgres://postgres@{host}:{port}/postgres?sslmode=disable");
    let mut config = context.server(&Database::Postgres(url));
    (config.wrapper, config.host) = (namespace.wrapper(), to_clients.peer_address().into());
    let server = ServerProcess::start(config).await?;
    let writes = WriterConfig { pause: Duration::from_millis(5), ..WRITES };
    let plan = LoadPlan { writes, ..LoadPlan::default() };
    let workload = context.workload(plan.users)?;
    let clients = workload.start(&[server.url()].into(), &plan);
    for seconds in context.pick(&[1, 5, 30, 1, 5, 1, 5, 1, 5, 1][..], &[1]) {
        let time = Duration::from_secs(*seconds);
        let cut = |is_cut| to_database.set_cut(is_cut);
        report.count("cuts", 1);
        break_link(cut, time, &workload.tally, &mut report).await?;
        let drop_packets = |is_dropping| to_database.set_dropping(is_dropping);
        report.count("times packets were dropped", 1);
        break_link(drop_packets, time, &workload.tally, &mut report).await?;
    }
    clients.finish().await?;
    report.expect_no_panic(&server);
    report.count("responses 503", workload.tally.totals().with_status(503));
    report.verify(&workload, &Database::Postgres(postgres.url("postgres")))?;
    Ok(report)
}

/// A PostgreSQL server that can also be reached over the link.
fn start_postgres() -> PostgresServer {
    let postgres = PostgresServer::start_with(&[("listen_addresses", "*")]);
    postgres.put_file(
        "pg_hba.conf",
        "host all all 127.0.0.1/32 trust\nhost all all 10.213.92.0/24 trust\n",
    );
    tokio::task::block_in_place(|| {
        postgres.stop();
        postgres.start_again();
    });
    postgres
}

/// Breaks the link for some time, restores it, and waits until the server accepts pushes again.
async fn break_link(
    set_broken: impl Fn(bool) -> anyhow::Result<()>,
    time: Duration,
    tally: &Tally,
    report: &mut ScenarioReport,
) -> anyhow::Result<()> {
    let acknowledged = || tally.totals().acknowledged;
    tokio::time::sleep(Duration::from_secs(1)).await;
    set_broken(true)?;
    // Responses that were already on their way may still arrive.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let at_break = acknowledged();
    tokio::time::sleep(time).await;
    let before = acknowledged();
    report.expect(before == at_break, || {
        format!("{} writes were acknowledged without a link", before - at_break)
    });
    let restored_at = Instant::now();
    set_broken(false)?;
    let recovered = async {
        while acknowledged() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let recovered = tokio::time::timeout(RECOVERY_MAX, recovered).await;
    recovered.with_context(|| format!("the server did not recover after {time:?}"))?;
    let took = u64::try_from(restored_at.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.maximum("ms to recover at most", took);
    Ok(())
}
