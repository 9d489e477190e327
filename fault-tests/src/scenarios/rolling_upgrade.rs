//! Servers are stopped and started again, one after another, as in an upgrade.
//!
//! A connection may be refused, because no proxy in front of these servers sends the request elsewhere. No
//! request may be cut off or refused.

use std::time::Duration;

use vaultsync_test_servers::PostgresServer;
use vaultsync_testkit::{
    process::{ServerProcess, addresses},
    workload::WriterConfig,
};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    verify::Database,
    workload::{LoadPlan, WRITES},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "rolling-upgrade",
    shows: "3 servers are stopped by SIGTERM and started again in turn; no request is cut or refused",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let postgres = PostgresServer::start();
    let database = Database::Postgres(postgres.url("postgres"));
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(ServerProcess::start(context.server(&database)).await?);
    }
    let writes = WriterConfig { pause: Duration::from_millis(2), ..WRITES };
    let plan = LoadPlan { users: 4, writes, ..LoadPlan::default() };
    let workload = context.workload(plan.users)?;
    let clients = workload.start(&addresses(&servers), &plan);
    for restart in 0..context.pick(30, 3) {
        let server = &mut servers[restart % 3];
        let status = server.stop().await?;
        report.expect(status.success(), || format!("a server stopped with {status}"));
        server.start_again().await?;
        report.count("restarts", 1);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    clients.finish().await?;
    let totals = workload.tally.totals();
    report.count("connections refused and tried elsewhere", totals.unreached);
    report.count("requests cut off", totals.unanswered);
    report.count("responses 503", totals.with_status(503));
    report.expect(totals.unanswered == 0, || {
        format!("requests were cut off: {:?}", totals.unanswered_causes)
    });
    report.expect(totals.with_status(503) == 0, || {
        format!("{} requests were answered 503", totals.with_status(503))
    });
    report.verify(&workload, &database)?;
    Ok(report)
}
