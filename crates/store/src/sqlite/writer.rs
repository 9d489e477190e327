//! The writer thread: it drains the queue of pushes and commits them in one transaction, each push in a
//! savepoint of its own, so that a refused push does not undo the others.
//!
//! No push is answered before the commit, not even a refused one: the record that it conflicts with may
//! be another push's write in the same batch, which is not durable yet.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use vaultsync_protocol::{Push, Timestamp};
use vaultsync_tasks::{TaskThread, Tasks};

use super::{
    database_file::DatabaseFile,
    head_cache::HeadCache,
    health::{Health, is_damage},
    log::Log,
    open,
    push::{Applied, apply},
    write_task::WriteTask,
};
use crate::{
    ChangeNotifier, PushOutcome, ReadBudget, StoreError, StoreOptions, Vault, VaultId,
    pull::VaultHead, push_plan::PushContext,
};

/// How many pushes may be queued. At the 600 full batches a second that SQLite commits on two slow
/// cores, the last one waits less than a second. Further pushes are rejected.
const QUEUE_MAX: usize = 512;

/// How long a push may have been queued when the writer reaches it, while the queue is a standing one
/// ([`StandingQueue`]). With the busy timeout of a statement that makes a second. A disk that stalls in a
/// commit is waited for.
const QUEUE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a queue must have been too slow until pushes are rejected. One that a stall of the disk or of
/// the machine has filled drains faster.
const STANDING_FOR: Duration = Duration::from_millis(250);

/// How long one batch may take until the disk counts as one that does not respond.
const BATCH_TIME_MAX: Duration = Duration::from_secs(5);

/// How many pushes share a commit. Past some dozens the sync is a small part of the cost, and the first
/// push waits for the last.
const BATCH_PUSHES_MAX: usize = 64;

/// How much ciphertext shares a commit, in bytes. A single push may be larger.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How much ciphertext the conflicts of one batch hold, in bytes, all its refused pushes together: they
/// are in memory until the last of the batch is answered. Past it, a refused push returns its first
/// conflict and `has_more`.
const BATCH_CONFLICT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A queued push.
pub(super) struct Job {
    pub(super) vault: Vault,
    pub(super) push: Push,
    pub(super) now: Timestamp,
    pub(super) queued_at: Instant,
    pub(super) reply: oneshot::Sender<Result<PushOutcome, StoreError>>,
    /// The caller's memory for the push, dropped with it. The conflicts are read within it.
    pub(super) budget: Box<dyn ReadBudget>,
}

enum Message {
    Push(Box<Job>),
    Task(WriteTask),
    Stop,
}

/// Handle of the writer thread.
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
    batch_began: BatchBegan,
    thread: TaskThread,
}

/// What the thread works with.
pub(super) struct Parts {
    pub(super) connection: Connection,
    pub(super) options: StoreOptions,
    pub(super) notifier: ChangeNotifier,
    pub(super) head_cache: HeadCache,
    pub(super) file: Arc<DatabaseFile>,
    pub(super) health: Health,
    pub(super) log: Log,
}

impl Writer {
    pub(super) fn start(parts: Parts, tasks: &Tasks) -> std::io::Result<Self> {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let batch_began = BatchBegan::default();
        let mut writer_loop = WriterLoop {
            parts,
            messages,
            batch_began: Arc::clone(&batch_began),
            standing_queue: StandingQueue::default(),
            next_task: None,
        };
        let thread = tasks.spawn_thread("sqlite-writer", move || writer_loop.run())?;
        Ok(Self { queue, batch_began, thread })
    }

    /// Queues a push, or rejects it at once if the queue is full or the thread is down.
    pub(super) fn send(&self, job: Job) -> Result<(), StoreError> {
        self.check()?;
        let sent = self.queue.try_send(Message::Push(Box::new(job)));
        gauge_queue(self.queue.max_capacity() - self.queue.capacity());
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                StoreError::Busy(format!("{QUEUE_MAX} pushes are queued"))
            }
            mpsc::error::TrySendError::Closed(_) => {
                StoreError::Unavailable("the database is closing".to_owned())
            }
        })
    }

    /// Queues a write that is no push, behind the pushes that are queued.
    pub(super) fn send_task(&self, task: WriteTask) -> Result<(), StoreError> {
        self.check()?;
        self.queue
            .try_send(Message::Task(task))
            .map_err(|_| StoreError::Busy("the queue of writes is full".to_owned()))
    }

    /// Returns an error if the thread no longer takes pushes, or hangs in a batch.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.queue.is_closed() {
            return Err(StoreError::Unavailable("the database is closing".to_owned()));
        }
        if self.thread.is_down() {
            let reason = "the writer thread panicked and will be started again";
            return Err(StoreError::Unavailable(reason.to_owned()));
        }
        let began = *self.batch_began.lock().unwrap_or_else(PoisonError::into_inner);
        if began.is_some_and(|began| began.elapsed() > BATCH_TIME_MAX) {
            return Err(StoreError::Unavailable("the disk does not respond".to_owned()));
        }
        Ok(())
    }

    /// Lets the thread commit what is queued, and waits for it to end.
    pub(super) async fn close(&self) {
        // This fails only if the thread has ended already.
        let _ = self.queue.send(Message::Stop).await;
        self.thread.ended().await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a queue is far shorter than 2^53")]
fn gauge_queue(pushes: usize) {
    metrics::gauge!("vaultsync_store_queue_pushes").set(pushes as f64);
}

/// The heads of the vaults that a batch has written to.
type NewHeads = HashMap<VaultId, VaultHead>;

/// When the batch began that the thread is working on.
type BatchBegan = Arc<Mutex<Option<Instant>>>;

struct WriterLoop {
    parts: Parts,
    messages: mpsc::Receiver<Message>,
    batch_began: BatchBegan,
    standing_queue: StandingQueue,
    /// A write that was queued between pushes, to be run after their batch.
    next_task: Option<WriteTask>,
}

/// Tells a standing queue, which grows faster than it drains, from one that a stall has filled and that
/// drains at once (RFC 8289, CoDel): only the first is cut, because late is better than refused.
#[derive(Debug, Default)]
struct StandingQueue {
    /// Since when each batch has found pushes that were queued too long, and more than one batch.
    slow_since: Option<Instant>,
}

impl StandingQueue {
    /// Adds what a batch found: whether it emptied the queue, and how long its first push was queued. Returns
    /// whether the queue is a standing one.
    fn add(&mut self, is_emptied: bool, waited: Duration, now: Instant) -> bool {
        // What fits into one batch is served by it, however late.
        if is_emptied || waited <= QUEUE_TIMEOUT {
            self.slow_since = None;
            return false;
        }
        now - *self.slow_since.get_or_insert(now) >= STANDING_FOR
    }
}

impl WriterLoop {
    /// Runs until the store closes. It may be called again after a panic: pushes that were in hand have got
    /// an error, the queue has the others, and no transaction is left open.
    fn run(&mut self) {
        if !self.parts.connection.is_autocommit() {
            // If this fails, so does the next push, and the next panic or restart tries again.
            let _ = self.parts.connection.execute_batch("rollback");
        }
        self.set_batch_began(None);
        while let Some(message) = self.messages.blocking_recv() {
            match message {
                Message::Stop => self.messages.close(),
                Message::Push(first) => {
                    let batch = self.drain_queue(*first);
                    self.set_batch_began(Some(Instant::now()));
                    // A panic drops the transaction, which rolls it back, and the replies, which fails
                    // the pushes. The connection is as good as before for the next batch.
                    if catch_unwind(AssertUnwindSafe(|| self.commit(batch))).is_err() {
                        tracing::error!("the writer thread panicked in a batch of pushes");
                    }
                    self.set_batch_began(None);
                }
                Message::Task(task) => self.next_task = Some(task),
            }
            if let Some(task) = self.next_task.take() {
                self.run_task(task);
            }
        }
        self.close();
    }

    /// Prepares the end of the connection: the last one to close writes the log back into the file and
    /// deletes it.
    fn close(&self) {
        let Parts { connection, file, health, .. } = &self.parts;
        if health.may_write_back() && file.begin_change().is_ok() {
            // If this fails, the next start reads the log.
            let _ = open::write_back_on_close(connection, true);
        }
    }

    fn set_batch_began(&self, began: Option<Instant>) {
        *self.batch_began.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }

    /// The first push and those queued behind it, without the ones that are abandoned or late.
    fn drain_queue(&mut self, first: Job) -> Vec<Job> {
        let mut bytes = first.push.ciphertext_bytes();
        let first_waited = first.queued_at.elapsed();
        let mut batch = vec![first];
        while batch.len() < BATCH_PUSHES_MAX && bytes < BATCH_BYTES_MAX {
            match self.messages.try_recv() {
                Ok(Message::Push(job)) => {
                    bytes += job.push.ciphertext_bytes();
                    batch.push(*job);
                }
                Ok(Message::Task(task)) => {
                    self.next_task = Some(task);
                    break;
                }
                Ok(Message::Stop) => self.messages.close(),
                Err(_) => break,
            }
        }
        gauge_queue(self.messages.len());
        let is_emptied = self.messages.is_empty();
        let is_standing = self.standing_queue.add(is_emptied, first_waited, Instant::now());
        // The caller is gone and cannot learn the outcome, so the push is not begun.
        batch.retain(|job| !job.reply.is_closed());
        let is_late = |job: &mut Job| is_standing && job.queued_at.elapsed() > QUEUE_TIMEOUT;
        for job in batch.extract_if(.., is_late) {
            let late = StoreError::Busy("the push was queued for too long".to_owned());
            drop((job.push, job.budget));
            let _ = job.reply.send(Err(late));
        }
        batch
    }

    /// Runs a write that is no push, then answers its caller. If it panics, its caller is answered by the drop of
    /// the reply, and the transaction is rolled back.
    fn run_task(&mut self, WriteTask { vaults, run, reply }: WriteTask) {
        self.set_batch_began(Some(Instant::now()));
        let written = catch_unwind(AssertUnwindSafe(|| self.transact_task(&vaults, run)));
        self.set_batch_began(None);
        let Ok(written) = written else {
            tracing::error!("the writer thread panicked in a write");
            return;
        };
        let kept = self.check_commit();
        let outcome = match (written, kept) {
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok(log_bytes)) => {
                self.parts.log.after_commit(&self.parts.connection, log_bytes);
                Ok(())
            }
        };
        let _ = reply.send(outcome);
    }

    fn transact_task(
        &mut self,
        vaults: &[VaultId],
        run: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        let Parts { connection, head_cache, health, .. } = &mut self.parts;
        health.check()?;
        if !connection.is_autocommit() {
            // Left behind by a write that panicked, if its rollback failed.
            let _ = connection.execute_batch("rollback");
        }
        let write = || {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            run(&transaction)?;
            for vault in vaults {
                head_cache.invalidate(*vault);
            }
            transaction.commit()
        };
        write().map_err(|error| health.failed(&error))
    }

    /// Applies a batch in one transaction, then answers each push in it.
    fn commit(&mut self, mut batch: Vec<Job>) {
        if batch.is_empty() {
            return;
        }
        let (applied, committed) = self.transact(&mut batch);
        if let Ok(heads) = &committed {
            for (vault, head) in heads {
                self.parts.head_cache.insert(*vault, *head);
                self.parts.notifier.publish(*vault, head.clock);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^53")]
        metrics::histogram!("vaultsync_store_commit_pushes").record(batch.len() as f64);
        // Before the replies: what was committed to a file without a name is lost.
        let kept = self.check_commit();
        for (job, applied) in batch.into_iter().zip(applied) {
            let outcome = match (&committed, applied) {
                (_, Err(error)) => Err(error),
                (Err(error), Ok(_)) => Err(self.not_committed(error)),
                (Ok(_), Ok(_)) if kept.is_err() => Err(StoreError::OutcomeUnknown(
                    "the database file was replaced while the push was committed".to_owned(),
                )),
                (Ok(_), Ok(applied)) => Ok(applied.outcome),
            };
            // Before the reply: its receiver may rely on the reservation being free again.
            drop((job.push, job.budget));
            // If the caller is gone, the push stands all the same, and a retry finds its receipt.
            let _ = job.reply.send(outcome);
        }
        if let (Ok(_), Ok(log_bytes)) = (&committed, kept) {
            self.parts.log.after_commit(&self.parts.connection, log_bytes);
        }
    }

    /// The length of the log. An error if the file is damaged, or is not the one at its path any more.
    fn check_commit(&self) -> Result<u64, StoreError> {
        let Parts { file, health, .. } = &self.parts;
        let log_bytes = file.check_commit().unwrap_or_else(|fault| {
            health.replaced(fault);
            0
        });
        health.check().map(|()| log_bytes)
    }

    /// What each push did, and the heads that the commit left in the vaults written to.
    fn transact(
        &mut self,
        batch: &mut [Job],
    ) -> (Vec<Result<Applied, StoreError>>, rusqlite::Result<NewHeads>) {
        let nothing = || Ok(NewHeads::new());
        if let Err(stopped) = self.parts.health.check() {
            return (undone(batch, &stopped.to_string()), nothing());
        }
        let Parts { connection, options, head_cache, health, .. } = &mut self.parts;
        if !connection.is_autocommit() {
            // Left behind by a batch that panicked, if its rollback failed.
            let _ = connection.execute_batch("rollback");
        }
        let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let mut transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => {
                return (batch.iter().map(|_| Err(health.failed(&error))).collect(), nothing());
            }
        };
        let mut applied = Vec::with_capacity(batch.len());
        let mut conflict_bytes_left = BATCH_CONFLICT_BYTES_MAX;
        for job in batch.iter_mut() {
            let context = PushContext {
                now: job.now,
                new_epoch: (options.new_epoch)(),
                named_vaults: None,
                options: StoreOptions {
                    page_bytes_max: options.page_bytes_max.min(conflict_bytes_left),
                    ..*options
                },
            };
            let Ok(one) = apply_in_savepoint(&mut transaction, job, context) else {
                return (undone(batch, UNDONE), nothing());
            };
            if let Ok(Applied { outcome: PushOutcome::Refused(refused), .. }) = &one {
                let bytes = refused.conflicts.iter().map(|conflict| conflict.ciphertext.len());
                conflict_bytes_left = conflict_bytes_left.saturating_sub(bytes.sum());
            }
            applied.push(one.map_err(|error| health.failed(&error)));
            // Some errors, a full disk among them, make SQLite roll back the whole transaction.
            if transaction.is_autocommit() {
                return (undone(batch, UNDONE), nothing());
            }
        }
        // Nothing more is written to a file that is known to be damaged.
        if let Err(stopped) = health.check() {
            return (undone(batch, &stopped.to_string()), nothing());
        }
        let heads = new_heads(batch, &applied);
        for vault in heads.keys() {
            head_cache.invalidate(*vault);
        }
        (applied, transaction.commit().map(|()| heads))
    }

    fn not_committed(&self, error: &rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            // The log may be written and not synced: after a crash the commit may be there or not.
            Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory) if !is_damage(error) => {
                StoreError::OutcomeUnknown(error.to_string())
            }
            _ => self.parts.health.failed(error),
        }
    }
}

/// Applies a push in a savepoint of its own. If that fails, nothing of it is left in the transaction.
/// The outer `Err` means that this is not certain, and the transaction must not be committed.
fn apply_in_savepoint(
    transaction: &mut Transaction<'_>,
    job: &mut Job,
    context: PushContext,
) -> rusqlite::Result<rusqlite::Result<Applied>> {
    let mut savepoint = transaction.savepoint()?;
    let applied = apply(&savepoint, &job.vault, &job.push, context, &mut *job.budget);
    if applied.is_ok() {
        savepoint.commit()?;
    } else if !savepoint.is_autocommit() {
        savepoint.rollback()?;
        savepoint.finish()?;
    }
    Ok(applied)
}

/// The heads to publish once the batch is committed. If several pushes wrote to one vault, the last one
/// counts.
fn new_heads(batch: &[Job], applied: &[Result<Applied, StoreError>]) -> NewHeads {
    let heads = batch.iter().zip(applied).filter_map(|(job, applied)| {
        let head = applied.as_ref().ok()?.new_head?;
        Some((job.vault.id(), head))
    });
    heads.collect()
}

const UNDONE: &str = "an error in the same batch undid the push";

/// The outcomes of a batch whose transaction is rolled back whole.
fn undone(batch: &[Job], cause: &str) -> Vec<Result<Applied, StoreError>> {
    batch.iter().map(|_| Err(StoreError::Unavailable(cause.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_drains_after_a_stall_is_not_a_standing_one() {
        let mut queue = StandingQueue::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let late = QUEUE_TIMEOUT + Duration::from_millis(100);
        // 200 pushes were queued while the disk stalled; each batch takes 60 ms.
        for (batch, is_emptied) in [false, false, false, true].into_iter().enumerate() {
            assert!(!queue.add(is_emptied, late, at(60 * batch as u64)));
        }
        assert_eq!(queue.slow_since, None);
    }

    #[test]
    fn a_queue_of_one_batch_is_never_a_standing_one() {
        let mut queue = StandingQueue::default();
        let start = Instant::now();
        for second in 0..10 {
            let now = start + Duration::from_secs(second);
            assert!(!queue.add(true, Duration::from_secs(1), now));
        }
    }

    #[test]
    fn a_queue_that_stays_too_slow_is_a_standing_one_until_it_is_fast_again() {
        let mut queue = StandingQueue::default();
        let start = Instant::now();
        let late = QUEUE_TIMEOUT + Duration::from_millis(1);
        let mut add =
            |millis, waited| queue.add(false, waited, start + Duration::from_millis(millis));
        assert!(!add(0, late));
        assert!(!add(249, late));
        assert!(add(250, late));
        assert!(add(900, late));
        assert!(!add(1000, QUEUE_TIMEOUT));
        assert!(!add(1100, late), "a new interval begins");
    }
}
