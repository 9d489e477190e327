//! The two round trips of a transaction that pushes: lock and read, then write and commit. A push of
//! its own and a batch of pushes take the same ones.
//!
//! The lock is a statement of its own. A statement that both locks and reads sees the rows as they were
//! before it had the lock.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::{Error, Row, types::ToSql};

use super::{
    connection::{Connection, Sql},
    db_error::DbError,
    deadlines::{begin as begin_statements, with_deadline},
};

/// A statement with its parameters.
pub(super) struct Call<'a> {
    pub(super) sql: &'static Sql,
    pub(super) values: &'a [&'a (dyn ToSql + Sync)],
}

/// A statement that writes, and how many rows it must write.
pub(super) struct Write<'a> {
    pub(super) call: Call<'a>,
    pub(super) rows: u64,
}

/// The first round trip: begins a transaction, locks, reads. The rows of both statements.
pub(super) async fn lock_and_read(
    connection: &Connection,
    deadline: Instant,
    lock_timeout: Duration,
    lock: Call<'_>,
    read: Call<'_>,
) -> Result<(Vec<Row>, Vec<Row>), DbError> {
    let of = |error: Error| DbError::of(&error);
    let round_trip = async {
        let ready =
            tokio::try_join!(biased; connection.prepare(lock.sql), connection.prepare(read.sql));
        let (lock_ref, read_ref) = ready.map_err(of)?;
        let first = begin_statements(deadline, lock_timeout);
        let (begin, locked, read) = tokio::join!(
            biased;
            connection.send(&first),
            connection.rows(&lock_ref, lock.values),
            connection.rows(&read_ref, read.values),
        );
        begin.map_err(of)?;
        Ok((locked.map_err(of)?, read.map_err(of)?))
    };
    with_deadline(deadline, DbError::ConnectionLost, round_trip).await
}

/// The second round trip: writes, and commits. A statement that is to write no row is not sent.
pub(super) async fn write_and_commit(
    connection: &Connection,
    deadline: Instant,
    writes: [Write<'_>; 2],
) -> Result<(), DbError> {
    let [first, second] = &writes;
    let prepare = async {
        let (first, second) =
            (connection.prepare(first.call.sql), connection.prepare(second.call.sql));
        tokio::try_join!(biased; first, second).map_err(|error| DbError::of(&error))
    };
    let (first_ref, second_ref) = with_deadline(deadline, DbError::ConnectionLost, prepare).await?;
    let execute = async |statement, write: &Write<'_>| match write.rows {
        0 => Ok(0),
        _ => connection.execute(statement, write.call.values).await,
    };
    let round_trip = async {
        let (first, second, committed) = tokio::join!(
            biased;
            execute(&first_ref, first),
            execute(&second_ref, second),
            connection.send("commit"),
        );
        let first = first.map_err(|error| DbError::before_commit(&error))?;
        let second = second.map_err(|error| DbError::before_commit(&error))?;
        committed.map_err(|error| DbError::of_commit(&error))?;
        Ok((first, second))
    };
    let written = with_deadline(deadline, DbError::InDoubt, round_trip).await?;
    if written != (first.rows, second.rows) {
        // It is committed all the same: the next attempt reads what is there now.
        let message = "the database wrote another number of rows than expected";
        return Err(DbError::InDoubt(message.to_owned()));
    }
    Ok(())
}

/// Ends a transaction that wrote nothing.
pub(super) async fn roll_back(connection: &Connection, deadline: Instant) -> Result<(), DbError> {
    let round_trip = async {
        let sent = connection.send("rollback").await;
        sent.map_err(|error| DbError::of(&error))
    };
    with_deadline(deadline, DbError::ConnectionLost, round_trip).await
}
