//! The statement that lists users.

use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use vaultsync_protocol::Timestamp;

use super::{Postgres, connection::Sql, db_error::DbError, maintenance::NO_VAULT, rows::column};
use crate::{StoreError, UserSummary, users::BATCH_USERS};

/// The next users after one. A vault that was not counted yet counts as nothing.
const LIST: Sql = Sql {
    text: "select issuer, subject, count(*), coalesce(sum(live_records), 0)::bigint,
             coalesce(sum(bytes), 0)::bigint, max(clock)
           from vaults where (issuer, subject) > ($1, $2) and erasure = 0
           group by issuer, subject order by issuer, subject limit $3",
    types: &[Type::TEXT, Type::TEXT, Type::INT8],
};

impl Postgres {
    pub(crate) async fn users(
        &self,
        issuer: &str,
        subject: &str,
    ) -> Result<Vec<UserSummary>, StoreError> {
        let values: [&(dyn ToSql + Sync); 3] = [&issuer, &subject, &BATCH_USERS];
        let rows = self.inner.read_rows(NO_VAULT, &LIST, &values).await?;
        Ok(rows.iter().map(user).collect::<Result<_, _>>()?)
    }
}

fn user(row: &Row) -> Result<UserSummary, DbError> {
    Ok(UserSummary {
        issuer: column(row, 0)?,
        subject: column(row, 1)?,
        vaults: column(row, 2)?,
        records: column(row, 3)?,
        bytes: column(row, 4)?,
        head: Timestamp::from_millis(column(row, 5)?),
    })
}
