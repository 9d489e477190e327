//! The statement of the usage of a vault.

use rusqlite::{Connection, OptionalExtension as _};
use vaultsync_protocol::{Epoch, Usage};

use super::rows::time;
use crate::{
    Counters, VaultId,
    usage::{CountedVault, usage},
};

/// Reads what a vault takes up.
pub(super) fn read(connection: &Connection, vault: VaultId) -> rusqlite::Result<Usage> {
    let row = connection
        .prepare_cached(
            "select epoch, clock, live_records, record_rows, bytes, history_bytes from vaults
             where vault_id = ?1 and erasure = 0",
        )?
        .query_row([vault.as_bytes()], |row| {
            let counters = Counters {
                live_records: row.get(2)?,
                record_rows: row.get(3)?,
                bytes: row.get(4)?,
            };
            Ok(CountedVault {
                epoch: Epoch::from_bytes(row.get(0)?),
                head: time(row, 1)?,
                counters: Some(counters),
                history_bytes: row.get(5)?,
            })
        })
        .optional()?;
    Ok(usage(row))
}
