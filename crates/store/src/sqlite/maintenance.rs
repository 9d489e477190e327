//! The statements of maintenance. What is removed is decided in `crate::maintenance`.

use rusqlite::{Connection, OptionalExtension, params};
use vaultsync_protocol::{Epoch, Timestamp};

use super::{
    Sqlite, VaultKey,
    rows::{record_id, time, version},
};
use crate::{
    StoreError, VaultId, VersionKey,
    history::StoredRevision,
    maintenance::{BATCH_BYTES, BATCH_ROWS, BATCH_VAULTS, Removed, Tombstone, first_batch},
};

impl Sqlite {
    pub(crate) async fn begin_erase(
        &self,
        vault: VaultId,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let begun =
            self.write(vec![vault], move |connection| begin_erase(connection, vault, epoch, now));
        let clock = begun.await?;
        if let Some(clock) = clock {
            // Waiting pulls and event streams read again.
            self.notifier.publish(vault, clock);
        }
        Ok(clock.is_some() || self.is_erased(vault, epoch).await?)
    }

    pub(crate) async fn is_erased(&self, vault: VaultId, epoch: Epoch) -> Result<bool, StoreError> {
        self.read_blocking(move |connection| {
            connection
                .prepare_cached("select 1 from erased_epochs where vault_id = ?1 and epoch = ?2")?
                .exists(params![vault.as_bytes(), epoch.as_bytes()])
        })
        .await
    }

    /// Erases the vaults that another process has asked for, and lists those whose rows remain.
    pub(crate) async fn erasing(
        &self,
        after: Option<VaultId>,
        now: Timestamp,
    ) -> Result<Vec<VaultId>, StoreError> {
        for (vault, epoch) in self.read_blocking(requested).await? {
            self.begin_erase(vault, epoch, now).await?;
            self.write(vec![], move |connection| forget_request(connection, vault, epoch)).await?;
        }
        let after = after.map_or(Vec::new(), |vault| vault.as_bytes().to_vec());
        self.read_blocking(move |connection| list(connection, ERASING, [after])).await
    }

    pub(crate) async fn erase_batch(&self, vault: VaultId) -> Result<bool, StoreError> {
        self.write(vec![vault], move |connection| erase_batch(connection, vault)).await
    }

    pub(crate) async fn vaults_to_maintain(
        &self,
        after: Option<VaultId>,
    ) -> Result<Vec<VaultId>, StoreError> {
        let after = after.map_or(Vec::new(), |vault| vault.as_bytes().to_vec());
        self.read_blocking(move |connection| list(connection, TO_MAINTAIN, [after])).await
    }

    pub(crate) async fn kept_versions(
        &self,
        vault: VaultId,
        after: Option<VersionKey>,
    ) -> Result<Vec<StoredRevision>, StoreError> {
        self.read_blocking(move |connection| kept_versions(connection, vault, after.as_ref())).await
    }

    pub(crate) async fn remove_versions(
        &self,
        vault: VaultId,
        keys: Vec<VersionKey>,
    ) -> Result<Removed, StoreError> {
        self.write(vec![vault], move |connection| remove_versions(connection, vault, &keys)).await
    }

    pub(crate) async fn tombstones(
        &self,
        vault: VaultId,
        after: Option<Timestamp>,
        written_before: Timestamp,
    ) -> Result<Vec<Tombstone>, StoreError> {
        self.read_blocking(move |connection| tombstones(connection, vault, after, written_before))
            .await
    }

    pub(crate) async fn remove_tombstones(
        &self,
        vault: VaultId,
        tombstones: Vec<Tombstone>,
    ) -> Result<Removed, StoreError> {
        let write =
            move |connection: &Connection| remove_tombstones(connection, vault, &tombstones);
        self.write(vec![vault], write).await
    }
}

const ERASING: &str = "select vault_id from vaults
     where erasure = 1 and vault_id > ?1 order by vault_id limit 100";

/// Vaults that have tombstones or kept versions.
const TO_MAINTAIN: &str = "select vault_id from vaults v
     where vault_id > ?1 and erasure = 0 and (record_rows > live_records
       or exists (select 1 from revisions r where r.vault_key = v.vault_key))
     order by vault_id limit 100";

const _: () = assert!(BATCH_VAULTS == 100, "the statements above have this limit");

fn list(
    connection: &Connection,
    statement: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Vec<VaultId>> {
    let mut select = connection.prepare_cached(statement)?;
    let vaults = select.query_map(values, |row| Ok(VaultId::from_bytes(row.get(0)?)))?;
    vaults.collect()
}

/// The vault's clock, if it is erased now. It moves on, so that the new head wakes waiting readers.
fn begin_erase(
    connection: &Connection,
    vault: VaultId,
    epoch: Epoch,
    now: Timestamp,
) -> rusqlite::Result<Option<Timestamp>> {
    let clock: Option<i64> = connection
        .prepare_cached(
            "update vaults set erasure = 1, receipts = x'', clock = clock + 1 where vault_id = ?1 and epoch = ?2 and erasure = 0
             returning clock",
        )?
        .query_row(params![vault.as_bytes(), epoch.as_bytes()], |row| row.get(0))
        .optional()?;
    if clock.is_some() {
        connection
            .prepare_cached(
                "insert or ignore into erased_epochs (vault_id, epoch, erased_at)
                 values (?1, ?2, ?3)",
            )?
            .execute(params![vault.as_bytes(), epoch.as_bytes(), now.as_millis()])?;
    }
    Ok(clock.map(Timestamp::from_millis))
}

/// Vaults that another process has asked to erase, with the epoch that it saw.
fn requested(connection: &Connection) -> rusqlite::Result<Vec<(VaultId, Epoch)>> {
    let mut select =
        connection.prepare_cached("select vault_id, epoch from erase_requests limit 100")?;
    let requests = select.query_map([], |row| {
        Ok((VaultId::from_bytes(row.get(0)?), Epoch::from_bytes(row.get(1)?)))
    })?;
    requests.collect()
}

fn forget_request(connection: &Connection, vault: VaultId, epoch: Epoch) -> rusqlite::Result<()> {
    connection
        .prepare_cached("delete from erase_requests where vault_id = ?1 and epoch = ?2")?
        .execute(params![vault.as_bytes(), epoch.as_bytes()])
        .map(drop)
}

/// Removes some rows of an erased vault. Returns whether none is left.
fn erase_batch(connection: &Connection, vault: VaultId) -> rusqlite::Result<bool> {
    let key: Option<i64> = connection
        .prepare_cached("select vault_key from vaults where vault_id = ?1 and erasure = 1")?
        .query_row([vault.as_bytes()], |row| row.get(0))
        .optional()?;
    let Some(key) = key else { return Ok(true) };
    for table in ["records", "revisions"] {
        let rows: Vec<(i64, i64)> = connection
            .prepare_cached(&format!(
                "select rowid, length(ciphertext) from {table} where vault_key = ?1 limit {BATCH_ROWS}"
            ))?
            .query_map([key], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let batch = first_batch(&rows, BATCH_BYTES, |(_, bytes)| *bytes);
        if !batch.is_empty() {
            let delete = format!("delete from {table} where rowid = ?1");
            let mut delete = connection.prepare_cached(&delete)?;
            for (rowid, _) in batch {
                delete.execute([rowid])?;
            }
            return Ok(false);
        }
    }
    connection
        .prepare_cached(
            "update vaults set erasure = 2, issuer = '', subject = '', name = '', live_records = 0,
               record_rows = 0, bytes = 0, history_bytes = 0, purged_at = null
             where vault_key = ?1",
        )?
        .execute([key])?;
    Ok(true)
}

/// The key of a vault that is in use.
fn key_of(connection: &Connection, vault: VaultId) -> rusqlite::Result<Option<VaultKey>> {
    connection
        .prepare_cached("select vault_key from vaults where vault_id = ?1 and erasure = 0")?
        .query_row([vault.as_bytes()], |row| Ok(VaultKey(row.get(0)?)))
        .optional()
}

fn kept_versions(
    connection: &Connection,
    vault: VaultId,
    after: Option<&VersionKey>,
) -> rusqlite::Result<Vec<StoredRevision>> {
    let Some(VaultKey(key)) = key_of(connection, vault)? else { return Ok(Vec::new()) };
    let (after_id, after_version) =
        after.map_or(("", 0), |(record_id, version)| (record_id.as_str(), version.get()));
    let limit = i64::try_from(BATCH_ROWS).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(
        "select record_id, version, replaced_wall, length(ciphertext) from revisions
         where vault_key = ?1 and (record_id, version) > (?2, ?3) order by record_id, version limit ?4",
    )?;
    let kept = select.query_map(params![key, after_id, after_version, limit], |row| {
        Ok(StoredRevision {
            record_id: record_id(row, 0)?,
            version: version(row, 1)?,
            replaced_at: time(row, 2)?,
            ciphertext_bytes: row.get(3)?,
        })
    })?;
    kept.collect()
}

fn remove_versions(
    connection: &Connection,
    vault: VaultId,
    keys: &[VersionKey],
) -> rusqlite::Result<Removed> {
    let Some(VaultKey(key)) = key_of(connection, vault)? else { return Ok(Removed::default()) };
    let mut removed = Removed::default();
    let mut delete = connection.prepare_cached(
        "delete from revisions where vault_key = ?1 and record_id = ?2 and version = ?3
         returning length(ciphertext)",
    )?;
    for (record_id, version) in keys {
        let bytes = delete
            .query_row(params![key, record_id.as_str(), version.get()], |row| row.get(0))
            .optional()?;
        removed += bytes.map_or(Removed::default(), |bytes| Removed { rows: 1, bytes });
    }
    let update = "update vaults set history_bytes = history_bytes - ?2 where vault_key = ?1";
    connection.prepare_cached(update)?.execute(params![key, removed.bytes])?;
    Ok(removed)
}

fn tombstones(
    connection: &Connection,
    vault: VaultId,
    after: Option<Timestamp>,
    written_before: Timestamp,
) -> rusqlite::Result<Vec<Tombstone>> {
    let Some(VaultKey(key)) = key_of(connection, vault)? else { return Ok(Vec::new()) };
    let after = after.map_or(i64::MIN, Timestamp::as_millis);
    let limit = i64::try_from(BATCH_ROWS).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(
        "select record_id, updated_at, length(ciphertext) from records
         where vault_key = ?1 and deleted = 1 and updated_at > ?2
           and max(coalesce(written_at, updated_at), updated_at) < ?3
         order by updated_at limit ?4",
    )?;
    let values = params![key, after, written_before.as_millis(), limit];
    let tombstones = select.query_map(values, |row| {
        Ok(Tombstone {
            record_id: record_id(row, 0)?,
            updated_at: time(row, 1)?,
            ciphertext_bytes: row.get(2)?,
        })
    })?;
    tombstones.collect()
}

fn remove_tombstones(
    connection: &Connection,
    vault: VaultId,
    tombstones: &[Tombstone],
) -> rusqlite::Result<Removed> {
    let Some(VaultKey(key)) = key_of(connection, vault)? else { return Ok(Removed::default()) };
    let (mut removed, mut history_bytes, mut newest) = (Removed::default(), 0, None);
    let mut delete = connection.prepare_cached(
        "delete from records where vault_key = ?1 and record_id = ?2 and updated_at = ?3
         returning length(ciphertext)",
    )?;
    let mut delete_versions = connection.prepare_cached(
        "delete from revisions where vault_key = ?1 and record_id = ?2 returning length(ciphertext)",
    )?;
    for Tombstone { record_id, updated_at, .. } in tombstones {
        let (id, updated_at) = (record_id.as_str(), updated_at.as_millis());
        let bytes = delete.query_row(params![key, id, updated_at], |row| row.get(0)).optional()?;
        // It may have been written again.
        let Some(bytes) = bytes else { continue };
        removed += Removed { rows: 1, bytes };
        newest = newest.max(Some(updated_at));
        let versions = delete_versions.query_map(params![key, id], |row| row.get::<_, i64>(0))?;
        history_bytes += versions.sum::<rusqlite::Result<i64>>()?;
    }
    let Some(newest) = newest else { return Ok(removed) };
    connection
        .prepare_cached(
            "update vaults set record_rows = record_rows - ?2, bytes = bytes - ?3,
               history_bytes = history_bytes - ?4, purged_at = max(coalesce(purged_at, ?5), ?5),
               receipts = x''
             where vault_key = ?1",
        )?
        .execute(params![key, removed.rows, removed.bytes, history_bytes, newest])?;
    Ok(removed)
}
