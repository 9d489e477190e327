//! A thread that looks after the database file while nothing is pushed: it notices a file that was deleted or
//! replaced, measures the write-ahead log, and repeats warnings now and then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use vaultsync_tasks::Tasks;

use super::{database_file::DatabaseFile, health::Health, log::LOG_BYTES_MAX};

const INTERVAL: Duration = Duration::from_secs(1);

/// How many intervals lie between two log lines about the same thing.
const INTERVALS_PER_LOG: u32 = 60;

/// How many intervals the log may be longer than [`LOG_BYTES_MAX`] before there is a warning. A writer that
/// finds no reader shortens it within one.
const LONG_LOG_INTERVALS: u32 = 2;

/// Handle of the thread. Dropping it ends the thread, before SQLite's files may be closed.
#[derive(Debug)]
pub(super) struct Watch {
    is_closing: Arc<AtomicBool>,
    _stop: mpsc::Sender<()>,
}

impl Watch {
    pub(super) fn start(
        file: Arc<DatabaseFile>,
        health: Health,
        tasks: &Tasks,
    ) -> std::io::Result<Self> {
        let is_closing = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = mpsc::channel();
        let mut rounds =
            Rounds { file, health, is_closing: Arc::clone(&is_closing), fault: 0, long_log: 0 };
        tasks.spawn_thread("sqlite-watch", move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                rounds.run();
            }
        })?;
        Ok(Self { is_closing, _stop: stop })
    }

    /// Must be called before SQLite closes its files: it deletes the log then, which is not a fault.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.close();
    }
}

struct Rounds {
    file: Arc<DatabaseFile>,
    health: Health,
    is_closing: Arc<AtomicBool>,
    /// Intervals since the fault was found, and for which the log has been too long.
    fault: u32,
    long_log: u32,
}

impl Rounds {
    fn run(&mut self) {
        let found = self.file.check();
        if self.is_closing.load(Ordering::SeqCst) {
            return;
        }
        match found {
            Ok(log_bytes) => self.measure_log(log_bytes),
            Err(fault) => self.health.replaced(fault),
        }
        if self.health.get().problem().is_some() {
            self.fault += 1;
            if self.fault.is_multiple_of(INTERVALS_PER_LOG) {
                self.health.log_again();
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "no file is that long")]
    fn measure_log(&mut self, bytes: u64) {
        metrics::gauge!("vaultsync_store_log_bytes").set(bytes as f64);
        self.long_log = if bytes > LOG_BYTES_MAX { self.long_log + 1 } else { 0 };
        if self.long_log % INTERVALS_PER_LOG == LONG_LOG_INTERVALS {
            let log = self.file.log_path();
            tracing::warn!(
                bytes,
                "{} cannot be reset and keeps growing: another process has been reading the database for \
                 long, a backup or a shell for example. Find it with `fuser {}` and end it",
                log.display(),
                self.file.canonical().display(),
            );
        }
    }
}
