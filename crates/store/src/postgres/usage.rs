//! Reads of the usage of a vault, from the primary.

use tokio_postgres::types::Type;
use vaultsync_protocol::Usage;

use super::{
    Inner,
    connection::Sql,
    db_error::DbError,
    pull::head,
    rows::{column, counters, uuid},
};
use crate::{
    VaultId,
    pull::VaultHead,
    usage::{CountedVault, usage},
};

/// The vault's row with its counters.
pub(super) const USAGE: Sql = Sql {
    text:
        "select epoch, clock, purged_at, live_records, record_rows, bytes, history_bytes from vaults
           where vault_id = $1 and erasure = 0",
    types: &[Type::UUID],
};

impl Inner {
    /// Reads what a vault takes up.
    pub(super) async fn usage(&self, vault: VaultId) -> Result<Usage, DbError> {
        let rows = self.read_rows(vault, &USAGE, &[&uuid(vault)]).await?;
        let row = rows.first().map(|row| {
            let VaultHead { epoch, clock: head, .. } = head(row)?;
            let (counters, history_bytes) = (counters(row, 3)?, column(row, 6)?);
            Ok(CountedVault { epoch, head, counters, history_bytes })
        });
        Ok(usage(row.transpose()?))
    }
}
