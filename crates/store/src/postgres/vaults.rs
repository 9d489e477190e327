//! The statement that lists a user's vaults.

use futures_util::TryFutureExt as _;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;
use vaultsync_protocol::{Epoch, Timestamp, VaultSummary};

use super::{
    Inner,
    connection::Sql,
    db_error::DbError,
    deadlines::{Deadlines, with_deadline},
    pull_executor::may_read_again,
    rows::column,
};
use crate::Vault;

/// The name of the default vault is empty, and so it is the first.
pub(super) const LIST: Sql = Sql {
    text: "select name, epoch, clock, live_records, bytes from vaults
           where issuer = $1 and subject = $2 and erasure = 0 order by name collate \"C\"",
    types: &[Type::TEXT, Type::TEXT],
};

impl Inner {
    /// Lists the vaults of a vault's user, from the primary.
    pub(super) async fn vaults(&self, of: &Vault) -> Result<Vec<VaultSummary>, DbError> {
        let deadlines = Deadlines::new(self.timeout, 0);
        let mut number = 0;
        loop {
            let tried = Box::pin(self.try_vaults(of, number, deadlines)).await;
            number += 1;
            match tried {
                Err(failure) if may_read_again(&failure, number, deadlines) => {}
                tried => return tried,
            }
        }
    }

    async fn try_vaults(
        &self,
        of: &Vault,
        number: usize,
        deadlines: Deadlines,
    ) -> Result<Vec<VaultSummary>, DbError> {
        let connection = self.primaries.connect(of.id(), number, deadlines).await?;
        self.gauge();
        let sent = async {
            let ready = connection.prepare(&LIST).await?;
            connection.rows(&ready, &[&of.issuer(), &of.subject()]).await
        };
        let sent = sent.map_err(|error| DbError::of(&error));
        let sent = with_deadline(deadlines.deadline, DbError::ConnectionLost, sent);
        let read = connection.endpoint().watch(sent).await;
        connection.settle(read)?.iter().map(summary).collect()
    }
}

fn summary(row: &Row) -> Result<VaultSummary, DbError> {
    let name: String = column(row, 0)?;
    Ok(VaultSummary {
        name: (!name.is_empty()).then_some(name),
        epoch: Epoch::from_bytes(*column::<Uuid>(row, 1)?.as_bytes()),
        head: Timestamp::from_millis(column(row, 2)?),
        records: column(row, 3)?,
        bytes: column(row, 4)?,
    })
}
