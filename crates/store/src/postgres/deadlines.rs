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

/// Settings of a session, which bound each statement that is not part of a push: a statement that this
/// process gave up, or that was left behind when the process ended, must not hold its place in the
/// database for ever.
///
/// A wait for a lock ends before this process's deadline, so that the connection remains of use and the
/// database does not count as silent. The statement as a whole gets the time that a large page may take.
///
/// Not used behind a pooler that keeps no prepared statements: it keeps no settings either.
pub(super) fn session(timeout: Duration, page_bytes_max: usize) -> String {
    let (millis, page) = (timeout.as_millis(), page_bytes_max / BYTES_PER_MILLISECOND);
    format!(
        "set lock_timeout = {}; set statement_timeout = {}; \
         set idle_in_transaction_session_timeout = {}",
        millis / 2,
        millis + page as u128,
        millis * 2
    )
}

/// As [`session`], what differs on Citus: there, a statement that waits for a silent worker must end before
/// this process's deadline, too, or the node that was asked would count as silent.
pub(super) fn session_of_citus(timeout: Duration) -> String {
    format!("set statement_timeout = {}", timeout.as_millis() * 3 / 4)
}

/// The statements that begin a transaction.
///
/// PostgreSQL's timeouts end the transaction even if this process is gone: until then no other process can
/// push to its vaults. They expire before this process's deadline, so that a lock wait that takes too long
/// is reported as such and not as a database that does not respond; with `lock_timeout` even earlier. The
/// isolation level is explicit, because a read under the lock must see what was committed before the lock
/// was taken, whatever the database's default is.
///
/// On Citus the timeouts also apply on the node that has the vault, or it would keep the vault locked if
/// this node fell silent. Citus passes on a setting only if it is a message of its own.
pub(super) fn begin(deadline: Instant, lock_timeout: Duration, is_citus: bool) -> Vec<String> {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(10);
    let lock_timeout = lock_timeout.as_millis().clamp(1, left * 3 / 4);
    let begin = "begin isolation level read committed".to_owned();
    let timeouts = [
        format!("set local lock_timeout = {lock_timeout}"),
        format!("set local statement_timeout = {}", left * 9 / 10),
        format!("set local idle_in_transaction_session_timeout = {}", left * 2),
    ];
    if is_citus {
        let pass_on = "set local citus.propagate_set_commands = 'local'".to_owned();
        return [begin, pass_on].into_iter().chain(timeouts).collect();
    }
    vec![format!("{begin}; {}", timeouts.join("; "))]
}
