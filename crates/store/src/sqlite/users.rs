//! The statement that lists users.

use rusqlite::{Connection, params};

use super::rows::time;
use crate::{UserSummary, users::BATCH_USERS};

/// The next users after one, by issuer and subject.
pub(super) fn list(
    connection: &Connection,
    issuer: &str,
    subject: &str,
) -> rusqlite::Result<Vec<UserSummary>> {
    let mut select = connection.prepare_cached(
        "select issuer, subject, count(*), sum(live_records), sum(bytes), max(clock) from vaults
         where (issuer, subject) > (?1, ?2) and erasure = 0
         group by issuer, subject order by issuer, subject limit ?3",
    )?;
    let users = select.query_map(params![issuer, subject, BATCH_USERS], |row| {
        Ok(UserSummary {
            issuer: row.get(0)?,
            subject: row.get(1)?,
            vaults: row.get(2)?,
            records: row.get(3)?,
            bytes: row.get(4)?,
            head: time(row, 5)?,
        })
    })?;
    users.collect()
}
