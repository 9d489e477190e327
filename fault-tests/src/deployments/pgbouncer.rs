//! PgBouncer in transaction mode between two nodes and PostgreSQL, as `docs/SCALING.md` describes.

use vaultsync_test_servers::{PgBouncer, PostgresServer, programs::PGBOUNCER};
use vaultsync_testkit::process::ServerProcess;

use super::{
    nodes::{TRUSTED, configure},
    trial::Trial,
};
use crate::{Scenario, ScenarioContext, ScenarioReport, shell, verify::Database};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "pgbouncer",
    shows: "2 nodes that reach PostgreSQL through PgBouncer in transaction mode",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let postgres = PostgresServer::start();
    let direct = Database::Postgres(postgres.url("postgres"));
    let program = context.program.to_string_lossy();
    shell::run(&program, &["migrate", "--database", &direct.setting()])?;
    let bouncer = PgBouncer::start(&postgres);
    let mut servers = Vec::new();
    for _ in 0..2 {
        let pooled = Database::Postgres(bouncer.url("postgres"));
        let mut config = configure(context.server(&pooled), TRUSTED);
        let notify = format!("--notify-database={}", direct.setting());
        let settings = ["--database-prepare=false", "--database-migrate=false", &notify];
        config.flags.extend(settings.map(str::to_owned));
        servers.push(ServerProcess::start(config).await?);
    }
    let url = servers[0].url();
    let mut trial = Trial::new(&context, url, &servers, PGBOUNCER.version("--version"))?;
    trial.check().await?;
    trial.finish(&servers, &direct)
}
