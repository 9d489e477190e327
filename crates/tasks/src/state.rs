//! The state of one task: whether it runs, and the delay before it is started again.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The delay before a task is started again. It doubles up to the longest if the task panics again soon.
/// Jitter at most doubles it.
const DELAY_MIN: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_secs(15);

/// How long a task must have run for its next delay to be the shortest again.
const CALM_AFTER: Duration = Duration::from_mins(1);

/// The state of one task, shared by its supervisor and those who ask for it.
#[derive(Debug)]
pub(crate) struct State {
    name: &'static str,
    is_down: AtomicBool,
    restarts: AtomicU64,
    /// The next delays. Only the supervisor uses them.
    delays: Mutex<ExponentialBackoff>,
    ended: CancellationToken,
}

/// A guard that lives until the task has ended.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a State);

/// One run of the task, from its start.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    state: &'a State,
    started: Instant,
}

impl State {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            is_down: AtomicBool::new(false),
            restarts: AtomicU64::new(0),
            delays: Mutex::new(delays()),
            ended: CancellationToken::new(),
        }
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(crate) const fn run(&self) -> Running<'_> {
        Running(self)
    }

    /// Begins a run.
    pub(crate) fn attempt(&self) -> Attempt<'_> {
        self.is_down.store(false, Ordering::Relaxed);
        Attempt { state: self, started: Instant::now() }
    }

    pub(crate) fn record_metrics(&self) {
        let is_running = !self.is_down() && !self.ended.is_cancelled();
        metrics::gauge!("vaultsync_task_running", "task" => self.name).set(if is_running {
            1.0
        } else {
            0.0
        });
        metrics::counter!("vaultsync_task_restarts_total", "task" => self.name)
            .absolute(self.restarts.load(Ordering::Relaxed));
    }
}

impl Attempt<'_> {
    /// Records that the run ended by a panic with this message, and returns the delay before the next one.
    pub(crate) fn panicked(self, error: &str) -> Duration {
        let Self { state, started } = self;
        state.is_down.store(true, Ordering::Relaxed);
        state.restarts.fetch_add(1, Ordering::Relaxed);
        let mut all = state.delays.lock().unwrap_or_else(PoisonError::into_inner);
        if started.elapsed() >= CALM_AFTER {
            *all = delays();
        }
        let delay = all.next().unwrap_or(DELAY_MAX);
        drop(all);
        let log = || {
            tracing::error!(
                task = state.name,
                error,
                ?delay,
                "a background task panicked and will be started again"
            );
        };
        // The log must not end the supervisor.
        let _ = catch_unwind(AssertUnwindSafe(log));
        delay
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.is_down.store(false, Ordering::Relaxed);
        self.0.ended.cancel();
    }
}

/// Endless delays.
fn delays() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(DELAY_MIN)
        .with_max_delay(DELAY_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}
