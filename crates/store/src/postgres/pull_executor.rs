//! Runs one pull or head read: which database it is read from, and when it is read again.
//!
//! Not here: statements.

use std::sync::Arc;

use tokio::time::Instant;
use vaultsync_protocol::{Cursor, Pull};

use super::{
    Inner, db_error::DbError, deadlines::Deadlines, endpoints::Endpoints, pull,
    push_executor::ATTEMPTS_MAX,
};
use crate::{
    PullOutcome, ReadBudget, Vault, VaultId,
    pull::{VaultHead, without_records},
};

impl Inner {
    /// Reads a page from the first of these that can serve it:
    ///
    /// 1. a replica, if one is configured and it is recent enough;
    /// 2. the vault's head, read from the primary together with others, if the pull seems to find
    ///    nothing new;
    /// 3. the primary, by a statement of its own.
    pub(super) async fn pull<R: ReadBudget>(
        self: &Arc<Self>,
        vault: &Vault,
        pull: &Pull,
        mut budget: R,
    ) -> Result<(PullOutcome, R), DbError> {
        let mut deadlines = Deadlines::new(self.timeout, 0);
        if !self.replicas.are_down() {
            if let Some(outcome) = self.pull_from_replica(vault, pull, &mut budget, deadlines).await
            {
                return Ok((outcome, budget));
            }
            deadlines.wait_until = deadlines.deadline;
        }
        if let Some(outcome) = self.pull_from_head(vault, pull, deadlines).await {
            budget.clear();
            return Ok((outcome, budget));
        }
        let outcome = self.pull_from_primary(vault, pull, &mut budget, deadlines).await?;
        Ok((outcome, budget))
    }

    async fn pull_from_replica(
        &self,
        vault: &Vault,
        pull: &Pull,
        budget: &mut impl ReadBudget,
        deadlines: Deadlines,
    ) -> Option<PullOutcome> {
        // The primary must have enough time left.
        let wait_until = Instant::now() + self.timeout / 4;
        let shorter = Deadlines { wait_until, deadline: deadlines.wait_until };
        let attempt = PullAttempt { endpoints: &self.replicas, number: 0, deadlines: shorter };
        match Box::pin(self.try_pull(vault, pull, budget, attempt)).await {
            Ok(outcome) => self.is_recent(vault, &outcome).then_some(outcome),
            Err(failure) => {
                tracing::warn!(?failure, "a replica cannot serve a pull");
                None
            }
        }
    }

    /// The outcome, if the vault's head shows that there is nothing new.
    async fn pull_from_head(
        self: &Arc<Self>,
        vault: &Vault,
        pull: &Pull,
        deadlines: Deadlines,
    ) -> Option<PullOutcome> {
        // On Citus the vaults of a batch would be on several machines.
        if !self.seems_idle(vault, pull) || self.primaries.are_citus() {
            return None;
        }
        let head = self.read_head_in_batch(vault.id(), deadlines).await?;
        let outcome = without_records(pull, head)?;
        self.record_head(vault, &outcome);
        Some(outcome)
    }

    async fn pull_from_primary(
        &self,
        vault: &Vault,
        pull: &Pull,
        budget: &mut impl ReadBudget,
        deadlines: Deadlines,
    ) -> Result<PullOutcome, DbError> {
        let mut number = 0;
        loop {
            let attempt = PullAttempt { endpoints: &self.primaries, number, deadlines };
            // Boxed: the future is large, and most pulls end without it.
            let tried = Box::pin(self.try_pull(vault, pull, budget, attempt)).await;
            number += 1;
            match tried {
                Ok(outcome) => {
                    self.record_head(vault, &outcome);
                    return Ok(outcome);
                }
                Err(failure) if may_read_again(&failure, number, deadlines) => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn try_pull(
        &self,
        vault: &Vault,
        pull: &Pull,
        budget: &mut impl ReadBudget,
        PullAttempt { endpoints, number, deadlines }: PullAttempt<'_>,
    ) -> Result<PullOutcome, DbError> {
        budget.clear();
        let connection = endpoints.connect(vault.id(), number, deadlines).await?;
        self.gauge();
        let limits = self.page_limits(deadlines);
        let read = async {
            if self.seems_idle(vault, pull) {
                let head = pull::read_head(&connection, vault.id(), deadlines.deadline).await?;
                if let Some(outcome) = without_records(pull, head) {
                    return Ok(outcome);
                }
            }
            pull::read_page(&connection, vault.id(), pull, limits, budget).await
        };
        let read = connection.endpoint().watch(read).await;
        connection.settle(read)
    }

    pub(super) const fn page_limits(&self, deadlines: Deadlines) -> pull::Limits {
        pull::Limits {
            bytes_max: self.options.page_bytes_max,
            deadline: deadlines.deadline,
            row_timeout: self.timeout,
        }
    }

    /// The head of a vault: from a replica that is recent enough, otherwise from the primary, in a batch
    /// or alone.
    pub(super) async fn head(
        self: &Arc<Self>,
        vault: VaultId,
    ) -> Result<Option<VaultHead>, DbError> {
        let mut deadlines = Deadlines::new(self.timeout, 0);
        if !self.replicas.are_down() {
            if let Some(head) = self.head_from_replica(vault, deadlines).await {
                return Ok(Some(head));
            }
            deadlines.wait_until = deadlines.deadline;
        }
        let in_batch = if self.primaries.are_citus() {
            None
        } else {
            self.read_head_in_batch(vault, deadlines).await
        };
        let head = match in_batch {
            Some(head) => head,
            None => self.read_head_alone(vault, deadlines).await?,
        };
        if let Some(head) = head {
            self.notifier.receive(vault, head.clock);
        }
        Ok(head)
    }

    /// `None` if no replica responds, or if it has no head that is recent enough.
    async fn head_from_replica(&self, vault: VaultId, deadlines: Deadlines) -> Option<VaultHead> {
        let wait_until = Instant::now() + self.timeout / 4;
        let shorter = Deadlines { wait_until, deadline: deadlines.wait_until };
        let attempt = PullAttempt { endpoints: &self.replicas, number: 0, deadlines: shorter };
        match Box::pin(self.try_head(vault, attempt)).await {
            Ok(head) => head.filter(|head| Some(head.clock) >= self.notifier.latest(vault)),
            Err(failure) => {
                tracing::warn!(?failure, "a replica cannot serve a head read");
                None
            }
        }
    }

    async fn read_head_alone(
        &self,
        vault: VaultId,
        deadlines: Deadlines,
    ) -> Result<Option<VaultHead>, DbError> {
        let mut number = 0;
        loop {
            let attempt = PullAttempt { endpoints: &self.primaries, number, deadlines };
            let tried = Box::pin(self.try_head(vault, attempt)).await;
            number += 1;
            match tried {
                Err(failure) if may_read_again(&failure, number, deadlines) => {}
                tried => return tried,
            }
        }
    }

    async fn try_head(
        &self,
        vault: VaultId,
        PullAttempt { endpoints, number, deadlines }: PullAttempt<'_>,
    ) -> Result<Option<VaultHead>, DbError> {
        let connection = endpoints.connect(vault, number, deadlines).await?;
        self.gauge();
        let read = pull::read_head(&connection, vault, deadlines.deadline);
        let read = connection.endpoint().watch(read).await;
        connection.settle(read)
    }

    /// Records the head of a vault that has been read to its end: its client will ask for changes after
    /// that head.
    fn record_head(&self, vault: &Vault, outcome: &PullOutcome) {
        if let PullOutcome::Page(page) = outcome
            && let Some(head) = page.head.filter(|_| !page.has_more)
        {
            self.notifier.receive(vault.id(), head);
        }
    }

    /// Whether the cursor is not before the last head that this process knows of. The database is read
    /// all the same, but by a cheaper statement first.
    fn seems_idle(&self, vault: &Vault, pull: &Pull) -> bool {
        let latest = self.notifier.latest(vault.id());
        latest.is_some() && pull.cursor.map(Cursor::timestamp) >= latest
    }

    /// Whether a replica's outcome may be returned. A replica may lag: what it has not received yet is
    /// no reason to report another epoch, or that there is nothing more.
    fn is_recent(&self, vault: &Vault, outcome: &PullOutcome) -> bool {
        match outcome {
            PullOutcome::EpochChanged
            | PullOutcome::VaultErased
            | PullOutcome::CursorAhead
            | PullOutcome::CursorExpired => false,
            PullOutcome::Page(page) => {
                let continues = page.has_more && !page.records.is_empty();
                continues || page.head >= self.notifier.latest(vault.id())
            }
        }
    }
}

/// One attempt at a pull or a head read.
struct PullAttempt<'a> {
    endpoints: &'a Endpoints,
    number: usize,
    deadlines: Deadlines,
}

/// Whether a read may be repeated after `attempts`. It changes nothing, so it may be if the failure can
/// pass.
pub(super) fn may_read_again(failure: &DbError, attempts: usize, deadlines: Deadlines) -> bool {
    matches!(failure, DbError::Transient(_) | DbError::Stale(_) | DbError::ConnectionLost(_))
        && attempts < ATTEMPTS_MAX
        && Instant::now() < deadlines.deadline
}
