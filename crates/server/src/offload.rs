//! Work that takes a processor for long, on threads of its own.
//!
//! Encoding a page of 8 MiB, or parsing such a push, takes tens of milliseconds. On a thread of the runtime,
//! all requests that wait for that thread would be as late, also those of other users.

use std::{future::pending, panic::resume_unwind, sync::LazyLock, thread::available_parallelism};

use tokio::sync::Semaphore;

/// Size from which work moves to another thread, in bytes. Moving costs some 80 us, as much as encoding
/// 100 KiB.
const BYTES_MIN: usize = 256 * 1024;

/// One permit for each processor: more threads would only take time from the runtime's. What waits for a
/// permit holds reserved memory, which bounds how much waits.
static PERMITS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, Into::into)));

/// Runs work whose time is proportional to `bytes`. If it panics, so does this.
pub(crate) async fn run<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if bytes < BYTES_MIN {
        return work();
    }
    // The semaphore is never closed. The permit goes with the work, which ends even if this is dropped.
    let permit = PERMITS.acquire().await;
    let work = move || {
        let _permit = permit;
        work()
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is ending, and with it this future.
            Err(_) => pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn only_long_work_leaves_the_thread() {
        let here = thread::current().id();
        assert_eq!(run(BYTES_MIN - 1, || thread::current().id()).await, here);
        assert_ne!(run(BYTES_MIN, || thread::current().id()).await, here);
    }

    #[tokio::test]
    #[should_panic(expected = "the work panics")]
    async fn a_panic_is_passed_on() {
        run(BYTES_MIN, || panic!("the work panics")).await;
    }
}
