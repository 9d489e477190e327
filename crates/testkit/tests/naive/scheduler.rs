//! Tasks that take turns by lot: each seed is one interleaving, the same every time.
//!
//! Not here: threads, sockets, timers. A task that has to wait takes a step and looks again.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use rand::{RngExt as _, rngs::StdRng};

/// Steps after which tasks that are not done never will be.
const STEPS_MAX: usize = 2_000_000;

/// Lets another task have its turn, perhaps.
pub(crate) async fn step() {
    let mut has_waited = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut has_waited, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Runs all tasks to their ends, one step of one of them at a time.
pub(crate) fn run<'a>(mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + 'a>>>, random: &mut StdRng) {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..STEPS_MAX {
        if tasks.is_empty() {
            return;
        }
        let lot = random.random_range(0..tasks.len());
        if tasks[lot].as_mut().poll(&mut context).is_ready() {
            drop(tasks.swap_remove(lot));
        }
    }
    panic!("{} tasks never end", tasks.len());
}
