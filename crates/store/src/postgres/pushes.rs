//! A push from when it is taken on to its end: its turn, its company, and how often it is tried.
//!
//! Not here: statements.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout_at};

use super::{
    Inner, Job,
    connect::Bounds,
    failure::Failure,
    group::Group,
    joiner::{Joined, Member, gather, is_small},
    push::{Attempt, Pushing},
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
        let mut bounds = Bounds::new(self.timeout, job.push.ciphertext_bytes());
        let too_many = || StoreError::Unavailable("too many pushes were before it".to_owned());
        let Ok(_pass) = timeout_at(bounds.patience, self.gate.enter(job.vault.id())).await else {
            return Err(too_many());
        };
        let (mut attempt, mut in_doubt) = (0, false);
        // On Citus the vaults of a group would lie on several machines.
        if is_small(&job.push) && !self.primaries.are_citus() {
            let lead = || drop(tokio::spawn(Arc::clone(self).lead()));
            let joined = self.joiner.join(Arc::clone(job), bounds, lead).await;
            match joined.ok_or_else(too_many)? {
                Joined::Done(attempt) => return Ok(self.tell(job, attempt, false)),
                Joined::Alone { attempts, in_doubt: doubt } => {
                    (attempt, in_doubt) = (attempts, doubt);
                    // It has waited for its turn already.
                    bounds.patience = bounds.deadline;
                }
            }
        }
        loop {
            let tried = self.try_push(job, attempt, bounds, Duration::MAX).await;
            attempt += 1;
            // What has begun may wait for as long as there is.
            bounds.patience = bounds.deadline;
            match tried {
                Ok(attempt) => return Ok(self.tell(job, attempt, in_doubt)),
                Err(Failure::Fault(told)) if !in_doubt => return Err(StoreError::Internal(told)),
                Err(failure) => {
                    in_doubt |= matches!(failure, Failure::InDoubt(_));
                    if attempt < ATTEMPTS && Instant::now() < bounds.deadline {
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
    fn tell(&self, job: &Job, attempt: Attempt, in_doubt: bool) -> PushOutcome {
        let Attempt { outcome, clock, wrote } = attempt;
        if let Some(head) = clock.filter(|_| wrote || in_doubt) {
            self.heads.announce(job.vault.id(), head);
        }
        outcome
    }

    async fn try_push(
        &self,
        job: &Job,
        attempt: usize,
        bounds: Bounds,
        lock_timeout: Duration,
    ) -> Result<Attempt, Failure> {
        let connection = self.primaries.connect(job.vault.id(), attempt, bounds).await?;
        self.gauge();
        let node = connection.node();
        let (deadline, options) = (bounds.deadline, &self.options);
        let Job { vault, push, now } = job;
        let now = *now;
        let pushing = Pushing { connection, vault, push, now, deadline, lock_timeout, options };
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
                Err(Failure::InDoubt("its task panicked".to_owned()))
            });
            answer(members, tried);
        }
    }

    async fn try_together(&self, members: &[Member]) -> Result<Vec<Option<Attempt>>, Failure> {
        #[expect(clippy::cast_precision_loss, reason = "a group is far smaller than 2^53")]
        metrics::histogram!("vaultsync_store_commit_pushes").record(members.len() as f64);
        if let [Member { job, bounds, .. }] = members {
            // Alone, what stands in its way is read in the same transaction.
            let tried = self.try_push(job, 0, *bounds, COMPANY_LOCK_TIMEOUT).await;
            return match tried {
                Err(Failure::Transient(_)) => Ok(vec![None]),
                tried => tried.map(|attempt| vec![Some(attempt)]),
            };
        }
        let (jobs, deadlines): (Vec<_>, Vec<_>) =
            members.iter().map(|member| (&*member.job, member.bounds.deadline)).unzip();
        self.try_group(&jobs, &deadlines).await
    }

    async fn try_group(
        &self,
        jobs: &[&Job],
        deadlines: &[Instant],
    ) -> Result<Vec<Option<Attempt>>, Failure> {
        let (Some(first), Some(deadline)) = (jobs.first(), deadlines.iter().min()) else {
            return Ok(Vec::new());
        };
        let now = Instant::now();
        let half = deadline.saturating_duration_since(now) / 2;
        let bounds = Bounds { patience: now + half, deadline: *deadline };
        let connection = self.primaries.connect(first.vault.id(), 0, bounds).await?;
        self.gauge();
        let node = connection.node();
        let group = Group { connection, jobs, deadline: *deadline };
        node.watch(Box::pin(group.run())).await
    }
}

/// Tells each of a group what became of its push.
fn answer(members: Vec<Member>, tried: Result<Vec<Option<Attempt>>, Failure>) {
    let (attempts, in_doubt) = match &tried {
        Ok(_) => (0, false),
        Err(failure) => {
            tracing::warn!(?failure, pushes = members.len(), "pushes are tried again, each alone");
            (1, matches!(failure, Failure::InDoubt(_)))
        }
    };
    let mut tried = tried.unwrap_or_default().into_iter();
    for Member { job, reply, .. } in members {
        let done = tried.next().flatten();
        // Before the answer: whoever has it may count on what the push took being free again.
        drop(job);
        // Nobody there to be told: the push stands all the same, and a retry finds it.
        let _ = reply.send(done.map_or(Joined::Alone { attempts, in_doubt }, Joined::Done));
    }
}
