//! `vaultsync verify`: checks the whole database for damage.
//!
//! Not here: the check itself (`vaultsync-store`), and the quick one at the start of a server.

use std::io::Write as _;

use anyhow::{Context as _, bail};

use crate::settings::{Database, Settings};

/// Checks the database, prints what it found, and fails if that is damage.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    let path = match &settings.database {
        Database::Sqlite(path) => path,
        Database::Postgres(_) => {
            bail!("only SQLite files can be checked: use `pg_amcheck` for {}", settings.database)
        }
    };
    let problems = vaultsync_store::verify_sqlite(path.clone())?;
    let shown = path.display();
    let lines = if problems.is_empty() { &["no damage found".to_owned()][..] } else { &problems };
    let report: Vec<_> = lines.iter().map(|line| format!("{shown}: {line}\n")).collect();
    let printed = std::io::stdout().write_all(report.concat().as_bytes());
    printed.context("cannot write to standard output")?;
    if !problems.is_empty() {
        bail!("{shown} is damaged: restore a backup, or recover what can be read (docs/BACKUP.md)");
    }
    Ok(())
}
