//! One of three servers is killed at a random moment, again and again, while clients go on with the
//! others; and the database itself is killed under one.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use vaultsync_test_servers::PostgresServer;

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    judge::{Database, judge},
    load::{Crowd, Load, Plan},
    process::{Server, Spec, addresses},
};

/// Servers are killed.
pub(super) const NODES: Scenario = Scenario {
    name: "kill-nodes",
    shows: "one of 3 servers on one PostgreSQL is killed at random moments under load",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(kill_nodes(context)),
};

/// The database is killed.
pub(super) const POSTGRES: Scenario = Scenario {
    name: "kill-postgres",
    shows: "all processes of PostgreSQL are killed at random moments under load of 2 servers",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(kill_postgres(context)),
};

async fn kill_nodes(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut cluster = Cluster::start(&context, 3).await?;
    let mut random = StdRng::seed_from_u64(10);
    for kill in 0..context.pick(50, 3) {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..600))).await;
        let server = &mut cluster.servers[kill % 3];
        server.kill()?;
        tokio::time::sleep(Duration::from_millis(random.random_range(10..300))).await;
        server.start_again().await?;
        cluster.report.count("kills", 1);
    }
    cluster.end().await
}

async fn kill_postgres(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut cluster = Cluster::start(&context, 2).await?;
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..context.pick(25, 2) {
        tokio::time::sleep(Duration::from_millis(random.random_range(300..2000))).await;
        // Both block for as long as the server takes.
        tokio::task::block_in_place(|| {
            cluster.postgres.kill();
            cluster.postgres.start_again();
        });
        cluster.report.count("kills", 1);
    }
    cluster.end().await
}

/// Servers on one PostgreSQL under load.
struct Cluster {
    postgres: PostgresServer,
    servers: Vec<Server>,
    crowd: Crowd,
    load: Load,
    report: ScenarioReport,
}

impl Cluster {
    async fn start(context: &ScenarioContext, count: usize) -> anyhow::Result<Self> {
        let postgres = PostgresServer::start();
        let mut servers = Vec::new();
        for _ in 0..count {
            let spec = Spec::new(&context.program, context.folder(), postgres.url("postgres"));
            servers.push(Server::start(spec).await?);
        }
        let plan = Plan { users: 4, ..Plan::default() };
        let crowd = Crowd::new(&context.program, &context.folder().join("data"), plan.users)?;
        let load = Load::start(&crowd, &addresses(&servers), plan);
        Ok(Self { postgres, servers, crowd, load, report: ScenarioReport::default() })
    }

    async fn end(mut self) -> anyhow::Result<ScenarioReport> {
        self.load.finish().await?;
        for server in &self.servers {
            self.report.expect(!server.panicked(), || "a server panicked".to_owned());
        }
        let counted = self.crowd.tally.so_far();
        self.report.count("answers 503", counted.of_status(503));
        self.report.broken.extend(counted.faults);
        let database = Database::Postgres(self.postgres.url("postgres"));
        self.report.take(judge(&self.crowd.case, &database)?);
        Ok(self.report)
    }
}
