//! The nodes of a deployment.

use vaultsync_test_servers::PostgresServer;
use vaultsync_testkit::process::{ServerConfig, ServerProcess};

use crate::{ScenarioContext, verify::Database};

/// Time for which a node that stops still serves, in seconds: what the files in `deploy/` say.
const DRAIN_DELAY: u32 = 5;

/// Two nodes on one private PostgreSQL.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) servers: Vec<ServerProcess>,
    pub(super) database: Database,
    pub(super) postgres: PostgresServer,
}

impl Nodes {
    /// Starts nodes that trust a proxy on this machine.
    pub(super) async fn start(context: &ScenarioContext) -> anyhow::Result<Self> {
        Self::start_with(context, TRUSTED).await
    }

    /// Starts nodes with other flags in addition to those that all nodes have.
    pub(super) async fn start_with(
        context: &ScenarioContext,
        flags: &[&str],
    ) -> anyhow::Result<Self> {
        let postgres = PostgresServer::start();
        let database = Database::Postgres(postgres.url("postgres"));
        let mut servers = Vec::new();
        for _ in 0..2 {
            let config = configure(context.server(&database), flags);
            servers.push(ServerProcess::start(config).await?);
        }
        Ok(Self { servers, database, postgres })
    }

    pub(super) fn ports(&self) -> [u16; 2] {
        [self.servers[0].port(), self.servers[1].port()]
    }
}

/// Flags of a node that trusts a proxy on this machine.
pub(super) const TRUSTED: &[&str] = &["--trusted-proxies", "127.0.0.1,::1"];

/// Sets what all nodes of deployments have, and other flags. The only rate that a check can reach is that of
/// failed sign-ins, which shows whose address a node sees.
pub(super) fn configure(mut config: ServerConfig, flags: &[&str]) -> ServerConfig {
    let (high, delay) = (1_000_000.to_string(), DRAIN_DELAY.to_string());
    let shared = [
        ["--rate-limit", &high],
        ["--rate-limit-address", &high],
        ["--rate-limit-sign-in-failures", "1"],
        ["--rate-limit-bytes", "0"],
        ["--rate-limit-address-bytes", "0"],
        ["--drain-delay-seconds", &delay],
    ];
    config.flags = shared.as_flattened().iter().chain(flags).map(ToString::to_string).collect();
    config
}
