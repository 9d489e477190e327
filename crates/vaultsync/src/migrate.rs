//! `vaultsync migrate`: migrates the schema of a PostgreSQL database by hand.
//!
//! Not here: the migrations themselves (`vaultsync-store`).

use std::io::Write as _;

use anyhow::bail;
use vaultsync_store::{DatabaseUrl, DigestCheck};

use crate::settings::{Database, Settings};

/// Arguments of the command.
pub(crate) struct Request {
    /// Print the pending steps without applying them.
    pub(crate) dry_run: bool,
    /// Also distribute the tables over the nodes of a Citus cluster.
    pub(crate) citus: bool,
}

/// Migrates the database and prints the steps.
pub(crate) fn run(settings: &Settings, request: &Request) -> anyhow::Result<()> {
    let url = match &settings.database {
        Database::Postgres(options) => &options.primaries[0],
        Database::Sqlite(path) => {
            bail!("{} is an SQLite database: `vaultsync serve` migrates it", path.display())
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(migrate(url, request))?;
    std::io::stdout().write_all(report.as_bytes())?;
    Ok(())
}

async fn migrate(url: &DatabaseUrl, request: &Request) -> anyhow::Result<String> {
    let (verb, steps) = if request.dry_run {
        ("to apply", vaultsync_store::pending_migrations(url).await?)
    } else {
        ("applied", vaultsync_store::migrate(url).await?)
    };
    let mut lines: Vec<_> = steps.iter().map(|step| format!("{verb}: {step}")).collect();
    if steps.is_empty() {
        lines.push("the schema is up to date".to_owned());
    }
    if !request.dry_run {
        lines.extend(validate_digests(url).await?);
    }
    if request.citus {
        let (verb, statements) = if request.dry_run {
            ("to run", vaultsync_store::pending_distribution(url).await?)
        } else {
            ("done", vaultsync_store::distribute(url).await?)
        };
        lines.extend(statements.iter().map(|statement| format!("{verb}: {statement}")));
        if statements.is_empty() {
            lines.push("the tables are distributed".to_owned());
        }
    }
    Ok(format!("{url}\n{}\n", lines.join("\n")))
}

/// Marks the database as filled once servers have filled what older records lack. Returns a line if there is
/// something to say.
async fn validate_digests(url: &DatabaseUrl) -> anyhow::Result<Option<String>> {
    Ok(match vaultsync_store::validate_digests(url).await? {
        DigestCheck::Valid => None,
        DigestCheck::Validated => Some("validated: all records have their digest".to_owned()),
        DigestCheck::Unfilled => Some(
            "servers have yet to fill the digests of older records: run this again when one has logged \
             that all vaults have theirs"
                .to_owned(),
        ),
    })
}
