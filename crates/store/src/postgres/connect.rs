//! Connections: to which address, checked once, and how statements are sent on them.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, Runtime, TimeoutType,
    Timeouts,
};
use futures_util::{FutureExt as _, TryFutureExt as _};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::{
    Client, Error, Row, RowStream, Statement,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{DatabaseUrl, PostgresOptions, db_error::DbError, open, tls};
use crate::{OpenError, VaultId};

/// How long making a connection may take. A peer that is there answers within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an address that could not be reached is asked last: each time it is asked again may cost
/// somebody [`CONNECT_TIMEOUT`].
const DOWN_FOR: Duration = Duration::from_secs(5);

/// A statement and the types of its parameters.
#[derive(Debug)]
pub(super) struct Sql {
    pub(super) text: &'static str,
    pub(super) types: &'static [Type],
}

/// The connections to one address.
#[derive(Debug)]
pub(super) struct Endpoint {
    pool: Pool,
    /// Whether a connection was found to lead to a machine with Citus.
    is_citus: Arc<AtomicBool>,
    unreachable_since: Mutex<Option<Instant>>,
}

/// How long a use case may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// Until when it waits for others to be done: a quarter of the time. Whoever must be turned away is
    /// told so early, and whoever is not has an answer within a second all the same.
    pub(super) wait_until: Instant,
    /// When it is told that the database does not answer.
    pub(super) deadline: Instant,
}

/// What a line to a database carries at least, in bytes a millisecond: 4 MiB a second. A push that is
/// large for the line gets that much longer, or it could never be done.
const BYTES_A_MILLISECOND: usize = 4 * 1024 * 1024 / 1000;

impl Deadlines {
    /// The deadlines of a use case that begins now and sends that many bytes.
    pub(super) fn new(timeout: Duration, bytes: usize) -> Self {
        let begun = Instant::now();
        let sending = Duration::from_millis((bytes / BYTES_A_MILLISECOND) as u64);
        Self { wait_until: begun + timeout / 4, deadline: begun + timeout + sending }
    }
}

/// Addresses of one database, any of which will do.
#[derive(Debug)]
pub(super) struct Endpoints {
    nodes: Vec<Arc<Endpoint>>,
    prepare: bool,
}

impl Endpoints {
    /// Pools for these addresses; connections are made when they are needed.
    ///
    /// A connection is used only where it leads to `deployment`, and to one that may be written to
    /// if `writable`: an address may come to mean another server while this one runs.
    pub(super) fn new(
        urls: &[DatabaseUrl],
        options: &PostgresOptions,
        deployment: Uuid,
        writable: bool,
    ) -> Result<Self, OpenError> {
        let nodes =
            urls.iter().map(|url| Endpoint::new(url, options, deployment, writable).map(Arc::new));
        Ok(Self { nodes: nodes.collect::<Result<_, _>>()?, prepare: options.prepare })
    }

    /// Tries each address once. One that cannot be reached now may be later; one that leads to what may
    /// not be served from is refused.
    pub(super) async fn check_all(&self, urls: &[DatabaseUrl]) -> Result<(), OpenError> {
        for (node, url) in self.nodes.iter().zip(urls) {
            let until = Instant::now() + super::OPEN_TIMEOUT;
            let got = timeout_at(until, node.get(until)).await;
            match got.unwrap_or(Err(PoolError::Timeout(TimeoutType::Create))) {
                Ok(_) => {}
                Err(PoolError::PostCreateHook(HookError::Message(told))) => {
                    return Err(open::refused(url, told));
                }
                Err(error) => {
                    let failure = DbError::of_pool(&error);
                    tracing::warn!(database = %url, ?failure, "a database cannot be reached");
                }
            }
        }
        Ok(())
    }

    /// A connection for a vault. The same vault goes to the same address, which then has its rows
    /// and plans at hand, unless that one could not be reached lately or `attempt` is another one.
    pub(super) async fn connect(
        &self,
        vault: VaultId,
        attempt: usize,
        deadlines: Deadlines,
    ) -> Result<Connection, DbError> {
        let bytes = vault.as_bytes();
        let first = usize::from(u16::from_be_bytes([bytes[0], bytes[1]])) + attempt;
        let count = self.nodes.len();
        let mut order: Vec<_> =
            (0..count).map(|step| &self.nodes[(first + step) % count]).collect();
        order.sort_by_cached_key(|node| node.is_down());
        let mut failure = DbError::Transient("no database is set".to_owned());
        for node in order {
            let got = timeout_at(deadlines.deadline, node.get(deadlines.wait_until)).await;
            match got.unwrap_or(Err(PoolError::Timeout(TimeoutType::Create))) {
                Ok(object) => {
                    node.mark(None);
                    let (node, prepare) = (Arc::clone(node), self.prepare);
                    return Ok(Connection { object: Some(object), node, prepare });
                }
                // It is there, and has enough to do.
                Err(error @ PoolError::Timeout(TimeoutType::Wait)) => {
                    return Err(DbError::of_pool(&error));
                }
                Err(error) => {
                    failure = DbError::of_pool(&error);
                    node.distrust();
                }
            }
        }
        Err(failure)
    }

    /// Whether any of them leads to a machine with Citus.
    pub(super) fn are_citus(&self) -> bool {
        self.nodes.iter().any(|node| node.is_citus.load(Ordering::Relaxed))
    }

    /// Whether none of these addresses is to be asked: each could not be reached lately, or there is none.
    pub(super) fn are_down(&self) -> bool {
        self.nodes.iter().all(|node| node.is_down())
    }

    pub(super) fn close(&self) {
        self.nodes.iter().for_each(|node| node.pool.close());
    }

    /// How many connections are open, and how many of them are idle.
    pub(super) fn count(&self) -> (usize, usize) {
        let statuses = self.nodes.iter().map(|node| node.pool.status());
        statuses.fold((0, 0), |(open, idle), status| (open + status.size, idle + status.available))
    }
}

impl Endpoint {
    fn new(
        url: &DatabaseUrl,
        options: &PostgresOptions,
        deployment: Uuid,
        writable: bool,
    ) -> Result<Self, OpenError> {
        let mut config = url.config.clone();
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(options.timeout);
        let tls = tls::connector(&url.tls).map_err(|error| open::refused(url, error))?;
        let manager = Manager::from_config(config, tls, ManagerConfig::default());
        let (allow_unsafe, prepare) = (options.allow_unsafe, options.prepare);
        let is_citus = Arc::new(AtomicBool::new(false));
        let found_citus = Arc::clone(&is_citus);
        let check = Hook::async_fn(move |client: &mut deadpool_postgres::ClientWrapper, _| {
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
            .map_err(|error| open::refused(url, error))?;
        Ok(Self { pool, is_citus, unreachable_since: Mutex::new(None) })
    }

    /// A connection that is open already, or a new one. Only waiting for others ends with `wait_until`: a
    /// new connection has a bound of its own.
    async fn get(&self, wait_until: Instant) -> Result<Object, PoolError> {
        let wait = wait_until.saturating_duration_since(Instant::now());
        let create = Some(CONNECT_TIMEOUT);
        self.pool.timeout_get(&Timeouts { wait: Some(wait), create, recycle: None }).await
    }

    /// Waits for what is done on a connection to here, and learns from how it ends.
    pub(super) fn watch<T>(
        &self,
        done: impl Future<Output = Result<T, DbError>>,
    ) -> impl Future<Output = Result<T, DbError>> {
        done.inspect_err(|failure| {
            if let DbError::ConnectionLost(_) | DbError::InDoubt(_) = failure {
                self.distrust();
            }
        })
    }

    /// Asks others first for a while, and closes the connections nobody uses: where one of them broke
    /// or fell silent, the others are likely no better, and each would cost somebody a failure.
    fn distrust(&self) {
        self.mark(Some(Instant::now()));
        drop(self.pool.retain(|_, _| false));
    }

    fn mark(&self, unreachable_since: Option<Instant>) {
        if let Ok(mut since) = self.unreachable_since.lock() {
            *since = unreachable_since;
        }
    }

    fn is_down(&self) -> bool {
        let since = self.unreachable_since.lock().ok().and_then(|since| *since);
        since.is_some_and(|since| since.elapsed() < DOWN_FOR)
    }
}

/// A connection of a pool. It goes back there only by [`Self::release`]: one that is dropped may be
/// anywhere in a transaction, and is closed.
#[derive(Debug)]
pub(super) struct Connection {
    object: Option<Object>,
    node: Arc<Endpoint>,
    prepare: bool,
}

/// A statement as it can be sent in one flight.
pub(super) enum StatementRef {
    Prepared(Statement),
    /// Parsed anew each time, for a pooler that keeps no prepared statements.
    Typed(&'static Sql),
}

impl Connection {
    /// Gives the connection back for others to use.
    pub(super) fn release(mut self) {
        self.object.take();
    }

    /// Where it leads to.
    pub(super) fn node(&self) -> Arc<Endpoint> {
        Arc::clone(&self.node)
    }

    /// Makes a statement ready: a flight the first time on this connection, none after it.
    pub(super) async fn ready(&self, sql: &'static Sql) -> Result<StatementRef, Error> {
        if !self.prepare {
            return Ok(StatementRef::Typed(sql));
        }
        let object = self.object();
        object.prepare_typed_cached(sql.text, sql.types).await.map(StatementRef::Prepared)
    }

    /// Sends statements without parameters. Like all that is sent here, it is on its way when the
    /// future has been polled once, so that futures polled in order travel in one flight.
    pub(super) async fn send(&self, text: &str) -> Result<(), Error> {
        self.client().batch_execute(text).await
    }

    pub(super) async fn rows(
        &self,
        ready: &StatementRef,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        match ready {
            StatementRef::Prepared(statement) => self.client().query(statement, values).await,
            StatementRef::Typed(sql) => {
                self.client().query_typed(sql.text, &typed(sql, values)).await
            }
        }
    }

    /// The same, row by row, so that a page is not in memory twice.
    pub(super) async fn stream(
        &self,
        ready: &StatementRef,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<RowStream, Error> {
        match ready {
            StatementRef::Prepared(statement) => {
                self.client().query_raw(statement, values.iter().copied()).await
            }
            StatementRef::Typed(sql) => {
                self.client().query_typed_raw(sql.text, typed(sql, values)).await
            }
        }
    }

    /// Runs a statement; how many rows it wrote.
    pub(super) async fn execute(
        &self,
        ready: &StatementRef,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Error> {
        match ready {
            StatementRef::Prepared(statement) => self.client().execute(statement, values).await,
            StatementRef::Typed(sql) => {
                self.client().execute_typed(sql.text, &typed(sql, values)).await
            }
        }
    }

    fn client(&self) -> &Client {
        self.object()
    }

    fn object(&self) -> &Object {
        self.object.as_ref().expect("it is taken only by `release` and `drop`, which end it")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

fn typed<'a>(sql: &Sql, values: &[&'a (dyn ToSql + Sync)]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    values.iter().copied().zip(sql.types.iter().cloned()).collect()
}

/// Waits for a flight until `deadline`; past it `late` says what is known.
///
/// Not `async`, which would make place for the flight twice; neither is [`Endpoint::watch`].
pub(super) fn with_deadline<T>(
    deadline: Instant,
    late: fn(String) -> DbError,
    round_trip: impl Future<Output = Result<T, DbError>>,
) -> impl Future<Output = Result<T, DbError>> {
    timeout_at(deadline, round_trip).map(move |ended| {
        ended.unwrap_or_else(|_| Err(late("the database did not answer in time".to_owned())))
    })
}

/// Begins, with deadlines that end the transaction also where this process is gone: nobody else can push to
/// its vaults before. They end sooner than this process's wait_until, so that a lock that takes too long is
/// told as that, and not as a database that has fallen silent; sooner still with a `lock_timeout`. What is
/// read under a lock must be newer than it, whatever isolation the database has by default.
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
