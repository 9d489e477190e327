//! The line between a server and its database is cut, or swallows what is sent, and mended.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;
use vaultsync_test_servers::PostgresServer;

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    faults::network::{Line, Place},
    judge::{Database, judge},
    load::{Crowd, Load, Plan},
    process::{Server, Spec},
};

/// See the module.
pub(super) const SCENARIO: Scenario = Scenario {
    name: "network-cut",
    shows: "the line from a server to PostgreSQL is cut, or swallows all that is sent, and mended",
    needs_root: true,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// How long the server may take to go on when the line is mended.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    // By one line clients reach the server, by the other one it reaches the database.
    let place = Place::new("vsfault")?;
    let (to_clients, to_database) = (Line::lay(&place, 91)?, Line::lay(&place, 92)?);
    let postgres = PostgresServer::start_with(&[("listen_addresses", "*")]);
    postgres.put_file(
        "pg_hba.conf",
        "host all all 127.0.0.1/32 trust\nhost all all 10.213.92.0/24 trust\n",
    );
    tokio::task::block_in_place(|| {
        postgres.stop();
        postgres.start_again();
    });
    let port = postgres.port();
    let url = format!("postgres://postgres@{}:{port}/postgres?sslmode=disable", to_database.here());
    let mut spec = Spec::new(&context.program, context.folder(), url);
    (spec.within, spec.host) = (place.within(), to_clients.there());
    let server = Server::start(spec).await?;
    let plan = Plan { rest: Duration::from_millis(5), ..Plan::default() };
    let crowd = Crowd::new(&context.program, &context.folder().join("data"), plan.users)?;
    let load = Load::start(&crowd, &[server.url()].into(), plan);
    for seconds in context.pick(&[1, 5, 30, 1, 5, 1, 5, 1, 5, 1][..], &[1]) {
        for swallows in [false, true] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let set = |broken| {
                if swallows { to_database.swallow(broken) } else { to_database.cut(broken) }
            };
            set(true)?;
            report.count(if swallows { "times swallowed" } else { "cuts" }, 1);
            // What was on its way may still come.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let at_the_break = crowd.tally.so_far().acknowledged;
            tokio::time::sleep(Duration::from_secs(*seconds)).await;
            let before = crowd.tally.so_far().acknowledged;
            report.expect(before == at_the_break, || {
                format!("{} pushes were acknowledged without a line", before - at_the_break)
            });
            let mended_at = Instant::now();
            set(false)?;
            let recovered = async {
                while crowd.tally.so_far().acknowledged == before {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let recovered = tokio::time::timeout(RECOVERY_MAX, recovered).await;
            recovered.with_context(|| format!("the server did not go on after {seconds} s"))?;
            let took = u64::try_from(mended_at.elapsed().as_millis()).unwrap_or(u64::MAX);
            report.at_most("ms to go on at most", took);
        }
    }
    load.finish().await?;
    report.expect(!server.panicked(), || "the server panicked".to_owned());
    let counted = crowd.tally.so_far();
    report.count("answers 503", counted.of_status(503));
    report.broken.extend(counted.faults);
    report.take(judge(&crowd.case, &Database::Postgres(postgres.url("postgres")))?);
    Ok(report)
}
