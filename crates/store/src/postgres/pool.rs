//! The connection pool of one address, and its circuit breaker.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{
    ClientWrapper, Hook, Manager, ManagerConfig, Object, Pool, PoolError, Runtime, Timeouts,
};
use futures_util::TryFutureExt as _;
use tokio::time::Instant;
use uuid::Uuid;

use super::{PostgresOptions, db_error::DbError, open};
use crate::{
    OpenError,
    postgres_client::{DatabaseUrl, driver_config, open_error},
};

/// How long making a connection may take. A reachable peer responds within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the circuit breaker stays open after a failure: an address that is down is then tried last.
/// Each new try may delay a request by [`CONNECT_TIMEOUT`].
const DOWN_FOR: Duration = Duration::from_secs(5);

/// One address of a database.
#[derive(Debug)]
pub(super) struct Endpoint {
    pool: Pool,
    /// Whether one of its connections reached a machine with Citus.
    is_citus: Arc<AtomicBool>,
    /// When the circuit breaker opened.
    down_since: Mutex<Option<Instant>>,
}

impl Endpoint {
    /// The pool of an address. It connects on demand.
    ///
    /// Each new connection is checked: it must reach `deployment`, and a writable database if `writable`.
    /// While this process runs, an address may come to mean another server.
    pub(super) fn new(
        url: &DatabaseUrl,
        options: &PostgresOptions,
        deployment: Uuid,
        writable: bool,
    ) -> Result<Self, OpenError> {
        let (config, tls) = driver_config(url, CONNECT_TIMEOUT, options.timeout)
            .map_err(|error| open_error(url, error))?;
        let manager = Manager::from_config(config, tls, ManagerConfig::default());
        let (allow_unsafe, prepare) = (options.allow_unsafe, options.prepare);
        let is_citus = Arc::new(AtomicBool::new(false));
        let found_citus = Arc::clone(&is_citus);
        let check = Hook::async_fn(move |client: &mut ClientWrapper, _| {
            let found_citus = Arc::clone(&found_citus);
            Box::pin(async move {
                let is_citus = open::check(client, deployment, writable, allow_unsafe).await?;
                found_citus.fetch_or(is_citus, Ordering::Relaxed);
                if prepare { open::keep_plans(client, is_citus).await } else { Ok(()) }
            })
        });
        let pool = Pool::builder(manager)
            .max_size(options.connections_max)
            .create_timeout(Some(CONNECT_TIMEOUT))
            .post_create(check)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| open_error(url, error))?;
        Ok(Self { pool, is_citus, down_since: Mutex::new(None) })
    }

    /// An idle connection or a new one. Only the wait for a free place in the pool ends at `wait_until`: a
    /// new connection has a timeout of its own.
    pub(super) async fn get(&self, wait_until: Instant) -> Result<Object, PoolError> {
        let wait = wait_until.saturating_duration_since(Instant::now());
        let create = Some(CONNECT_TIMEOUT);
        self.pool.timeout_get(&Timeouts { wait: Some(wait), create, recycle: None }).await
    }

    /// Waits for work on one of the endpoint's connections. If the connection is lost, the circuit breaker
    /// opens.
    ///
    /// Not `async`: an `async fn` would reserve memory for the work twice.
    pub(super) fn watch<T>(
        &self,
        work: impl Future<Output = Result<T, DbError>>,
    ) -> impl Future<Output = Result<T, DbError>> {
        work.inspect_err(|failure| {
            if let DbError::ConnectionLost(_) | DbError::InDoubt(_) = failure {
                self.mark_down();
            }
        })
    }

    /// Opens the circuit breaker, and closes the idle connections: if one connection broke or fell silent,
    /// the others probably did too, and each would fail a request.
    pub(super) fn mark_down(&self) {
        self.set_down_since(Some(Instant::now()));
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

    pub(super) fn is_citus(&self) -> bool {
        self.is_citus.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self) {
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
