//! One of three servers is killed at a random moment, again and again, while clients go on with the
//! others; and the database itself is killed under one.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use vaultsync_private_servers::PostgresServer;

use crate::{
    Bench, Findings, Scenario,
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
    run: |bench| Box::pin(kill_nodes(bench)),
};

/// The database is killed.
pub(super) const POSTGRES: Scenario = Scenario {
    name: "kill-postgres",
    shows: "all processes of PostgreSQL are killed at random moments under load of 2 servers",
    needs_root: false,
    by_default: true,
    run: |bench| Box::pin(kill_postgres(bench)),
};

async fn kill_nodes(bench: Bench) -> anyhow::Result<Findings> {
    let mut cluster = Cluster::start(&bench, 3).await?;
    let mut random = StdRng::seed_from_u64(10);
    for kill in 0..bench.pick(50, 3) {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..600))).await;
        let server = &mut cluster.servers[kill % 3];
        server.kill()?;
        tokio::time::sleep(Duration::from_millis(random.random_range(10..300))).await;
        server.start_again().await?;
        cluster.findings.count("kills", 1);
    }
    cluster.end().await
}

async fn kill_postgres(bench: Bench) -> anyhow::Result<Findings> {
    let mut cluster = Cluster::start(&bench, 2).await?;
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..bench.pick(25, 2) {
        tokio::time::sleep(Duration::from_millis(random.random_range(300..2000))).await;
        // Both block for as long as the server takes.
        tokio::task::block_in_place(|| {
            cluster.postgres.kill();
            cluster.postgres.start_again();
        });
        cluster.findings.count("kills", 1);
    }
    cluster.end().await
}

/// Servers on one PostgreSQL under load.
struct Cluster {
    postgres: PostgresServer,
    servers: Vec<Server>,
    crowd: Crowd,
    load: Load,
    findings: Findings,
}

impl Cluster {
    async fn start(bench: &Bench, count: usize) -> anyhow::Result<Self> {
        let postgres = PostgresServer::start();
        let mut servers = Vec::new();
        for _ in 0..count {
            let spec = Spec::new(&bench.program, bench.folder(), postgres.url("postgres"));
            servers.push(Server::start(spec).await?);
        }
        let plan = Plan { users: 4, ..Plan::default() };
        let crowd = Crowd::new(&bench.program, &bench.folder().join("data"), plan.users)?;
        let load = Load::start(&crowd, &addresses(&servers), plan);
        Ok(Self { postgres, servers, crowd, load, findings: Findings::default() })
    }

    async fn end(mut self) -> anyhow::Result<Findings> {
        self.load.finish().await?;
        for server in &self.servers {
            self.findings.expect(!server.panicked(), || "a server panicked".to_owned());
        }
        let counted = self.crowd.tally.so_far();
        self.findings.count("answers 503", counted.of_status(503));
        self.findings.broken.extend(counted.faults);
        let database = Database::Postgres(self.postgres.url("postgres"));
        self.findings.take(judge(&self.crowd.case, &database)?);
        Ok(self.findings)
    }
}
