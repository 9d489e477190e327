//! Destination and format of log lines.
//!
//! The log is best effort. Lines go through a bounded queue to a thread that writes them to standard error,
//! so nothing else waits for a pipe that is not read, or fails because of a full disk. Lines that do not
//! fit into the queue or cannot be written are lost and counted.

use std::{
    io::{self, IsTerminal, Write as _},
    panic::PanicHookInfo,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64, atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use anyhow::Context;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::{
    log_sink::{self, LogSink},
    settings::{Log, LogFormat},
};

/// The number of lines that may wait to be written: a burst, at some hundred bytes a line.
const QUEUE_LINES_MAX: usize = 8192;

/// How long the process waits at its end for a line to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How often lost lines are counted in the metrics, and after how many times they are logged.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
const WARN_EVERY: u32 = 60;

/// The thread that writes, until the last line.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// A guard that writes the queued lines when dropped, as [`flush`] does.
#[must_use = "the last lines are written when it is dropped"]
pub(crate) struct FlushGuard(());

impl Drop for FlushGuard {
    fn drop(&mut self) {
        flush();
    }
}

/// Starts the log, and logs every panic from now on.
pub(crate) fn init(log: &Log) -> anyhow::Result<(LostLines, FlushGuard)> {
    let filter = EnvFilter::builder().parse(&log.filter)?;
    let terminal = io::stderr().is_terminal();
    let text = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let write_failed = Arc::default();
    let sink = LogSink::new(log_sink::stderr()?, Arc::clone(&write_failed));
    let (queue, writer) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE_LINES_MAX)
        .lossy(true)
        .thread_name("log-writer")
        .finish(sink);
    let lost = LostLines { queue_full: queue.error_counter(), write_failed };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(queue)
        // They would be printed to standard error, which may panic or block.
        .log_internal_errors(false)
        .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()));
    let started = if text {
        lines.try_init()
    } else {
        lines.json().flatten_event(true).with_span_list(false).try_init()
    };
    started.map_err(anyhow::Error::from_boxed).context("cannot start logging")?;
    *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
    std::panic::set_hook(Box::new(log_panic));
    Ok((lost, FlushGuard(())))
}

/// The number of lines that were lost so far.
#[derive(Clone, Debug)]
pub(crate) struct LostLines {
    queue_full: ErrorCounter,
    write_failed: Arc<AtomicU64>,
}

impl LostLines {
    /// Counts lost lines in the metrics, and logs now and then that there are more.
    pub(crate) async fn watch(self) {
        let mut logged = 0;
        for round in 1_u32.. {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let lost = self.record();
            if round % WARN_EVERY == 0 && lost > logged {
                let lines = lost - logged;
                logged = lost;
                tracing::warn!(
                    lines,
                    "log lines were lost: standard error is full, slow or closed"
                );
            }
        }
    }

    fn record(&self) -> u64 {
        let queue_full = u64::try_from(self.queue_full.dropped_lines()).unwrap_or(u64::MAX);
        let write_failed = self.write_failed.load(Ordering::Relaxed);
        for (reason, lines) in [("queue_full", queue_full), ("write_failed", write_failed)] {
            metrics::counter!("vaultsync_log_lines_lost_total", "reason" => reason).absolute(lines);
        }
        queue_full.saturating_add(write_failed)
    }
}

/// Writes the queued lines, but waits for that no longer than [`FLUSH_TIMEOUT`]. Later lines are lost.
pub(crate) fn flush() {
    let writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(writer) = writer {
        // If the queue is full, the library prints to standard output, which may block or panic.
        run_for_at_most(FLUSH_TIMEOUT, move || drop(writer));
    }
}

/// Prints a line to standard error, if that is possible within [`FLUSH_TIMEOUT`].
pub(crate) fn print(line: &str) {
    let line = format!("{line}\n");
    run_for_at_most(FLUSH_TIMEOUT, move || {
        // There is no other place to report that standard error is closed.
        let _ = io::stderr().write_all(line.as_bytes());
    });
}

/// Runs something that may block forever on a thread of its own, and waits for it until the timeout.
fn run_for_at_most(timeout: Duration, run: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let started = thread::Builder::new().spawn(move || {
        run();
        // The receiver is gone if it took too long.
        let _ = done.send(());
    });
    if started.is_ok() {
        let _ = is_done.recv_timeout(timeout);
    }
}

/// Logs a panic instead of printing it: standard error may be closed, or block.
fn log_panic(panic: &PanicHookInfo<'_>) {
    use std::backtrace::{Backtrace, BacktraceStatus};

    metrics::counter!("vaultsync_panics_total").increment(1);
    let backtrace = Backtrace::capture();
    let has_backtrace = backtrace.status() == BacktraceStatus::Captured;
    tracing::error!(
        error = panic.payload_as_str().unwrap_or_default(),
        location = panic.location().map(tracing::field::display),
        thread = thread::current().name(),
        backtrace = has_backtrace.then(|| tracing::field::display(&backtrace)),
        "a thread panicked"
    );
}
