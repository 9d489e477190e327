//! Which small pushes go together. Those that come while others are on their way make the next group, so
//! that nobody waits for company, and a busy process commits seldom.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::oneshot, time::timeout_at};
use vaultsync_protocol::Push;

use super::{Job, connect::Deadlines, push_txn::PushResult};

/// What counts as small. Past it a push is worth a transaction of its own.
const OPERATIONS_MAX: usize = 16;
const BYTES_MAX: usize = 64 * 1024;

/// How many pushes go together at most: so many share the cost of a commit, and its fate.
const GROUP_PUSHES_MAX: usize = 64;

/// How many groups are on their way at a time: one gathers while another waits for the disk. At rest, 8
/// clients got 5,200 pushes a second through with two, 4,300 with three or four, for a third more of the
/// processors, and 4,500 with one; 64 clients 12,000, and 10,000 with three or four. Only where a commit takes
/// many milliseconds do four serve 8 clients better, by a third.
const GROUPS_MAX: usize = 2;

/// What became of a push that was to go with others.
pub(super) enum BatchOutcome {
    /// It is done.
    Done(PushResult),
    /// It has to go alone, after so many attempts; `in_doubt` where it may be done all the same.
    Alone { attempts: usize, in_doubt: bool },
}

/// A push that waits for its group, and who is told.
pub(super) struct Waiter {
    pub(super) job: Arc<Job>,
    pub(super) deadlines: Deadlines,
    pub(super) reply: oneshot::Sender<BatchOutcome>,
}

/// The pushes that wait. At most one of each vault does: it has passed its gate.
#[derive(Default)]
pub(super) struct Batcher(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiter>,
    groups: usize,
}

/// Whether a push goes with others.
pub(super) fn is_small(push: &Push) -> bool {
    push.operations().len() <= OPERATIONS_MAX && push.ciphertext_bytes() <= BYTES_MAX
}

/// Lets most of those who have come already be read first, so that they go along: in the next group, and
/// among the next [looks](super::looks). It waits for nobody: where nothing else is to be done, it goes on
/// at once, and under load within two turns of the runtime's queue.
///
/// 64 clients get a seventh more idle pulls answered by it and a twentieth more pushes of one, and each
/// costs a fifth and a twelfth less of the processors; with 8 clients each costs a tenth less.
pub(super) async fn gather() {
    // Whoever yields once to tokio 1.54 goes on before the connections that it then finds to be readable.
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
}

impl Batcher {
    /// Waits for what becomes of a push; `None` where its wait_until ended before it was begun. `lead` is
    /// called where somebody has to see to the groups.
    pub(super) async fn join(
        &self,
        job: Arc<Job>,
        deadlines: Deadlines,
        lead: impl FnOnce(),
    ) -> Option<BatchOutcome> {
        let (reply, mut joined) = oneshot::channel();
        let member = Waiter { job: Arc::clone(&job), deadlines, reply };
        if self.enter(member) {
            lead();
        }
        let told = match timeout_at(deadlines.wait_until, &mut joined).await {
            Ok(told) => told,
            Err(_) if self.leave(&job) => return None,
            // It is on its way, with a deadline of its own.
            Err(_) => joined.await,
        };
        // A group that ended without a word may have been committed.
        Some(told.unwrap_or(BatchOutcome::Alone { attempts: 1, in_doubt: true }))
    }

    /// Queues a push; whether another group may begin.
    fn enter(&self, member: Waiter) -> bool {
        let mut state = self.lock();
        state.waiting.push_back(member);
        let may_begin = state.groups < GROUPS_MAX;
        state.groups += usize::from(may_begin);
        may_begin
    }

    /// Takes a push back, if it has not begun.
    fn leave(&self, job: &Arc<Job>) -> bool {
        let mut state = self.lock();
        let place = state.waiting.iter().position(|member| Arc::ptr_eq(&member.job, job));
        place.and_then(|place| state.waiting.remove(place)).is_some()
    }

    /// The next group; `None` where nobody waits, and then the one who asked need not ask again.
    pub(super) fn next_group(&self) -> Option<Vec<Waiter>> {
        let mut state = self.lock();
        if state.waiting.is_empty() {
            state.groups -= 1;
            return None;
        }
        let count = state.waiting.len().min(GROUP_PUSHES_MAX);
        Some(state.waiting.drain(..count).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half-way through a change, so a poisoned lock is a whole one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Batcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher").finish_non_exhaustive()
    }
}
