//! Reads of a few small rows from the primary: one statement, sent again if that may help.
//!
//! Not here: pages of records, whose rows are read one by one (`pull`, `records`).

use tokio_postgres::{Row, types::ToSql};

use super::{
    Inner, connection::Sql, db_error::DbError, deadlines::Deadlines, pull_executor::may_read_again,
};
use crate::VaultId;

impl Inner {
    /// Runs a statement on the vault's address of the primary, and returns its rows.
    pub(super) async fn read_rows(
        &self,
        vault: VaultId,
        sql: &'static Sql,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DbError> {
        self.read_large_rows(vault, sql, values, 0).await
    }

    /// As [`Self::read_rows`], with the time that this many bytes may take.
    pub(super) async fn read_large_rows(
        &self,
        vault: VaultId,
        sql: &'static Sql,
        values: &[&(dyn ToSql + Sync)],
        bytes_max: usize,
    ) -> Result<Vec<Row>, DbError> {
        let deadlines = Deadlines::new(self.timeout, bytes_max);
        let mut number = 0;
        loop {
            let tried = Box::pin(self.try_read_rows(vault, sql, values, number, deadlines)).await;
            number += 1;
            match tried {
                Err(failure) if may_read_again(&failure, number, deadlines) => {}
                tried => return tried,
            }
        }
    }

    /// One attempt at it.
    pub(super) async fn try_read_rows(
        &self,
        vault: VaultId,
        sql: &'static Sql,
        values: &[&(dyn ToSql + Sync)],
        number: usize,
        deadlines: Deadlines,
    ) -> Result<Vec<Row>, DbError> {
        let connection = self.primaries.connect(vault, number, deadlines).await?;
        self.gauge();
        let sent = connection.read(sql, values, deadlines.deadline);
        let read = connection.endpoint().watch(sent).await;
        connection.settle(read)
    }
}
