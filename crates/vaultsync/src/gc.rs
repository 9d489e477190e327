//! `vaultsync gc`: removes what is not kept any longer.
//!
//! Not here: what that is (`vaultsync-store`), and the server's own task.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use vaultsync_server::{Clock as _, SystemClock};
use vaultsync_store::{GcOptions, GcReport, OpenError};

use crate::{settings::Settings, stores};

/// Removes old tombstones and replaced versions, and the rows of erased vaults, and prints how many.
pub(crate) fn run(settings: &Settings, dry_run: bool) -> anyhow::Result<()> {
    let report = stores::block_on(collect(settings, dry_run))?;
    let GcReport { tombstones, versions } = report;
    let verb = if dry_run { "to remove" } else { "removed" };
    let each = [(tombstones, "tombstones"), (versions, "replaced versions")];
    let lines = each.map(|(removed, what)| {
        format!("{verb}: {} {what} ({} bytes)\n", removed.rows, removed.bytes)
    });
    let lines = lines.concat();
    std::io::stdout().write_all(lines.as_bytes()).context("cannot write to standard output")
}

async fn collect(settings: &Settings, dry_run: bool) -> anyhow::Result<GcReport> {
    let store = match stores::open_current(settings).await {
        Err(OpenError::InUse(path)) => bail!(
            "{} is in use by a server, which removes what is old itself every {} s \
             (gc_interval_seconds). To run the command, stop the server",
            path.display(),
            settings.limits.gc_interval_seconds.as_secs()
        ),
        opened => opened?,
    };
    let now = SystemClock::start().now();
    if !dry_run {
        store.finish_erasures(now).await?;
    }
    let options = GcOptions { dry_run, ..settings.limits.gc_options(now) };
    let report = store.gc(options).await;
    store.close().await;
    Ok(report?)
}
