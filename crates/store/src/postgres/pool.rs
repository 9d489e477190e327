//! The connection pool of one address, and its circuit breaker.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{Hook, Pool, PoolError, Timeouts},
};
use futures_util::TryFutureExt as _;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout_at},
};

use super::{
    PostgresOptions,
    db_error::DbError,
    deadlines,
    manager::{Manager, PooledClient},
    open::{self, Checks},
};
use crate::{
    OpenError,
    postgres_client::{DatabaseUrl, driver_config, open_error},
};

/// How long making a connection may take. A reachable peer responds within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the circuit breaker stays open after a failure: an address that is down is then tried last.
/// Each new try may delay a request by [`CONNECT_TIMEOUT`].
const DOWN_FOR: Duration = Duration::from_secs(5);

/// How long a statement that was given up may take to end before it counts as abandoned. Most have ended,
/// with an error.
const ABANDONED_AFTER: Duration = Duration::from_millis(100);

/// A place in the pool, with its connection.
pub(super) type Object = deadpool::managed::Object<Manager>;

/// One address of a database.
pub(super) struct Endpoint {
    pool: Pool<Manager>,
    /// Whether it is a primary, and not a replica.
    is_writable: bool,
    /// Whether one of its connections reached a machine with Citus.
    is_citus: Arc<AtomicBool>,
    /// When the circuit breaker opened.
    down_since: Mutex<Option<Instant>>,
    /// A permit for each connection that writes, from before it has a place until its statements have ended,
    /// in the pool or not. So the commits that wait for a silent replica can all leave the pool.
    writes: Arc<Semaphore>,
    /// A permit for each connection that left the pool while its statement goes on.
    abandoned: Arc<Semaphore>,
}

impl Endpoint {
    /// The pool of an address. It connects on demand.
    ///
    /// Each new connection is checked: while this process runs, an address may come to mean another server.
    pub(super) fn new(
        url: &DatabaseUrl,
        options: &PostgresOptions,
        checks: Checks,
        page_bytes_max: usize,
    ) -> Result<Self, OpenError> {
        let (config, tls) = driver_config(url, CONNECT_TIMEOUT, options.timeout)
            .map_err(|error| open_error(url, error))?;
        let manager = Manager::new(config, tls);
        let (prepare, timeout) = (options.prepare, options.timeout);
        let session: Arc<str> = deadlines::session(timeout, page_bytes_max).into();
        let is_citus = Arc::new(AtomicBool::new(false));
        let found_citus = Arc::clone(&is_citus);
        let check = Hook::async_fn(move |client: &mut PooledClient, _| {
            let (found_citus, session) = (Arc::clone(&found_citus), Arc::clone(&session));
            Box::pin(async move {
                if prepare {
                    open::set(client, &session).await?;
                }
                let is_citus = open::check(client, checks).await?;
                found_citus.fetch_or(is_citus, Ordering::Relaxed);
                if !prepare {
                    return Ok(());
                }
                if is_citus {
                    open::set(client, &deadlines::session_of_citus(timeout)).await?;
                }
                open::keep_plans(client, is_citus).await
            })
        });
        let pool = Pool::builder(manager)
            .max_size(options.connections_max)
            .create_timeout(Some(CONNECT_TIMEOUT))
            .post_create(check)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| open_error(url, error))?;
        Ok(Self {
            pool,
            is_writable: checks.is_writable,
            is_citus,
            down_since: Mutex::new(None),
            writes: Arc::new(Semaphore::new(options.connections_max)),
            abandoned: Arc::new(Semaphore::new(options.connections_max)),
        })
    }

    /// An idle connection or a new one. Only the wait for a free place in the pool ends at `wait_until`: a
    /// new connection has a timeout of its own.
    pub(super) async fn get(
        &self,
        wait_until: Instant,
    ) -> Result<Object, PoolError<tokio_postgres::Error>> {
        let wait = wait_until.saturating_duration_since(Instant::now());
        let create = Some(CONNECT_TIMEOUT);
        self.pool.timeout_get(&Timeouts { wait: Some(wait), create, recycle: None }).await
    }

    /// A permit to write, which comes before the connection and goes after it.
    pub(super) async fn write_permit(
        &self,
        wait_until: Instant,
    ) -> Result<OwnedSemaphorePermit, DbError> {
        if self.has_many_abandoned() {
            let message = "earlier statements do not end: see whether the database waits for a lock or \
                           for a replica";
            return Err(DbError::Transient(message.to_owned()));
        }
        let permit = timeout_at(wait_until, Arc::clone(&self.writes).acquire_owned()).await;
        permit.ok().and_then(Result::ok).ok_or_else(DbError::too_many_waiting)
    }

    /// Closes a connection once the statement that it may be running has ended. To close it at once would
    /// not end the statement: a server that waits for a lock or a replica does not notice, and goes on
    /// occupying a session. No cancel request is sent: a cancelled commit no longer waits for replicas, and
    /// some versions of `PgBouncer` crash.
    ///
    /// After [`ABANDONED_AFTER`] it leaves the pool, so that other requests find a place; but if as many have
    /// left as the pool has places, it keeps its place until one of them has ended. So this process never
    /// occupies more than twice as many sessions.
    pub(super) fn close(self: &Arc<Self>, object: Object, permit: Option<OwnedSemaphorePermit>) {
        // Without a runtime the process is about to end.
        let (false, Ok(runtime)) = (object.is_closed(), Handle::try_current()) else {
            return drop(Object::take(object));
        };
        let abandoned = Arc::clone(&self.abandoned);
        runtime.spawn(async move {
            let _write = permit;
            // The response to an empty statement comes after that to the statement before.
            let ended = async { drop(object.batch_execute("").await) };
            let leaves = async {
                sleep(ABANDONED_AFTER).await;
                abandoned.acquire_owned().await.ok()
            };
            let left = tokio::select! { biased; () = ended => None, permit = leaves => permit };
            let client = Object::take(object);
            if left.is_some() {
                drop(client.batch_execute("").await);
            }
        });
    }

    /// Whether so many statements have not ended in time that a write would only add to them.
    fn has_many_abandoned(&self) -> bool {
        self.abandoned.available_permits() == 0
    }

    /// Waits for work on one of the endpoint's connections. If the connection is lost, the circuit breaker
    /// opens. If one statement was stale, those of other idle connections are, too.
    ///
    /// Not `async`: an `async fn` would reserve memory for the work twice.
    pub(super) fn watch<T>(
        &self,
        work: impl Future<Output = Result<T, DbError>>,
    ) -> impl Future<Output = Result<T, DbError>> {
        work.inspect_err(|failure| match failure {
            DbError::ConnectionLost(_) | DbError::InDoubt(_) => self.mark_down(),
            DbError::Stale(_) => self.close_idle(),
            DbError::Transient(_)
            | DbError::Busy(_)
            | DbError::TimedOut(_)
            | DbError::Permanent(_) => {}
        })
    }

    /// Opens the circuit breaker, and closes the idle connections: if one connection broke or fell silent,
    /// the others probably did too, and each would fail a request.
    pub(super) fn mark_down(&self) {
        self.set_down_since(Some(Instant::now()));
        self.close_idle();
    }

    fn close_idle(&self) {
        drop(self.pool.retain(|_, _| false));
    }

    /// Closes the circuit breaker.
    pub(super) fn mark_up(&self) {
        self.set_down_since(None);
    }

    /// Whether the circuit breaker is open.
    pub(super) fn is_down(&self) -> bool {
        let since = self.down_since.lock().ok().and_then(|since| *since);
        since.is_some_and(|since| since.elapsed() < DOWN_FOR)
    }

    pub(super) const fn is_writable(&self) -> bool {
        self.is_writable
    }

    pub(super) fn is_citus(&self) -> bool {
        self.is_citus.load(Ordering::Relaxed)
    }

    pub(super) fn close_pool(&self) {
        self.pool.close();
    }

    /// The number of open connections, and how many of them are idle.
    pub(super) fn count(&self) -> (usize, usize) {
        let status = self.pool.status();
        (status.size, status.available)
    }

    fn set_down_since(&self, instant: Option<Instant>) {
        if let Ok(mut since) = self.down_since.lock() {
            *since = instant;
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("pool", &self.pool).finish_non_exhaustive()
    }
}
