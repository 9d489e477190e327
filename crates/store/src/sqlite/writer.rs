//! The thread that writes: it takes what is queued and commits it in one transaction, each push in
//! a savepoint of its own, so that one refused push does not undo its neighbours.
//!
//! Nobody is answered before the commit, refused pushes included: what stood in their way may be a
//! neighbour's write, which is not true before it is durable.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use vaultsync_protocol::{Push, Timestamp};

use super::{
    failed,
    push::{Applied, apply},
};
use crate::{Heads, PushOutcome, StoreError, StoreOptions, Vault};

/// How many pushes may wait. At the 600 a second of full batches that SQLite commits on two slow
/// cores, the last one waits less than a second; one more is told to come back later.
const QUEUE_MAX: usize = 512;

/// How many pushes share a commit at most. Past some dozens the sync is a small part of the cost,
/// and the first of them waits for the last.
const GROUP_PUSHES_MAX: usize = 64;

/// How much ciphertext shares a commit at most; one push may be larger.
const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How much ciphertext the conflicts of one group hold at most, all its refused pushes together: they
/// are in memory until the last of the group is answered. Past it, a refused push is told of its
/// first conflict and that there are more.
const GROUP_CONFLICT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A push on its way to the database.
pub(super) struct Job {
    pub(super) vault: Vault,
    pub(super) push: Push,
    pub(super) now: Timestamp,
    pub(super) reply: oneshot::Sender<Result<PushOutcome, StoreError>>,
}

enum Message {
    Push(Box<Job>),
    Stop,
}

/// The writing thread, seen from outside.
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        options: StoreOptions,
        heads: Heads,
    ) -> std::io::Result<Self> {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let thread = thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || Loop { connection, messages, options, heads }.run())?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a push, or refuses it at once where too many wait.
    pub(super) fn send(&self, job: Job) -> Result<(), StoreError> {
        let sent = self.queue.try_send(Message::Push(Box::new(job)));
        gauge_queue(self.queue.max_capacity() - self.queue.capacity());
        sent.map_err(|error| {
            StoreError::Unavailable(match error {
                mpsc::error::TrySendError::Full(_) => format!("{QUEUE_MAX} pushes wait already"),
                mpsc::error::TrySendError::Closed(_) => "the database is closing".to_owned(),
            })
        })
    }

    /// Whether the thread is there to write.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.queue.is_closed() {
            return Err(StoreError::Unavailable("the database is closing".to_owned()));
        }
        Ok(())
    }

    /// Lets the thread finish what is queued, and waits for its end.
    pub(super) async fn close(&self) {
        // Where the thread is gone already, there is nobody to tell.
        let _ = self.queue.send(Message::Stop).await;
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a queue is far shorter than 2^53")]
fn gauge_queue(pushes: usize) {
    metrics::gauge!("vaultsync_store_queue_pushes").set(pushes as f64);
}

struct Loop {
    connection: Connection,
    messages: mpsc::Receiver<Message>,
    options: StoreOptions,
    heads: Heads,
}

impl Loop {
    fn run(mut self) {
        while let Some(message) = self.messages.blocking_recv() {
            match message {
                Message::Stop => self.messages.close(),
                Message::Push(first) => {
                    let group = self.gather(*first);
                    // A panic drops the transaction, which rolls it back, and the replies, which
                    // tells the group; the next group finds a connection as good as before.
                    if catch_unwind(AssertUnwindSafe(|| self.commit(group))).is_err() {
                        tracing::error!("a group of pushes panicked and was rolled back");
                    }
                }
            }
        }
    }

    /// The first push and those that have queued up behind it.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut bytes = first.push.ciphertext_bytes();
        let mut group = vec![first];
        while group.len() < GROUP_PUSHES_MAX && bytes < GROUP_BYTES_MAX {
            match self.messages.try_recv() {
                Ok(Message::Push(job)) => {
                    bytes += job.push.ciphertext_bytes();
                    group.push(*job);
                }
                Ok(Message::Stop) => self.messages.close(),
                Err(_) => break,
            }
        }
        gauge_queue(self.messages.len());
        // Whoever has gone away cannot be told, so their push is not begun.
        group.retain(|job| !job.reply.is_closed());
        group
    }

    /// Applies a group in one transaction, then answers everyone in it.
    fn commit(&mut self, group: Vec<Job>) {
        if group.is_empty() {
            return;
        }
        let (judged, committed) = self.transact(&group);
        #[expect(clippy::cast_precision_loss, reason = "a group is far smaller than 2^53")]
        metrics::histogram!("vaultsync_store_commit_pushes").record(group.len() as f64);
        for (job, judged) in group.into_iter().zip(judged) {
            let answer = match (&committed, judged) {
                (_, Err(error)) => Err(error),
                (Err(error), Ok(_)) => Err(not_committed(error)),
                (Ok(()), Ok(applied)) => {
                    if let Some(head) = applied.head {
                        self.heads.announce(job.vault.id(), head);
                    }
                    Ok(applied.outcome)
                }
            };
            // Nobody there to be answered: the push stands all the same, and a retry finds it.
            let _ = job.reply.send(answer);
        }
    }

    /// What became of each push, and of the commit.
    fn transact(
        &mut self,
        group: &[Job],
    ) -> (Vec<Result<Applied, StoreError>>, rusqlite::Result<()>) {
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let mut transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => return (group.iter().map(|_| Err(failed(&error))).collect(), Ok(())),
        };
        let mut judged = Vec::with_capacity(group.len());
        let mut conflict_bytes_left = GROUP_CONFLICT_BYTES_MAX;
        for job in group {
            let applied = transaction.savepoint().and_then(|savepoint| {
                let mut options = self.options;
                options.page_bytes_max = options.page_bytes_max.min(conflict_bytes_left);
                let applied = apply(&savepoint, &job.vault, &job.push, job.now, &options)?;
                savepoint.commit()?;
                Ok(applied)
            });
            if let Ok(Applied { outcome: PushOutcome::Refused(refused), .. }) = &applied {
                let bytes = refused.conflicts.iter().map(|conflict| conflict.ciphertext.len());
                conflict_bytes_left = conflict_bytes_left.saturating_sub(bytes.sum());
            }
            judged.push(applied.map_err(|error| failed(&error)));
            // Some faults, a full disk among them, make SQLite roll back the whole transaction.
            if transaction.is_autocommit() {
                let gone = || StoreError::Unavailable("a neighbour's fault undid it".to_owned());
                return (group.iter().map(|_| Err(gone())).collect(), Ok(()));
            }
        }
        (judged, transaction.commit())
    }
}

fn not_committed(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        // The log may be written and not synced: after a crash the commit may be there or not.
        Some(ErrorCode::SystemIoFailure) => StoreError::OutcomeUnknown(error.to_string()),
        _ => failed(error),
    }
}
