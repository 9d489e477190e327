//! Long-lived tasks and threads: each has a name, is started again after a panic, and is listed.
//!
//! A task that panics ends without a trace, and what it did is missing from then on: nothing measures
//! overload, or no change reaches other nodes. A supervised one is started again, after a delay that grows
//! if it panics again soon. Until then it is down: [`Tasks::down`] names it, and `/readyz` reports that.
//!
//! Not here: tasks that end by themselves, such as those of a request or a connection; what tasks do.

mod state;
mod thread;

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::FutureExt as _;
use tokio::task::AbortHandle;

use self::state::State;
pub use self::thread::TaskThread;

/// The long-lived tasks of a server. A clone is the same list.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Mutex<Vec<Arc<State>>>>);

impl Tasks {
    /// Starts a task on the current runtime. `run` is called again after each panic. The task ends when the
    /// future of `run` is done.
    pub fn spawn<F>(&self, name: &'static str, run: impl FnMut() -> F + Send + 'static) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let state = self.add(name);
        let abort = tokio::spawn(supervise(Arc::clone(&state), run)).abort_handle();
        Task { state, abort }
    }

    /// Starts a thread. `run` is called again after each panic. The thread ends when `run` returns.
    ///
    /// # Errors
    ///
    /// If the system does not start another thread.
    pub fn spawn_thread(
        &self,
        name: &'static str,
        run: impl FnMut() + Send + 'static,
    ) -> std::io::Result<TaskThread> {
        TaskThread::start(self.add(name), name, run)
    }

    /// Names of the tasks that panicked and are not started again yet.
    pub fn down(&self) -> Vec<&'static str> {
        let states = self.states();
        states.iter().filter(|state| state.is_down()).map(|state| state.name()).collect()
    }

    /// Updates the metrics of all tasks: whether each one is running, and how often it was started again.
    pub fn record_metrics(&self) {
        self.states().iter().for_each(|state| state.record_metrics());
    }

    fn add(&self, name: &'static str) -> Arc<State> {
        let state = Arc::new(State::new(name));
        self.states().push(Arc::clone(&state));
        state
    }

    fn states(&self) -> MutexGuard<'_, Vec<Arc<State>>> {
        // No code panics while it holds this lock, so the list is consistent even if the lock is poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running task. It is aborted when this is dropped.
#[derive(Debug)]
#[must_use = "a task is aborted when it is dropped"]
pub struct Task {
    state: Arc<State>,
    abort: AbortHandle,
}

impl Task {
    /// Whether it panicked and is not started again yet.
    pub fn is_down(&self) -> bool {
        self.state.is_down()
    }

    /// Ends it at its next `await`.
    pub fn abort(&self) {
        self.abort.abort();
    }

    /// Waits until it has ended, and everything that it held is dropped.
    pub async fn ended(&self) {
        self.state.ended().await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort();
    }
}

async fn supervise<F: Future<Output = ()>>(state: Arc<State>, run: impl FnMut() -> F) {
    // Dropped after `run` and what it captured, whether the task is done or aborted.
    let _running = state.run();
    let mut run = run;
    loop {
        let attempt = state.attempt();
        let ran = AssertUnwindSafe(async { run().await }).catch_unwind().await;
        let Err(panic) = ran else { return };
        let delay = attempt.panicked(panic_message(&*panic));
        tokio::time::sleep(delay).await;
    }
}

/// The message of a panic; empty if it has none.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use tokio::sync::mpsc;

    use super::*;

    /// A task that reports each start, and panics after each unit of `fuel`.
    struct Fragile {
        tasks: Tasks,
        task: Task,
        starts: mpsc::UnboundedReceiver<()>,
        fuel: mpsc::UnboundedSender<()>,
    }

    impl Fragile {
        fn start() -> Self {
            let tasks = Tasks::default();
            let (fuel, burnt) = mpsc::unbounded_channel();
            let (started, starts) = mpsc::unbounded_channel();
            let burnt = Arc::new(tokio::sync::Mutex::new(burnt));
            let task = tasks.spawn("fragile", move || {
                let (burnt, started) = (Arc::clone(&burnt), started.clone());
                async move {
                    started.send(()).unwrap();
                    let fuel: Option<()> = burnt.lock().await.recv().await;
                    assert!(fuel.is_none(), "out of fuel");
                }
            });
            Self { tasks, task, starts, fuel }
        }

        async fn panic(&mut self) {
            self.fuel.send(()).unwrap();
            while !self.task.is_down() {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_down_until_it_is_started_again() {
        let mut fragile = Fragile::start();
        fragile.starts.recv().await.unwrap();
        assert!(fragile.tasks.down().is_empty());
        fragile.panic().await;
        assert_eq!(fragile.tasks.down(), ["fragile"]);
        fragile.starts.recv().await.unwrap();
        assert!(fragile.tasks.down().is_empty());
        drop(fragile.fuel);
        fragile.task.ended().await;
        assert!(fragile.tasks.down().is_empty(), "it is done");
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_grows_with_each_panic_and_shrinks_after_a_calm_time() {
        let mut fragile = Fragile::start();
        fragile.starts.recv().await.unwrap();
        let mut delays = Vec::new();
        for _ in 0..12 {
            fragile.panic().await;
            let down_at = tokio::time::Instant::now();
            fragile.starts.recv().await.unwrap();
            delays.push(down_at.elapsed());
        }
        assert!(delays[0] <= Duration::from_secs(2), "{delays:?}");
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(31)), "{delays:?}");
        assert!(delays[11] >= Duration::from_secs(15), "{delays:?}");
        tokio::time::sleep(Duration::from_mins(2)).await;
        fragile.panic().await;
        let down_at = tokio::time::Instant::now();
        fragile.starts.recv().await.unwrap();
        assert!(down_at.elapsed() <= Duration::from_secs(2), "{:?}", down_at.elapsed());
    }

    #[tokio::test]
    async fn a_dropped_task_gives_back_what_it_holds() {
        let tasks = Tasks::default();
        let (held, mut given_back) = mpsc::channel::<()>(1);
        let task = tasks.spawn("holder", move || {
            let held = held.clone();
            async move {
                held.closed().await;
            }
        });
        drop(task);
        assert_eq!(given_back.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_panics_does_not_end_the_supervisor() {
        struct Panics;
        impl std::io::Write for Panics {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                panic!("the log")
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let subscriber = tracing_subscriber::fmt().with_writer(|| Panics).finish();
        let _scope = tracing::subscriber::set_default(subscriber);
        let mut fragile = Fragile::start();
        fragile.starts.recv().await.unwrap();
        fragile.panic().await;
        fragile.starts.recv().await.unwrap();
    }

    #[test]
    fn a_thread_that_panics_is_started_again_with_its_state() {
        let tasks = Tasks::default();
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        let thread = tasks.spawn_thread("fragile-thread", move || {
            assert!(counted.fetch_add(1, Ordering::Relaxed) > 0, "the first run");
        });
        thread.unwrap().join();
        assert_eq!(runs.load(Ordering::Relaxed), 2);
        assert!(tasks.down().is_empty());
    }
}
