//! The thread that writes: it takes what is queued and commits it in one transaction, each push in
//! a savepoint of its own, so that one refused push does not undo its neighbours.
//!
//! Nobody is answered before the commit, refused pushes included: what stood in their way may be a
//! neighbour's write, which is not true before it is durable.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Mutex,
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use vaultsync_protocol::{Push, Timestamp};

use super::{
    beside, failed,
    head_cache::HeadCache,
    push::{Applied, apply},
};
use crate::{
    ChangeNotifier, PushOutcome, StoreError, StoreOptions, Vault, VaultId, pull::VaultHead,
};

/// How many pushes may wait. At the 600 a second of full batches that SQLite commits on two slow
/// cores, the last one waits less than a second; one more is told to come back later.
const QUEUE_MAX: usize = 512;

/// How long a push may have waited when its turn comes. With what a statement waits for a busy file,
/// that is a second; a disk that stalls in a commit is waited for.
const QUEUE_PATIENCE: Duration = Duration::from_millis(500);

/// How many pushes share a commit at most. Past some dozens the sync is a small part of the cost,
/// and the first of them waits for the last.
const GROUP_PUSHES_MAX: usize = 64;

/// How much ciphertext shares a commit at most; one push may be larger.
const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How much ciphertext the conflicts of one group hold at most, all its refused pushes together: they
/// are in memory until the last of the group is answered. Past it, a refused push is told of its
/// first conflict and that there are more.
const GROUP_CONFLICT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// How many groups are committed between two looks at the write-ahead log's length.
const LOOK_AT_LOG_EVERY: u32 = 256;

/// How long the write-ahead log may grow before it is started anew.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A push on its way to the database.
pub(super) struct Job {
    pub(super) vault: Vault,
    pub(super) push: Push,
    pub(super) now: Timestamp,
    pub(super) queued_at: Instant,
    pub(super) reply: oneshot::Sender<Result<PushOutcome, StoreError>>,
    /// What the push takes of its caller's, let go with it.
    pub(super) held: Box<dyn Send>,
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
        path: &Path,
        options: StoreOptions,
        notifier: ChangeNotifier,
        head_cache: HeadCache,
    ) -> std::io::Result<Self> {
        // SQLite puts its log beside the file itself, wherever a link to it lies.
        let log_path = beside(&std::fs::canonicalize(path)?, "-wal");
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let thread = thread::Builder::new().name("sqlite-writer".to_owned()).spawn(move || {
            let groups_since_look = 0;
            let writing = Loop {
                connection,
                messages,
                options,
                notifier,
                head_cache,
                log_path,
                groups_since_look,
            };
            writing.run();
        })?;
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

/// What the row of each vault that a group has written to says.
type LastHeads = HashMap<VaultId, VaultHead>;

struct Loop {
    connection: Connection,
    messages: mpsc::Receiver<Message>,
    options: StoreOptions,
    notifier: ChangeNotifier,
    head_cache: HeadCache,
    log_path: PathBuf,
    groups_since_look: u32,
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
                        tracing::error!("a group of pushes panicked");
                    }
                    self.keep_log_short();
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
        let is_late = |job: &mut Job| job.queued_at.elapsed() > QUEUE_PATIENCE;
        for job in group.extract_if(.., is_late) {
            let late = StoreError::Unavailable("too many pushes were before it".to_owned());
            drop((job.push, job.held));
            let _ = job.reply.send(Err(late));
        }
        group
    }

    /// Now and then starts the write-ahead log anew where it has grown: SQLite does so by itself only
    /// when it finds nobody reading, and under steady load there always is somebody.
    fn keep_log_short(&mut self) {
        self.groups_since_look += 1;
        if self.groups_since_look < LOOK_AT_LOG_EVERY {
            return;
        }
        self.groups_since_look = 0;
        if std::fs::metadata(&self.log_path).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
            let checkpoint = "pragma wal_checkpoint(truncate)";
            if let Err(error) = self.connection.query_row(checkpoint, [], |_| Ok(())) {
                tracing::warn!(%error, "the write-ahead log could not be shortened");
            }
        }
    }

    /// Applies a group in one transaction, then answers everyone in it.
    fn commit(&mut self, group: Vec<Job>) {
        if group.is_empty() {
            return;
        }
        let (judged, committed) = self.transact(&group);
        if let Ok(heads) = &committed {
            for (vault, head) in heads {
                self.head_cache.insert(*vault, *head);
                self.notifier.publish(*vault, head.clock);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a group is far smaller than 2^53")]
        metrics::histogram!("vaultsync_store_commit_pushes").record(group.len() as f64);
        for (job, judged) in group.into_iter().zip(judged) {
            let answer = match (&committed, judged) {
                (_, Err(error)) => Err(error),
                (Err(error), Ok(_)) => Err(not_committed(error)),
                (Ok(_), Ok(applied)) => Ok(applied.outcome),
            };
            // Before the answer: whoever has it may count on what the push took being free again.
            drop((job.push, job.held));
            // Nobody there to be answered: the push stands all the same, and a retry finds it.
            let _ = job.reply.send(answer);
        }
    }

    /// What became of each push, and of the commit: what it left in the vaults that were written to.
    fn transact(
        &mut self,
        group: &[Job],
    ) -> (Vec<Result<Applied, StoreError>>, rusqlite::Result<LastHeads>) {
        let nothing = || Ok(LastHeads::new());
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let mut transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => return (group.iter().map(|_| Err(failed(&error))).collect(), nothing()),
        };
        let mut judged = Vec::with_capacity(group.len());
        let mut conflict_bytes_left = GROUP_CONFLICT_BYTES_MAX;
        for job in group {
            let mut options = self.options;
            options.page_bytes_max = options.page_bytes_max.min(conflict_bytes_left);
            let Ok(applied) = apply_alone(&mut transaction, job, &options) else {
                return (undone(group), nothing());
            };
            if let Ok(Applied { outcome: PushOutcome::Refused(refused), .. }) = &applied {
                let bytes = refused.conflicts.iter().map(|conflict| conflict.ciphertext.len());
                conflict_bytes_left = conflict_bytes_left.saturating_sub(bytes.sum());
            }
            judged.push(applied.map_err(|error| failed(&error)));
            // Some faults, a full disk among them, make SQLite roll back the whole transaction.
            if transaction.is_autocommit() {
                return (undone(group), nothing());
            }
        }
        let heads = last_heads(group, &judged);
        for vault in heads.keys() {
            self.head_cache.invalidate(*vault);
        }
        (judged, transaction.commit().map(|()| heads))
    }
}

/// Applies a push in a savepoint of its own. Where it fails, nothing of it is left in the transaction;
/// `Err` where that cannot be said, and then the transaction must not be committed.
fn apply_alone(
    transaction: &mut Transaction<'_>,
    job: &Job,
    options: &StoreOptions,
) -> rusqlite::Result<rusqlite::Result<Applied>> {
    let mut savepoint = transaction.savepoint()?;
    let applied = apply(&savepoint, &job.vault, &job.push, job.now, options);
    if applied.is_ok() {
        savepoint.commit()?;
    } else if !savepoint.is_autocommit() {
        savepoint.rollback()?;
        savepoint.finish()?;
    }
    Ok(applied)
}

/// What is to be told once the group is committed: where several pushes are to one vault, what the last
/// of them left.
fn last_heads(group: &[Job], judged: &[Result<Applied, StoreError>]) -> LastHeads {
    let heads = group.iter().zip(judged).filter_map(|(job, judged)| {
        let head = judged.as_ref().ok()?.head?;
        Some((job.vault.id(), head))
    });
    heads.collect()
}

/// The answers to a group whose transaction is rolled back whole.
fn undone(group: &[Job]) -> Vec<Result<Applied, StoreError>> {
    let undone = || StoreError::Unavailable("a neighbour's fault undid it".to_owned());
    group.iter().map(|_| Err(undone())).collect()
}

fn not_committed(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        // The log may be written and not synced: after a crash the commit may be there or not.
        Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory) => {
            StoreError::OutcomeUnknown(error.to_string())
        }
        _ => failed(error),
    }
}
