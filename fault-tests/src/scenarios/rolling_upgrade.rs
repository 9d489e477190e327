//! Servers are told to stop and started again, one after another, as in an upgrade.
//!
//! A request may find nobody who takes its connection, since there is no proxy before these servers
//! that would send it elsewhere; it must not be cut off, and not be refused.

use std::time::Duration;

use vaultsync_test_servers::PostgresServer;

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    judge::{Database, judge},
    load::{Crowd, Load, Plan},
    process::{Server, Spec, addresses},
};

/// See the module.
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
    let url = postgres.url("postgres");
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers
            .push(Server::start(Spec::new(&context.program, context.folder(), url.clone())).await?);
    }
    let plan = Plan { users: 4, rest: Duration::from_millis(2), ..Plan::default() };
    let crowd = Crowd::new(&context.program, &context.folder().join("data"), plan.users)?;
    let load = Load::start(&crowd, &addresses(&servers), plan);
    for turn in 0..context.pick(30, 3) {
        let server = &mut servers[turn % 3];
        let ended = server.stop().await?;
        report.expect(ended.success(), || format!("a server that was told to stop: {ended}"));
        server.start_again().await?;
        report.count("restarts", 1);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    load.finish().await?;
    let counted = crowd.tally.so_far();
    report.count("connections refused and tried elsewhere", counted.unreached);
    report.count("requests cut off", counted.unanswered);
    report.count("answers 503", counted.of_status(503));
    report.expect(counted.unanswered == 0, || {
        format!("requests were cut off: {:?}", counted.why_unanswered)
    });
    report.expect(counted.of_status(503) == 0, || {
        format!("{} requests were answered 503", counted.of_status(503))
    });
    report.broken.extend(counted.faults);
    report.take(judge(&crowd.case, &Database::Postgres(url))?);
    Ok(report)
}
