//! Runs one push: the vault's lock in this process, batching, retries.
//!
//! Not here: statements (`push_txn.rs`, `push_batch.rs`) and how batches form (`batcher.rs`).

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use vaultsync_protocol::Push;

use super::{
    Inner, Job,
    batcher::{BatchLimits, NoResponse},
    db_error::DbError,
    deadlines::Deadlines,
    push_batch::PushBatch,
    push_txn::{PushResult, PushTxn},
};
use crate::{PushOutcome, StoreError, push_plan::PushContext};

/// How often a push is tried. A second attempt is enough for a connection that had gone stale, a
/// transaction that lost against another one, and a commit whose response was lost: the vault's receipts
/// then show whether the first attempt was applied.
pub(super) const ATTEMPTS_MAX: usize = 2;

/// How long a push in a batch of its own waits for its vault's lock while others wait for a batch. After
/// that it waits outside the batcher.
const BATCH_LOCK_TIMEOUT: Duration = Duration::from_millis(20);

/// How many pushes make a short queue. PostgreSQL takes 700 pushes of 100 records a second on two slow
/// cores, so the last of them waits for 50 ms.
const SHORT_QUEUE: usize = 32;

/// A push with more operations or bytes of ciphertext is worth a transaction of its own.
const BATCHED_OPERATIONS_MAX: usize = 16;
const BATCHED_BYTES_MAX: usize = 64 * 1024;

/// 64 pushes share the cost of a commit, and its fate. Two batches are in flight, so that one forms while
/// another waits for the disk: 5,200 pushes/s at 8 clients, compared with 4,500 with one batch and 4,300
/// with three or four, which took a third more CPU; 12,000 at 64 clients, compared with 10,000 with three
/// or four (decision 0008). Only if a commit takes many milliseconds do four serve 8 clients better.
pub(super) const PUSH_BATCHES: BatchLimits = BatchLimits { in_flight_max: 2, size_max: 64 };

/// A push that waits for its batch.
pub(super) struct QueuedPush {
    job: Arc<Job>,
    deadlines: Deadlines,
}

/// What a batch did for a push.
pub(super) enum BatchOutcome {
    Done(PushResult),
    /// The push must run alone.
    Alone(Attempts),
}

/// The attempts at a push so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    count: usize,
    /// Whether one of them may have been committed.
    in_doubt: bool,
}

impl Inner {
    /// Applies a push, in a batch or alone.
    pub(super) async fn push(self: &Arc<Self>, job: &Arc<Job>) -> Result<PushOutcome, StoreError> {
        let bytes = job.push.ciphertext_bytes();
        let mut deadlines = if self.vault_locks.pushes() < SHORT_QUEUE {
            Deadlines::patient(self.timeout, bytes)
        } else {
            Deadlines::new(self.timeout, bytes)
        };
        let too_late = || StoreError::Busy("the push was queued for too long".to_owned());
        let locked = timeout_at(deadlines.wait_until, self.vault_locks.lock(job.vault.id())).await;
        let Ok(_vault_guard) = locked else { return Err(too_late()) };
        let mut attempts = Attempts::default();
        // On Citus the vaults of a batch would be on several machines.
        if is_batched(&job.push) && !self.primaries.are_citus() {
            match self.push_in_batch(job, deadlines).await.ok_or_else(too_late)? {
                BatchOutcome::Done(result) => return Ok(self.publish(job, result, false)),
                BatchOutcome::Alone(so_far) => attempts = so_far,
            }
            // It has waited in the queue already.
            deadlines.wait_until = deadlines.deadline;
        }
        self.push_alone(job, attempts, deadlines).await
    }

    /// `None` if the push was not begun in time.
    async fn push_in_batch(
        self: &Arc<Self>,
        job: &Arc<Job>,
        deadlines: Deadlines,
    ) -> Option<BatchOutcome> {
        let inner = Arc::clone(self);
        let run_batch = move |batch| {
            let inner = Arc::clone(&inner);
            async move { inner.run_batch(batch).await }
        };
        let queued = QueuedPush { job: Arc::clone(job), deadlines };
        match self.push_batcher.submit(queued, deadlines.wait_until, run_batch).await {
            Ok(outcome) => Some(outcome),
            Err(NoResponse::Expired) => None,
            // The batch may have been committed.
            Err(NoResponse::Lost) => {
                Some(BatchOutcome::Alone(Attempts { count: 1, in_doubt: true }))
            }
        }
    }

    async fn push_alone(
        &self,
        job: &Job,
        Attempts { mut count, mut in_doubt }: Attempts,
        mut deadlines: Deadlines,
    ) -> Result<PushOutcome, StoreError> {
        loop {
            let tried = self.try_push(job, count, deadlines, Duration::MAX).await;
            count += 1;
            // A push that has begun may use all the time there is.
            deadlines.wait_until = deadlines.deadline;
            match tried {
                Ok(result) => return Ok(self.publish(job, result, in_doubt)),
                Err(DbError::Permanent(cause)) if !in_doubt => {
                    return Err(StoreError::Internal(cause));
                }
                Err(failure) => {
                    in_doubt |= matches!(failure, DbError::InDoubt(_));
                    if count < ATTEMPTS_MAX && Instant::now() < deadlines.deadline {
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

    /// Publishes the vault's new head and returns the outcome. A result after an attempt in doubt is
    /// published too: the head may be that attempt's.
    fn publish(&self, job: &Job, result: PushResult, in_doubt: bool) -> PushOutcome {
        let PushResult { outcome, clock, wrote } = result;
        if let Some(head) = clock.filter(|_| wrote || in_doubt) {
            self.notifier.publish(job.vault.id(), head);
        }
        outcome
    }

    /// One attempt at a push in a transaction of its own.
    async fn try_push(
        &self,
        job: &Job,
        attempt: usize,
        deadlines: Deadlines,
        lock_timeout: Duration,
    ) -> Result<PushResult, DbError> {
        let connection =
            self.primaries.connect_to_write(job.vault.id(), attempt, deadlines).await?;
        self.gauge();
        let endpoint = connection.endpoint();
        let Job { vault, push, now } = job;
        let context = PushContext {
            now: *now,
            new_epoch: (self.options.new_epoch)(),
            named_vaults: None,
            options: self.options,
        };
        let deadline = deadlines.deadline;
        let txn = PushTxn { connection, vault, push, context, deadline, lock_timeout };
        // Boxed: the future is large, and one that waits for a lock or a connection is not.
        endpoint.watch(Box::pin(txn.run())).await
    }

    /// Runs one batch; what it did for each push, in their order.
    async fn run_batch(&self, batch: Vec<QueuedPush>) -> Vec<BatchOutcome> {
        #[expect(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^53")]
        metrics::histogram!("vaultsync_store_commit_pushes").record(batch.len() as f64);
        let tried = match &batch[..] {
            // Alone, the conflicting records are read in the same transaction.
            [QueuedPush { job, deadlines }] => {
                match self.try_push(job, 0, *deadlines, BATCH_LOCK_TIMEOUT).await {
                    Err(DbError::Transient(_)) => Ok(vec![None]),
                    tried => tried.map(|result| vec![Some(result)]),
                }
            }
            _ => self.try_batch(&batch).await,
        };
        match tried {
            Ok(results) => {
                let alone = || BatchOutcome::Alone(Attempts::default());
                results
                    .into_iter()
                    .map(|done| done.map_or_else(alone, BatchOutcome::Done))
                    .collect()
            }
            Err(failure) => {
                tracing::warn!(
                    ?failure,
                    pushes = batch.len(),
                    "the pushes of a batch are tried alone"
                );
                let in_doubt = matches!(failure, DbError::InDoubt(_));
                let alone = |_| BatchOutcome::Alone(Attempts { count: 1, in_doubt });
                batch.iter().map(alone).collect()
            }
        }
    }

    async fn try_batch(&self, batch: &[QueuedPush]) -> Result<Vec<Option<PushResult>>, DbError> {
        let jobs: Vec<_> = batch.iter().map(|queued| &*queued.job).collect();
        let deadline = batch.iter().map(|queued| queued.deadlines.deadline).min();
        let (Some(first), Some(deadline)) = (jobs.first(), deadline) else {
            return Ok(Vec::new());
        };
        let now = Instant::now();
        let wait_until = now + deadline.saturating_duration_since(now) / 2;
        let deadlines = Deadlines { wait_until, deadline };
        let connection = self.primaries.connect_to_write(first.vault.id(), 0, deadlines).await?;
        self.gauge();
        let endpoint = connection.endpoint();
        let batch = PushBatch { connection, jobs: &jobs, deadline, options: self.options };
        endpoint.watch(Box::pin(batch.run())).await
    }
}

fn is_batched(push: &Push) -> bool {
    push.operations().len() <= BATCHED_OPERATIONS_MAX
        && push.ciphertext_bytes() <= BATCHED_BYTES_MAX
}
