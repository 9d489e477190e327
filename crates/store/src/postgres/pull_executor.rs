//! Which database a page is read from, and when it is read again.
//!
//! Not here: statements.

use std::sync::Arc;

use tokio::time::Instant;
use vaultsync_protocol::{Cursor, Pull};

use super::{
    Inner,
    connect::{Deadlines, Endpoints},
    db_error::DbError,
    pull,
    push_executor::ATTEMPTS,
};
use crate::{PullOutcome, ReadBudget, Vault, pull::without_records};

impl Inner {
    /// Reads a page, from a replica if one will do.
    pub(super) async fn pull<R: ReadBudget>(
        self: &Arc<Self>,
        vault: &Vault,
        pull: &Pull,
        mut room: R,
    ) -> Result<(PullOutcome, R), DbError> {
        let mut deadlines = Deadlines::new(self.timeout, 0);
        if !self.replicas.are_down() {
            // The primary is left enough time.
            let wait_until = Instant::now() + self.timeout / 4;
            let shorter = Deadlines { wait_until, deadline: deadlines.wait_until };
            let replicas = &self.replicas;
            match Box::pin(self.try_pull(replicas, vault, pull, &mut room, 0, shorter)).await {
                Ok(outcome) if self.is_enough(vault, &outcome) => return Ok((outcome, room)),
                Ok(_) => {}
                Err(failure) => tracing::warn!(?failure, "a replica does not serve"),
            }
            deadlines.wait_until = deadlines.deadline;
        }
        // On Citus the vaults would lie on several machines.
        if self.seems_idle(vault, pull)
            && !self.primaries.are_citus()
            && let Some(head) = self.look(vault.id(), deadlines).await
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
            let tried = Box::pin(self.try_pull(nodes, vault, pull, &mut room, attempt, deadlines));
            let tried = tried.await;
            attempt += 1;
            match tried {
                Ok(outcome) => {
                    self.remember_head(vault, &outcome);
                    return Ok((outcome, room));
                }
                // A read does nothing that could be done twice.
                Err(DbError::Transient(_) | DbError::ConnectionLost(_))
                    if attempt < ATTEMPTS && Instant::now() < deadlines.deadline => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn try_pull(
        &self,
        nodes: &Endpoints,
        vault: &Vault,
        pull: &Pull,
        room: &mut impl ReadBudget,
        attempt: usize,
        deadlines: Deadlines,
    ) -> Result<PullOutcome, DbError> {
        room.clear();
        let connection = nodes.connect(vault.id(), attempt, deadlines).await?;
        self.gauge();
        let limits = pull::Limits {
            bytes_max: self.options.page_bytes_max,
            deadline: deadlines.deadline,
            row_timeout: self.timeout,
        };
        let read = async {
            if self.seems_idle(vault, pull)
                && let Some(outcome) =
                    pull::look(&connection, vault.id(), pull, deadlines.deadline).await?
            {
                return Ok(outcome);
            }
            pull::page(&connection, vault.id(), pull, limits, room).await
        };
        let outcome = connection.node().watch(read).await?;
        connection.release();
        Ok(outcome)
    }

    /// Keeps the head of a vault that has been read to its end: its client asks next whether there is
    /// more.
    fn remember_head(&self, vault: &Vault, outcome: &PullOutcome) {
        if let PullOutcome::Page(page) = outcome
            && let Some(head) = page.head.filter(|_| !page.has_more)
        {
            self.notifier.receive(vault.id(), head);
        }
    }

    /// Whether nothing seems to be later than the cursor, by what this process has heard. The database is
    /// asked all the same, only by another statement first.
    fn seems_idle(&self, vault: &Vault, pull: &Pull) -> bool {
        let latest = self.notifier.latest(vault.id());
        latest.is_some() && pull.cursor.map(Cursor::timestamp) >= latest
    }

    /// Whether what a replica told can be passed on. It may lag: what it does not know yet is no
    /// reason to tell a client that its history is another one, or that this is all there is.
    fn is_enough(&self, vault: &Vault, outcome: &PullOutcome) -> bool {
        match outcome {
            PullOutcome::EpochChanged | PullOutcome::CursorAhead => false,
            PullOutcome::Page(page) => {
                let goes_on = page.has_more && !page.records.is_empty();
                goes_on || page.head >= self.notifier.latest(vault.id())
            }
        }
    }
}
