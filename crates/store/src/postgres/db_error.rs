//! What a database error means for the use case in which it occurred.

use deadpool::managed::{HookError, PoolError, TimeoutType};
use tokio_postgres::{
    Error,
    error::{DbError as ServerError, Severity, SqlState},
};

use crate::{StoreError, postgres_client::describe};

/// Failure of an attempt. The message never contains values: an error's detail may quote a record.
#[derive(Debug)]
pub(super) enum DbError {
    /// Nothing was written, and another attempt may succeed.
    Transient(String),
    /// As `Transient`: all connections are in use, and the database is as good as before.
    Busy(String),
    /// As `Transient`, and the response is still outstanding: a replica does not respond, and the connection
    /// is as it should be.
    TimedOut(String),
    /// As `Transient`, and the connection is of no more use: a statement that was prepared on it is stale.
    Stale(String),
    /// As `Transient`, and the connection broke or fell silent: other connections to the address may have,
    /// too.
    ConnectionLost(String),
    /// The commit was sent, and its response was lost, or reported that no replica may have it.
    InDoubt(String),
    /// Nothing was written, and another attempt would fail in the same way.
    Permanent(String),
}

impl DbError {
    /// The failure of a statement whose transaction is not committed.
    pub(super) fn of(error: &Error) -> Self {
        let message = describe(error);
        let Some(response) = response_of(error) else {
            return Self::ConnectionLost(message);
        };
        if is_stale(response.code()) {
            Self::Stale(message)
        } else if is_transient(response.code()) {
            Self::Transient(message)
        } else {
            Self::Permanent(message)
        }
    }

    /// The failure of a statement that was sent together with the commit.
    pub(super) fn before_commit(error: &Error) -> Self {
        // If the server responded, the statement failed, and so did everything after it.
        if response_of(error).is_some() { Self::of(error) } else { Self::InDoubt(describe(error)) }
    }

    /// The failure of a commit. Even if the server responded with an error, the transaction may be
    /// committed: on Citus, the error may have occurred on the way back from the node that committed.
    pub(super) fn of_commit(error: &Error) -> Self {
        Self::InDoubt(describe(error))
    }

    /// A commit that the server reported with a warning, such as a cancelled wait for replicas: it is
    /// carried out here, and a replica that takes over may not have it.
    pub(super) fn of_warning() -> Self {
        Self::InDoubt("the database committed with a warning: see its log".to_owned())
    }

    /// No connection was free in time.
    pub(super) fn too_many_waiting() -> Self {
        Self::Busy("too many requests wait for a connection to the database".to_owned())
    }

    /// The failure to get a connection.
    pub(super) fn of_pool(error: &PoolError<Error>) -> Self {
        if let PoolError::Timeout(TimeoutType::Wait) = error {
            return Self::too_many_waiting();
        }
        Self::Transient(match error {
            PoolError::Timeout(_) => "no connection to the database was opened in time".to_owned(),
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                describe(error)
            }
            error => error.to_string(),
        })
    }
}

impl From<DbError> for StoreError {
    fn from(failure: DbError) -> Self {
        match failure {
            DbError::Transient(message)
            | DbError::TimedOut(message)
            | DbError::Stale(message)
            | DbError::ConnectionLost(message) => Self::Unavailable(message),
            DbError::Busy(message) => Self::Busy(message),
            DbError::InDoubt(message) => Self::OutcomeUnknown(message),
            DbError::Permanent(message) => Self::Internal(message),
        }
    }
}

/// The server's response to the statement, if there was one. A fatal error is not a response: the driver
/// reports it once, for whichever statement is next, and a pooler that lost its server sends one for all
/// statements in flight.
fn response_of(error: &Error) -> Option<&ServerError> {
    error.as_db_error().filter(|response| response.parsed_severity() == Some(Severity::Error))
}

/// Whether a prepared statement is stale: the tables were altered after it was prepared, or a pooler lost
/// it. A new connection prepares it anew. Citus also rejects statements with the first of these codes,
/// which says nothing about the node.
fn is_stale(code: &SqlState) -> bool {
    [SqlState::FEATURE_NOT_SUPPORTED, SqlState::INVALID_SQL_STATEMENT_NAME].contains(code)
}

/// Whether the same statements may succeed when they are sent again.
fn is_transient(code: &SqlState) -> bool {
    let class = &code.code()[..2];
    // Connection, serialization, resources, operator intervention, system, transaction state.
    matches!(class, "08" | "40" | "53" | "57" | "58" | "25")
        || [
            // Another transaction held the lock for too long.
            SqlState::LOCK_NOT_AVAILABLE,
            // Citus reports failures between its nodes with this code, an unreachable node included.
            SqlState::INTERNAL_ERROR,
            // Another program wrote without the vault's lock, and a constraint caught it.
            SqlState::CHECK_VIOLATION,
            SqlState::UNIQUE_VIOLATION,
        ]
        .contains(code)
}
