//! A push from when it is taken on to its end: its turn, its company, and how often it is tried.
//!
//! Not here: statements.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout_at};

use super::{
    Inner, Job,
    batcher::{BatchOutcome, Waiter, gather, is_small},
    connect::Deadlines,
    db_error::DbError,
    push_batch::PushBatch,
    push_txn::{PushResult, PushTxn},
};
use crate::{PushOutcome, StoreError};

/// How often a push is tried. Once more is enough for a connection that had gone stale, a transaction
/// that lost against another, and a commit whose answer was lost: it is sent again, and the vault's
/// receipts tell whether it had been done.
pub(super) const ATTEMPTS: usize = 2;

/// How long a push waits for its vault's lock while others wait behind it for company. Past it, it waits on
/// where it is in nobody's way.
const COMPANY_LOCK_TIMEOUT: Duration = Duration::from_millis(20);

impl Inner {
    /// Applies a push, however many attempts it takes.
    pub(super) async fn push(self: &Arc<Self>, job: &Arc<Job>) -> Result<PushOutcome, StoreError> {
        let mut deadlines = Deadlines::new(self.timeout, job.push.ciphertext_bytes());
        let too_many = || StoreError::Unavailable("too many pushes were before it".to_owned());
        let Ok(_pass) = timeout_at(deadlines.wait_until, self.gate.enter(job.vault.id())).await
        else {
            return Err(too_many());
        };
        let (mut attempt, mut in_doubt) = (0, false);
        // On Citus the vaults of a group would lie on several machines.
        if is_small(&job.push) && !self.primaries.are_citus() {
            let lead = || drop(tokio::spawn(Arc::clone(self).lead()));
            let joined = self.joiner.join(Arc::clone(job), deadlines, lead).await;
            match joined.ok_or_else(too_many)? {
                BatchOutcome::Done(attempt) => return Ok(self.tell(job, attempt, false)),
                BatchOutcome::Alone { attempts, in_doubt: doubt } => {
                    (attempt, in_doubt) = (attempts, doubt);
                    // It has waited for its turn already.
                    deadlines.wait_until = deadlines.deadline;
                }
            }
        }
        loop {
            let tried = self.try_push(job, attempt, deadlines, Duration::MAX).await;
            attempt += 1;
            // What has begun may wait for as long as there is.
            deadlines.wait_until = deadlines.deadline;
            match tried {
                Ok(attempt) => return Ok(self.tell(job, attempt, in_doubt)),
                Err(DbError::Permanent(told)) if !in_doubt => {
                    return Err(StoreError::Internal(told));
                }
                Err(failure) => {
                    in_doubt |= matches!(failure, DbError::InDoubt(_));
                    if attempt < ATTEMPTS && Instant::now() < deadlines.deadline {
                        tracing::warn!(?failure, "a push is tried again");
                        continue;
                    }
                    let error = StoreError::from(failure);
                    return Err(if in_doubt {
                        StoreError::OutcomeUnknown(error.to_string())
                    } else {
                        error
                    });
                }
            }
        }
    }

    /// The outcome of a push, once whoever waits for its vault has been told of it.
    fn tell(&self, job: &Job, attempt: PushResult, in_doubt: bool) -> PushOutcome {
        let PushResult { outcome, clock, wrote } = attempt;
        if let Some(head) = clock.filter(|_| wrote || in_doubt) {
            self.notifier.publish(job.vault.id(), head);
        }
        outcome
    }

    async fn try_push(
        &self,
        job: &Job,
        attempt: usize,
        deadlines: Deadlines,
        lock_timeout: Duration,
    ) -> Result<PushResult, DbError> {
        let connection = self.primaries.connect(job.vault.id(), attempt, deadlines).await?;
        self.gauge();
        let node = connection.node();
        let (deadline, options) = (deadlines.deadline, &self.options);
        let Job { vault, push, now } = job;
        let now = *now;
        let pushing = PushTxn { connection, vault, push, now, deadline, lock_timeout, options };
        // In a box: it is large, and what waits for a turn or a connection is not.
        node.watch(Box::pin(pushing.run())).await
    }

    /// Sees to one group after another until nobody waits.
    async fn lead(self: Arc<Self>) {
        loop {
            gather().await;
            let Some(members) = self.joiner.next_group() else { return };
            let tried = AssertUnwindSafe(self.try_together(&members)).catch_unwind().await;
            let tried = tried.unwrap_or_else(|_| {
                tracing::error!("a group of pushes panicked");
                Err(DbError::InDoubt("its task panicked".to_owned()))
            });
            answer(members, tried);
        }
    }

    async fn try_together(&self, members: &[Waiter]) -> Result<Vec<Option<PushResult>>, DbError> {
        #[expect(clippy::cast_precision_loss, reason = "a group is far smaller than 2^53")]
        metrics::histogram!("vaultsync_store_commit_pushes").record(members.len() as f64);
        if let [Waiter { job, deadlines, .. }] = members {
            // Alone, what stands in its way is read in the same transaction.
            let tried = self.try_push(job, 0, *deadlines, COMPANY_LOCK_TIMEOUT).await;
            return match tried {
                Err(DbError::Transient(_)) => Ok(vec![None]),
                tried => tried.map(|attempt| vec![Some(attempt)]),
            };
        }
        let (jobs, deadlines): (Vec<_>, Vec<_>) =
            members.iter().map(|member| (&*member.job, member.deadlines.deadline)).unzip();
        self.try_group(&jobs, &deadlines).await
    }

    async fn try_group(
        &self,
        jobs: &[&Job],
        deadlines: &[Instant],
    ) -> Result<Vec<Option<PushResult>>, DbError> {
        let (Some(first), Some(deadline)) = (jobs.first(), deadlines.iter().min()) else {
            return Ok(Vec::new());
        };
        let now = Instant::now();
        let half = deadline.saturating_duration_since(now) / 2;
        let deadlines = Deadlines { wait_until: now + half, deadline: *deadline };
        let connection = self.primaries.connect(first.vault.id(), 0, deadlines).await?;
        self.gauge();
        let node = connection.node();
        let group = PushBatch { connection, jobs, deadline: *deadline };
        node.watch(Box::pin(group.run())).await
    }
}

/// Tells each of a group what became of its push.
fn answer(members: Vec<Waiter>, tried: Result<Vec<Option<PushResult>>, DbError>) {
    let (attempts, in_doubt) = match &tried {
        Ok(_) => (0, false),
        Err(failure) => {
            tracing::warn!(?failure, pushes = members.len(), "pushes are tried again, each alone");
            (1, matches!(failure, DbError::InDoubt(_)))
        }
    };
    let mut tried = tried.unwrap_or_default().into_iter();
    for Waiter { job, reply, .. } in members {
        let done = tried.next().flatten();
        // Before the answer: whoever has it may count on what the push took being free again.
        drop(job);
        // Nobody there to be told: the push stands all the same, and a retry finds it.
        let _ =
            reply.send(done.map_or(BatchOutcome::Alone { attempts, in_doubt }, BatchOutcome::Done));
    }
}
