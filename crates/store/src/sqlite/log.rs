//! The write-ahead log: when it is written back into the file, and how long it may grow.
//!
//! Checkpoints are made here and not by SQLite, which would make them inside a commit, before the pushes of
//! the commit are answered, and would not say when it changes the file (`database_file.rs`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rusqlite::Connection;

use super::{database_file::DatabaseFile, health::Health, open::BUSY_TIMEOUT};

/// The number of 4 KiB pages in the write-ahead log at which it is written back into the file. A page that
/// is in the log several times is written back once. With SQLite's default of 1,000, pushes of 100 records
/// were a tenth slower, and pushes of one record by 1,000 users a sixth. With 8,000, pushes that wait for the
/// write-back wait 50 ms instead of 30 ms.
const LOG_PAGES: i64 = 4_000;

/// After how many further pages the next attempt is made while readers keep the log from being reset.
const LOG_PAGES_STEP: i64 = 1_000;

const PAGE_BYTES: u64 = 4_096;

/// How long the write-ahead log may be after it was reset, in bytes. Past it, the writer looks for a moment
/// without readers to reset it.
pub(super) const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long the writer waits for reads of this process to end, in steps, when it resets a long log.
const READS_WAIT_STEP: Duration = Duration::from_millis(1);
const READS_WAIT_STEPS_MAX: u32 = 20;

/// The write-ahead log, as the writer thread sees it.
pub(super) struct Log {
    file: Arc<DatabaseFile>,
    health: Health,
    reads: Reads,
    /// The number of pages at which the next checkpoint is made.
    pages_next: i64,
}

impl Log {
    pub(super) fn new(file: Arc<DatabaseFile>, health: Health, reads: Reads) -> Self {
        Self { file, health, reads, pages_next: LOG_PAGES }
    }

    /// Makes a checkpoint if the log is long enough. Never waits for a reader of another process.
    /// `log_bytes` is the length of its file, which is longer than its content after it was reset.
    pub(super) fn after_commit(&mut self, connection: &Connection, log_bytes: u64) {
        if log_bytes < LOG_PAGES.unsigned_abs() * PAGE_BYTES {
            return;
        }
        match pages(connection, "pragma wal_checkpoint(noop)") {
            Ok(pages) if pages.in_log < LOG_PAGES => self.pages_next = LOG_PAGES,
            Ok(pages) if pages.in_log < self.pages_next => {}
            Ok(pages) => {
                // The next commit begins the log again, if no reader needs it at that moment.
                self.pages_next = pages.in_log + LOG_PAGES_STEP;
                self.checkpoint(connection);
            }
            Err(error) => tracing::debug!(%error, "the write-ahead log cannot be measured"),
        }
    }

    fn checkpoint(&self, connection: &Connection) {
        if let Err(error) = self.file.begin_change() {
            // Without the note, a crash in the checkpoint would look like a file that was replaced.
            tracing::warn!(%error, "no checkpoint: the lock file cannot be written");
            return;
        }
        if let Err(error) = self.write_back(connection) {
            let error = self.health.failed(&error);
            tracing::warn!(%error, "the write-ahead log cannot be written back");
        }
        if let Err(error) = self.file.end_change() {
            tracing::warn!(%error, "the lock file cannot be written after a checkpoint");
        }
    }

    fn write_back(&self, connection: &Connection) -> rusqlite::Result<()> {
        // Waits for nothing.
        let written = pages(connection, "pragma wal_checkpoint(passive)")?;
        let is_long = written.bytes() > LOG_BYTES_MAX;
        if !is_long || written.written_back < written.in_log {
            return Ok(());
        }
        // Everything is in the file. Reads that begin now do not need the log. Those of this process that
        // began before end soon, and under steady load some always are under way. Those of another process
        // are not waited for.
        self.reads.wait_for_earlier();
        connection.busy_timeout(Duration::ZERO)?;
        let reset = pages(connection, "pragma wal_checkpoint(truncate)");
        connection.busy_timeout(BUSY_TIMEOUT)?;
        reset.map(drop)
    }
}

/// Pages in the log, and how many of them are in the file too.
pub(super) struct Pages {
    pub(super) in_log: i64,
    pub(super) written_back: i64,
}

impl Pages {
    /// The length of the log.
    pub(super) fn bytes(&self) -> u64 {
        self.in_log.unsigned_abs() * PAGE_BYTES
    }
}

/// Makes a checkpoint.
pub(super) fn pages(connection: &Connection, checkpoint: &str) -> rusqlite::Result<Pages> {
    connection
        .prepare_cached(checkpoint)?
        .query_row([], |row| Ok(Pages { in_log: row.get(1)?, written_back: row.get(2)? }))
}

/// Counts the reads of this process. A clone counts the same reads.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads(Arc<Mutex<Arc<()>>>);

impl Reads {
    /// A guard that counts as a read until it is dropped.
    pub(super) fn begin(&self) -> Arc<()> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the reads that have begun by now are finished, but only for so long.
    fn wait_for_earlier(&self) {
        let earlier = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for _ in 0..READS_WAIT_STEPS_MAX {
            if Arc::strong_count(&earlier) == 1 {
                return;
            }
            thread::sleep(READS_WAIT_STEP);
        }
    }
}
