//! One of three servers is killed at random moments, again and again, while clients continue with the
//! others; and the database itself is killed under two servers.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use vaultsync_test_servers::PostgresServer;
use vaultsync_testkit::{
    process::{ServerProcess, addresses},
    workload::Clients,
};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    verify::Database,
    workload::{LoadPlan, Workload},
};

pub(super) const NODES: Scenario = Scenario {
    name: "kill-nodes",
    shows: "one of 3 servers on one PostgreSQL is killed at random moments under load",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(kill_nodes(context)),
};

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
    cluster.finish().await
}

async fn kill_postgres(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut cluster = Cluster::start(&context, 2).await?;
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..context.pick(25, 2) {
        tokio::time::sleep(Duration::from_millis(random.random_range(300..2000))).await;
        // Both calls block until the database server has stopped or started.
        tokio::task::block_in_place(|| {
            cluster.postgres.kill();
            cluster.postgres.start_again();
        });
        cluster.report.count("kills", 1);
    }
    cluster.finish().await
}

/// Servers on one PostgreSQL under load.
struct Cluster {
    postgres: PostgresServer,
    database: Database,
    servers: Vec<ServerProcess>,
    workload: Workload,
    clients: Clients,
    report: ScenarioReport,
}

impl Cluster {
    async fn start(context: &ScenarioContext, count: usize) -> anyhow::Result<Self> {
        let postgres = PostgresServer::start();
        let database = Database::Postgres(postgres.url("postgres"));
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(ServerProcess::start(context.server(&database)).await?);
        }
        let plan = LoadPlan { users: 4, ..LoadPlan::default() };
        let workload = context.workload(plan.users)?;
        let clients = workload.start(&addresses(&servers), &plan);
        let report = ScenarioReport::default();
        Ok(Self { postgres, database, servers, workload, clients, report })
    }

    async fn finish(mut self) -> anyhow::Result<ScenarioReport> {
        self.clients.finish().await?;
        for server in &self.servers {
            self.report.expect_no_panic(server);
        }
        self.report.count("responses 503", self.workload.tally.totals().with_status(503));
        self.report.verify(&self.workload, &self.database)?;
        Ok(self.report)
    }
}
