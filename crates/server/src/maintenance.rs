//! The background task that removes what is not kept any longer: the rows of erased vaults at once, old tombstones
//! and replaced versions at an interval.
//!
//! Not here: what is removed, and how (`vaultsync-store`).

use std::time::Duration;

use tokio::time::timeout;
use vaultsync_store::{GcReport, StoreError};

use crate::app::App;

/// How often erased vaults are looked for that another process has left.
const ERASED_INTERVAL: Duration = Duration::from_secs(10);

impl App {
    /// Removes the rows of erased vaults until the server stops. Part of [`Self::start_tasks`].
    pub async fn finish_erasures(self) {
        loop {
            let erased = timeout(ERASED_INTERVAL, self.erased.notified());
            if self.stop.run_until_cancelled(erased).await.is_none() {
                return;
            }
            let finishing = self.store.finish_erasures(self.clock.now());
            match self.stop.run_until_cancelled(finishing).await {
                None => return,
                Some(Ok(0)) => {}
                Some(Ok(vaults)) => tracing::info!(vaults, "the rows of erased vaults are removed"),
                Some(Err(error)) => warn(&error),
            }
        }
    }

    /// Removes old tombstones and replaced versions until the server stops. A task of its own: erased vaults do not
    /// wait for it. Part of [`Self::start_tasks`].
    pub async fn collect_garbage(self) {
        let interval = self.limits.gc_interval_seconds;
        if interval.is_zero() {
            return self.stop.cancelled().await;
        }
        while self.stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            match self.stop.run_until_cancelled(self.gc()).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => warn(&error),
            }
        }
    }

    /// Removes what is old, unless another node does.
    async fn gc(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let interval = self.limits.gc_interval_seconds.as_millis();
        let until = now.plus_millis(i64::try_from(interval).unwrap_or(i64::MAX));
        if !self.store.claim_maintenance(now, until).await? {
            return Ok(());
        }
        let report = self.store.gc(self.limits.gc_options(now)).await?;
        if report != GcReport::default() {
            let GcReport { tombstones, versions } = report;
            tracing::info!(
                tombstones = tombstones.rows,
                tombstone_bytes = tombstones.bytes,
                versions = versions.rows,
                version_bytes = versions.bytes,
                "old tombstones and versions are removed"
            );
        }
        Ok(())
    }
}

/// The work is repeated: what is not removed now is removed later.
fn warn(error: &StoreError) {
    tracing::warn!(%error, "what is old is removed later");
}
