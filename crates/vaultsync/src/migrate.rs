//! `vaultsync migrate`: the tables of a PostgreSQL database, brought up to date by hand.
//!
//! Not here: the migrations themselves.

use std::io::Write as _;

use anyhow::bail;
use vaultsync_store::DatabaseUrl;

use crate::settings::{Database, Settings};

/// What is asked for.
pub(crate) struct Request {
    /// Say what would be done, and do nothing.
    pub(crate) dry_run: bool,
    /// Also spread the tables over a Citus cluster.
    pub(crate) citus: bool,
}

/// Does what is asked for, and says what was done.
pub(crate) fn run(settings: &Settings, request: &Request) -> anyhow::Result<()> {
    let url = match &settings.database {
        Database::Postgres(options) => &options.primaries[0],
        Database::Sqlite(path) => bail!(
            "{} is an SQLite database: `vaultsync serve` brings it up to date itself",
            path.display()
        ),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = runtime.block_on(tell(url, request))?;
    std::io::stdout().write_all(told.as_bytes())?;
    Ok(())
}

async fn tell(url: &DatabaseUrl, request: &Request) -> anyhow::Result<String> {
    let (verb, steps) = if request.dry_run {
        ("to apply", vaultsync_store::pending_migrations(url).await?)
    } else {
        ("applied", vaultsync_store::migrate(url).await?)
    };
    let mut lines: Vec<_> = steps.iter().map(|step| format!("{verb}: {step}")).collect();
    if steps.is_empty() {
        lines.push("the tables are up to date".to_owned());
    }
    if request.citus && request.dry_run {
        lines.push(
            "to spread over Citus: vaults, records, deployment, where they are not".to_owned(),
        );
    } else if request.citus {
        let done = vaultsync_store::distribute(url).await?;
        lines.extend(done.iter().map(|statement| format!("done: {statement}")));
        if done.is_empty() {
            lines.push("the tables are spread over the nodes".to_owned());
        }
    }
    Ok(format!("{url}\n{}\n", lines.join("\n")))
}
