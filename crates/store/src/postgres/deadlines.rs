//! Deadlines of a use case: for the queue, for the round trips, and for the transaction.

use std::{future::Future, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout_at};

use super::db_error::DbError;

/// The least throughput expected of a connection, in bytes per millisecond: 4 MiB/s. The deadline of a
/// push is extended by the time that its bytes take at this rate, or a large one could never succeed.
const BYTES_PER_MILLISECOND: usize = 4 * 1024 * 1024 / 1000;

/// How long a use case may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// End of the wait for a lock or a connection, usually after a quarter of the timeout: a rejected
    /// request fails early, and an accepted one still completes within a second.
    pub(super) wait_until: Instant,
    /// When the database counts as not responding.
    pub(super) deadline: Instant,
}

impl Deadlines {
    /// The deadlines of a use case that starts now and sends that many bytes.
    pub(super) fn new(timeout: Duration, bytes: usize) -> Self {
        let start = Instant::now();
        let sending = Duration::from_millis((bytes / BYTES_PER_MILLISECOND) as u64);
        Self { wait_until: start + timeout / 4, deadline: start + timeout + sending }
    }

    /// As [`Self::new`], with a wait of three quarters of the timeout. For a use case that finds few others
    /// before it: a database that stalls for a moment is no overload, and a short queue is served late
    /// rather than refused.
    pub(super) fn patient(timeout: Duration, bytes: usize) -> Self {
        let deadlines = Self::new(timeout, bytes);
        Self { wait_until: deadlines.wait_until + timeout / 2, ..deadlines }
    }
}

/// Waits for a round trip until `deadline`. After that the error is `late`, with a message.
///
/// Not `async`: an `async fn` would reserve memory for the round trip twice.
pub(super) fn with_deadline<T>(
    deadline: Instant,
    late: fn(String) -> DbError,
    round_trip: impl Future<Output = Result<T, DbError>>,
) -> impl Future<Output = Result<T, DbError>> {
    timeout_at(deadline, round_trip).map(move |ended| {
        ended.unwrap_or_else(|_| Err(late("the database did not respond in time".to_owned())))
    })
}

/// The statements that begin a transaction.
///
/// PostgreSQL's timeouts end the transaction even if this process is gone: until then no other process can
/// push to its vaults. They expire before this process's deadline, so that a lock wait that takes too long
/// is reported as such and not as a database that does not respond; with `lock_timeout` even earlier. The
/// isolation level is explicit, because a read under the lock must see what was committed before the lock
/// was taken, whatever the database's default is.
pub(super) fn begin(deadline: Instant, lock_timeout: Duration) -> String {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(10);
    format!(
        "begin isolation level read committed; set local lock_timeout = {}; \
         set local statement_timeout = {}; \
         set local idle_in_transaction_session_timeout = {}",
        lock_timeout.as_millis().clamp(1, left * 3 / 4),
        left * 9 / 10,
        left * 2
    )
}
