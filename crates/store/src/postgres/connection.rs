//! A connection of a pool, and the statements that are sent on it.

use std::sync::Arc;

use futures_util::{TryFutureExt as _, future::try_join_all};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_postgres::{
    Error, Row, RowStream, SimpleQueryMessage, Statement,
    types::{ToSql, Type},
};

use super::{
    db_error::DbError,
    deadlines::with_deadline,
    manager::PooledClient,
    pool::{Endpoint, Object},
};

/// A statement and the types of its parameters.
#[derive(Debug)]
pub(super) struct Sql {
    pub(super) text: &'static str,
    pub(super) types: &'static [Type],
}

/// A statement that takes one round trip to run.
pub(super) enum StatementRef {
    Prepared(Statement),
    /// Parsed at each call, for a pooler that does not keep prepared statements.
    Typed(&'static Sql),
}

/// A connection of a pool. Only [`Self::release`] and [`Self::settle`] return it to the pool. A dropped one
/// may be in the middle of a transaction, so it is closed.
#[derive(Debug)]
pub(super) struct Connection {
    object: Option<Object>,
    /// That of a connection to write.
    permit: Option<OwnedSemaphorePermit>,
    endpoint: Arc<Endpoint>,
    prepare: bool,
}

impl Connection {
    pub(super) fn new(
        object: Object,
        permit: Option<OwnedSemaphorePermit>,
        endpoint: Arc<Endpoint>,
        prepare: bool,
    ) -> Self {
        Self { object: Some(object), permit, endpoint, prepare }
    }

    /// Returns the connection to its pool.
    pub(super) fn release(mut self) {
        self.object.take();
    }

    /// Ends a read without a transaction: returns the connection to its pool if the server has responded,
    /// with an error or without.
    pub(super) fn settle<T>(self, read: Result<T, DbError>) -> Result<T, DbError> {
        if let Ok(_) | Err(DbError::Transient(_)) = &read {
            self.release();
        }
        read
    }

    /// The address that it is connected to.
    pub(super) fn endpoint(&self) -> Arc<Endpoint> {
        Arc::clone(&self.endpoint)
    }

    /// Whether the address is a node of Citus.
    pub(super) fn is_citus(&self) -> bool {
        self.endpoint.is_citus()
    }

    /// The number of warnings that the server has sent so far.
    pub(super) fn warnings(&self) -> u64 {
        self.client().warnings()
    }

    /// Prepares a statement: one round trip the first time on this connection, none after that.
    pub(super) async fn prepare(&self, sql: &'static Sql) -> Result<StatementRef, Error> {
        if !self.prepare {
            return Ok(StatementRef::Typed(sql));
        }
        self.client().prepare_once(sql.text, sql.types).await.map(StatementRef::Prepared)
    }

    /// Sends statements without parameters.
    ///
    /// Like every method here that sends, it has sent its request once the future has been polled. Futures
    /// that are polled in order share one round trip.
    pub(super) async fn send(&self, text: &str) -> Result<(), Error> {
        self.client().batch_execute(text).await
    }

    /// Sends each of several statements as a message of its own, in their order.
    pub(super) async fn send_each(&self, statements: &[String]) -> Result<(), Error> {
        try_join_all(statements.iter().map(|text| self.send(text))).await.map(drop)
    }

    /// Sends statements of which the last returns one value.
    pub(super) async fn send_for_value(&self, text: &str) -> Result<Option<String>, Error> {
        Ok(first_column(&self.client().simple_query(text).await?).pop())
    }

    /// Runs a statement and returns its rows.
    pub(super) async fn rows(
        &self,
        statement: &StatementRef,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        match statement {
            StatementRef::Prepared(statement) => self.client().query(statement, values).await,
            StatementRef::Typed(sql) => {
                self.client().query_typed(sql.text, &typed(sql, values)).await
            }
        }
    }

    /// Prepares a statement, runs it, and returns its rows, until `deadline`.
    pub(super) async fn read(
        &self,
        sql: &'static Sql,
        values: &[&(dyn ToSql + Sync)],
        deadline: Instant,
    ) -> Result<Vec<Row>, DbError> {
        let sent = async {
            let ready = self.prepare(sql).await?;
            self.rows(&ready, values).await
        };
        let sent = sent.map_err(|error| DbError::of(&error));
        with_deadline(deadline, DbError::ConnectionLost, sent).await
    }

    /// As [`Self::rows`], row by row, so that a page is not in memory twice.
    pub(super) async fn stream(
        &self,
        statement: &StatementRef,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<RowStream, Error> {
        match statement {
            StatementRef::Prepared(statement) => {
                self.client().query_raw(statement, values.iter().copied()).await
            }
            StatementRef::Typed(sql) => {
                self.client().query_typed_raw(sql.text, typed(sql, values)).await
            }
        }
    }

    /// Runs a statement and returns the number of rows that it wrote.
    pub(super) async fn execute(
        &self,
        statement: &StatementRef,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Error> {
        match statement {
            StatementRef::Prepared(statement) => self.client().execute(statement, values).await,
            StatementRef::Typed(sql) => {
                self.client().execute_typed(sql.text, &typed(sql, values)).await
            }
        }
    }

    fn client(&self) -> &PooledClient {
        self.object
            .as_ref()
            .expect("only `release` and `drop` take it, and both consume the connection")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        self.endpoint.close(object, self.permit.take());
    }
}

/// The first column of rows.
pub(super) fn first_column(messages: &[SimpleQueryMessage]) -> Vec<String> {
    let values = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    values.collect()
}

fn typed<'a>(sql: &Sql, values: &[&'a (dyn ToSql + Sync)]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    values.iter().copied().zip(sql.types.iter().cloned()).collect()
}
