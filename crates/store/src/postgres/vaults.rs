//! The statement that lists a user's vaults.

use tokio_postgres::{Row, types::Type};
use uuid::Uuid;
use vaultsync_protocol::{Epoch, Timestamp, VaultSummary};

use super::{Inner, connection::Sql, db_error::DbError, rows::column};
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
        let rows = self.read_rows(of.id(), &LIST, &[&of.issuer(), &of.subject()]).await?;
        rows.iter().map(summary).collect()
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
