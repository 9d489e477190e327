//! Which database a page is read from, and when it is read again.
//!
//! Not here: statements.

use std::sync::Arc;

use tokio::time::Instant;
use vaultsync_protocol::{Cursor, Pull};

use super::{
    Inner,
    connect::{Bounds, Nodes},
    failure::Failure,
    pull,
    pushes::ATTEMPTS,
};
use crate::{PullOutcome, Room, Vault, pull::without_records};

impl Inner {
    /// Reads a page, from a replica if one will do.
    pub(super) async fn pull<R: Room>(
        self: &Arc<Self>,
        vault: &Vault,
        pull: &Pull,
        mut room: R,
    ) -> Result<(PullOutcome, R), Failure> {
        let mut bounds = Bounds::new(self.timeout, 0);
        if !self.replicas.are_shunned() {
            // The primary is left enough time.
            let patience = Instant::now() + self.timeout / 4;
            let shorter = Bounds { patience, deadline: bounds.patience };
            let replicas = &self.replicas;
            match Box::pin(self.try_pull(replicas, vault, pull, &mut room, 0, shorter)).await {
                Ok(outcome) if self.is_enough(vault, &outcome) => return Ok((outcome, room)),
                Ok(_) => {}
                Err(failure) => tracing::warn!(?failure, "a replica does not serve"),
            }
            bounds.patience = bounds.deadline;
        }
        // On Citus the vaults would lie on several machines.
        if self.seems_idle(vault, pull)
            && !self.primaries.are_citus()
            && let Some(head) = self.look(vault.id(), bounds).await
            && let Some(outcome) = without_records(pull, head)
        {
            room.clear();
            self.remember_head(vault, &outcome);
            return Ok((outcome, room));
        }
        let mut attempt = 0;
        loop {
            let nodes = &self.primaries;
            // In a box: it is large, and most pulls are done without it.
            let tried = Box::pin(self.try_pull(nodes, vault, pull, &mut room, attempt, bounds));
            let tried = tried.await;
            attempt += 1;
            match tried {
                Ok(outcome) => {
                    self.remember_head(vault, &outcome);
                    return Ok((outcome, room));
                }
                // A read does nothing that could be done twice.
                Err(Failure::Transient(_) | Failure::Broken(_))
                    if attempt < ATTEMPTS && Instant::now() < bounds.deadline => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn try_pull(
        &self,
        nodes: &Nodes,
        vault: &Vault,
        pull: &Pull,
        room: &mut impl Room,
        attempt: usize,
        bounds: Bounds,
    ) -> Result<PullOutcome, Failure> {
        room.clear();
        let connection = nodes.connect(vault.id(), attempt, bounds).await?;
        self.gauge();
        let limits = pull::Limits {
            bytes_max: self.options.page_bytes_max,
            deadline: bounds.deadline,
            row_timeout: self.timeout,
        };
        let read = async {
            if self.seems_idle(vault, pull)
                && let Some(outcome) =
                    pull::look(&connection, vault.id(), pull, bounds.deadline).await?
            {
                return Ok(outcome);
            }
            pull::page(&connection, vault.id(), pull, limits, room).await
        };
        let outcome = connection.node().watch(read).await?;
        connection.keep();
        Ok(outcome)
    }

    /// Keeps the head of a vault that has been read to its end: its client asks next whether there is
    /// more.
    fn remember_head(&self, vault: &Vault, outcome: &PullOutcome) {
        if let PullOutcome::Page(page) = outcome
            && let Some(head) = page.head.filter(|_| !page.has_more)
        {
            self.heads.hear(vault.id(), head);
        }
    }

    /// Whether nothing seems to be later than the cursor, by what this process has heard. The database is
    /// asked all the same, only by another statement first.
    fn seems_idle(&self, vault: &Vault, pull: &Pull) -> bool {
        let latest = self.heads.latest(vault.id());
        latest.is_some() && pull.cursor.map(Cursor::timestamp) >= latest
    }

    /// Whether what a replica told can be passed on. It may lag: what it does not know yet is no
    /// reason to tell a client that its history is another one, or that this is all there is.
    fn is_enough(&self, vault: &Vault, outcome: &PullOutcome) -> bool {
        match outcome {
            PullOutcome::EpochChanged | PullOutcome::CursorAhead => false,
            PullOutcome::Page(page) => {
                let goes_on = page.has_more && !page.records.is_empty();
                goes_on || page.head >= self.heads.latest(vault.id())
            }
        }
    }
}
