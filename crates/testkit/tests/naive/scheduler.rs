//! A scheduler that polls tasks in random order: each seed gives one interleaving, the same every time.
//!
//! Not here: threads, sockets, timers. A task that has to wait yields and checks again.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use rand::{RngExt as _, rngs::StdRng};

/// After this many steps, unfinished tasks never finish.
const STEPS_MAX: usize = 2_000_000;

/// Yields to the scheduler, which may poll another task.
pub(crate) async fn step() {
    let mut has_yielded = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut has_yielded, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Runs all tasks until they finish, one step of one task at a time.
pub(crate) fn run<'a>(mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + 'a>>>, random: &mut StdRng) {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..STEPS_MAX {
        if tasks.is_empty() {
            return;
        }
        let next = random.random_range(0..tasks.len());
        if tasks[next].as_mut().poll(&mut context).is_ready() {
            drop(tasks.swap_remove(next));
        }
    }
    panic!("{} tasks never finish", tasks.len());
}
