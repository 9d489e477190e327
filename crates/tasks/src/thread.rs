//! Threads that are started again after a panic.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
};

use crate::{panic_message, state::State};

/// A running thread. It goes on when this is dropped.
#[derive(Debug)]
pub struct TaskThread {
    state: Arc<State>,
    thread: JoinHandle<()>,
}

impl TaskThread {
    pub(crate) fn start(
        state: Arc<State>,
        name: &'static str,
        run: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        let supervised = Arc::clone(&state);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Dropped after `run` and what it captured.
            let _running = supervised.run();
            let mut run = run;
            loop {
                let attempt = supervised.attempt();
                match catch_unwind(AssertUnwindSafe(&mut run)) {
                    Ok(()) => return,
                    Err(panic) => thread::sleep(attempt.panicked(panic_message(&*panic))),
                }
            }
        })?;
        Ok(Self { state, thread })
    }

    /// Whether it panicked and is not started again yet.
    pub fn is_down(&self) -> bool {
        self.state.is_down()
    }

    /// Waits until it has ended, and everything that it held is dropped.
    pub async fn ended(&self) {
        self.state.ended().await;
    }

    /// Blocks until it has ended.
    pub fn join(self) {
        // It catches every panic of what it runs.
        let _ = self.thread.join();
    }
}
