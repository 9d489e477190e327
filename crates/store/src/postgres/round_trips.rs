//! The two round trips of a transaction that pushes: lock and read, then write and commit. A push of
//! its own and a batch of pushes take the same ones.
//!
//! The lock is a statement of its own. A statement that both locks and reads sees the rows as they were
//! before it had the lock.

use std::time::Duration;

use futures_util::{
    TryFutureExt as _,
    future::{join_all, try_join_all},
};
use tokio::time::Instant;
use tokio_postgres::{
    Error, Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    connection::{Connection, Sql},
    db_error::DbError,
    deadlines::{begin as begin_statements, with_deadline},
};

/// Writes a vault's row without changing it.
pub(super) const TOUCH: Sql =
    Sql { text: "update vaults set clock = clock where vault_id = $1", types: &[Type::UUID] };

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
        let first = begin_statements(deadline, lock_timeout, connection.is_citus());
        let (begin, locked, read) = tokio::join!(
            biased;
            connection.send_each(&first),
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
    writes: &[Write<'_>],
) -> Result<(), DbError> {
    let writes: Vec<_> = writes.iter().filter(|write| write.rows > 0).collect();
    let prepare = try_join_all(writes.iter().map(|write| connection.prepare(write.call.sql)))
        .map_err(|error| DbError::of(&error));
    let ready = with_deadline(deadline, DbError::ConnectionLost, prepare).await?;
    let execute = writes.iter().zip(&ready).map(|(write, statement)| {
        connection
            .execute(statement, write.call.values)
            .map_err(|error| DbError::before_commit(&error))
    });
    let warnings = connection.warnings();
    let round_trip = async {
        // Polled in this order, so also sent in it.
        let (written, committed) =
            tokio::join!(biased; join_all(execute), connection.send("commit"));
        let written = written.into_iter().collect::<Result<Vec<_>, _>>()?;
        committed.map_err(|error| DbError::of_commit(&error))?;
        Ok(written)
    };
    let written = with_deadline(deadline, DbError::InDoubt, round_trip).await?;
    if connection.warnings() != warnings {
        return Err(DbError::of_warning());
    }
    if !written.into_iter().eq(writes.iter().map(|write| write.rows)) {
        // It is committed all the same: the next attempt reads what is there now.
        let message = "the database wrote another number of rows than expected";
        return Err(DbError::InDoubt(message.to_owned()));
    }
    Ok(())
}

/// Ends a transaction that wrote nothing.
pub(super) async fn roll_back(connection: &Connection, deadline: Instant) -> Result<(), DbError> {
    let sent = connection.send("rollback").map_err(|error| DbError::of(&error));
    with_deadline(deadline, DbError::ConnectionLost, sent).await
}

/// As [`roll_back`]. Returns whether commits of this database wait for replicas.
pub(super) async fn roll_back_and_ask(
    connection: &Connection,
    deadline: Instant,
) -> Result<bool, DbError> {
    let sent = connection
        .send_for_value("rollback; show synchronous_standby_names")
        .map_err(|error| DbError::of(&error));
    let names = with_deadline(deadline, DbError::ConnectionLost, sent).await?;
    // On Citus, the node that has the vault may wait for replicas even if this one does not.
    Ok(connection.is_citus() || names.is_some_and(|names| !names.is_empty()))
}

/// Waits until the replicas have all that was committed before: with a commit of its own, whose wait
/// includes them. It changes nothing in the vault's row.
pub(super) async fn confirm(
    connection: &Connection,
    vault: Uuid,
    deadline: Instant,
) -> Result<(), DbError> {
    let prepare = connection.prepare(&TOUCH).map_err(|error| DbError::of(&error));
    let ready = with_deadline(deadline, DbError::ConnectionLost, prepare).await?;
    let warnings = connection.warnings();
    let touched = async {
        let touched = connection.execute(&ready, &[&vault]).await;
        touched.map_err(|error| DbError::of(&error))
    };
    with_deadline(deadline, DbError::TimedOut, touched).await?;
    if connection.warnings() == warnings {
        return Ok(());
    }
    Err(DbError::Transient("the wait for a replica was cancelled".to_owned()))
}
