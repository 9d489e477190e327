//! The statement that lists a user's vaults.

use rusqlite::Connection;
use vaultsync_protocol::{Epoch, VaultSummary};

use super::rows::time;
use crate::Vault;

/// The vaults of a vault's user. The name of the default vault is empty, and so it is the first.
pub(super) fn list(connection: &Connection, of: &Vault) -> rusqlite::Result<Vec<VaultSummary>> {
    let mut select = connection.prepare_cached(
        "select name, epoch, clock, live_records, bytes from vaults
         where issuer = ?1 and subject = ?2 and erasure = 0 order by name",
    )?;
    let vaults = select.query_map([of.issuer(), of.subject()], |row| {
        let name: String = row.get(0)?;
        Ok(VaultSummary {
            name: (!name.is_empty()).then_some(name),
            epoch: Epoch::from_bytes(row.get(1)?),
            head: time(row, 2)?,
            records: row.get(3)?,
            bytes: row.get(4)?,
        })
    })?;
    vaults.collect()
}
