//! What an error of the database means for the use case it happened in.

use deadpool_postgres::{HookError, PoolError};
use tokio_postgres::{
    Error,
    error::{DbError as ServerError, Severity, SqlState},
};

use crate::StoreError;

/// Why an attempt came to nothing. It says what is known, never values: an error's detail may quote
/// a record.
#[derive(Debug)]
pub(super) enum DbError {
    /// Nothing was written, and another attempt may fare better.
    Transient(String),
    /// The same, and the connection broke or fell silent: others to that address may have as well.
    ConnectionLost(String),
    /// The commit was sent and its answer lost.
    InDoubt(String),
    /// Nothing was written, and another attempt would fare no better.
    Permanent(String),
}

impl DbError {
    /// The failure of a statement whose transaction is not committed.
    pub(super) fn of(error: &Error) -> Self {
        let told = told(error);
        let Some(answer) = answer_of(error) else {
            return Self::ConnectionLost(told);
        };
        if is_stale(answer.code()) {
            Self::ConnectionLost(told)
        } else if is_transient(answer.code()) {
            Self::Transient(told)
        } else {
            Self::Permanent(told)
        }
    }

    /// The failure of a statement that was sent together with the commit.
    pub(super) fn before_commit(error: &Error) -> Self {
        // Where the server has answered, the statement failed, and with it all that came after.
        if answer_of(error).is_some() { Self::of(error) } else { Self::InDoubt(told(error)) }
    }

    /// The failure of a commit. Even where the server has an error to tell, it may be committed: on
    /// Citus the error may be of the way back from the node that did it.
    pub(super) fn of_commit(error: &Error) -> Self {
        Self::InDoubt(told(error))
    }

    /// The failure to get a connection.
    pub(super) fn of_pool(error: &PoolError) -> Self {
        Self::Transient(match error {
            PoolError::Timeout(_) => "no connection to the database was free in time".to_owned(),
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                told(error)
            }
            error => error.to_string(),
        })
    }
}

impl From<DbError> for StoreError {
    fn from(failure: DbError) -> Self {
        match failure {
            DbError::Transient(told) | DbError::ConnectionLost(told) => Self::Unavailable(told),
            DbError::InDoubt(told) => Self::OutcomeUnknown(told),
            DbError::Permanent(told) => Self::Internal(told),
        }
    }
}

/// The error in words, without the values that its detail may have.
pub(super) fn told(error: &Error) -> String {
    let Some(answer) = error.as_db_error() else {
        let cause = std::error::Error::source(error);
        return cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    };
    let told = format!("{}: {}", answer.code().code(), answer.message());
    match answer.code() {
        &SqlState::INVALID_SQL_STATEMENT_NAME | &SqlState::DUPLICATE_PSTATEMENT => format!(
            "{told} (a pooler between server and database that keeps no prepared statements? \
             Then turn them off: setting `database_prepare`)"
        ),
        _ => told,
    }
}

/// What the server answered to the statement, if it did. A fatal error is no answer: it is told once,
/// to whichever statement is next, and a pooler that lost its server sends one for all that it had.
fn answer_of(error: &Error) -> Option<&ServerError> {
    error.as_db_error().filter(|answer| answer.parsed_severity() == Some(Severity::Error))
}

/// Whether a prepared statement is at fault, and another connection has none: the tables were changed
/// under it, or a pooler has lost it.
fn is_stale(code: &SqlState) -> bool {
    [SqlState::FEATURE_NOT_SUPPORTED, SqlState::INVALID_SQL_STATEMENT_NAME].contains(code)
}

/// Whether the same statements may well succeed when they are sent again.
fn is_transient(code: &SqlState) -> bool {
    let class = &code.code()[..2];
    // Connections; transactions that lost against others; resources; operators; the system.
    matches!(class, "08" | "40" | "53" | "57" | "58" | "25")
        || [
            // Whoever held the lock had it for too long.
            SqlState::LOCK_NOT_AVAILABLE,
            // On Citus, what goes wrong between its nodes has this code, a node that is away included.
            SqlState::INTERNAL_ERROR,
            // Somebody wrote around the vault's lock, and the constraints caught it.
            SqlState::CHECK_VIOLATION,
            SqlState::UNIQUE_VIOLATION,
        ]
        .contains(code)
}
