//! The statements of maintenance. What is removed is decided in `crate::maintenance`.

use futures_util::TryFutureExt as _;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use uuid::Uuid;
use vaultsync_protocol::{Epoch, Timestamp};

use super::{
    Inner, Postgres,
    connection::{Connection, Sql},
    db_error::DbError,
    deadlines::{Deadlines, begin, with_deadline},
    rows::{column, record_id, uuid, version},
};
use crate::{
    StoreError, VaultId, VersionKey,
    history::StoredRevision,
    maintenance::{BATCH_BYTES, BATCH_ROWS, BATCH_VAULTS, Removed, Tombstone, first_batch},
};

const IS_ERASED: Sql = Sql {
    text: "select 1 from erased_epochs where vault_id = $1 and epoch = $2",
    types: &[Type::UUID, Type::UUID],
};

const ERASING: Sql = Sql {
    text: "select vault_id from vaults where erasure = 1 and vault_id > $1
           order by vault_id limit $2",
    types: &[Type::UUID, Type::INT8],
};

/// Vaults that have tombstones or kept versions. Vaults that were not counted yet are left alone.
const TO_MAINTAIN: Sql = Sql {
    text: "select vault_id from vaults v
           where vault_id > $1 and erasure = 0 and live_records is not null
             and (record_rows > live_records
               or exists (select from revisions r where r.vault_id = v.vault_id))
           order by vault_id limit $2",
    types: &[Type::UUID, Type::INT8],
};

/// A claim for more than two weeks, which no interval is, was made by a clock that was wrong.
const CLAIM: Sql = Sql {
    text: "update deployment set maintained_until = $2
           where maintained_until is null or maintained_until <= $1
             or maintained_until > $1 + 1209600000
           returning 1",
    types: &[Type::INT8, Type::INT8],
};

const KEPT_VERSIONS: Sql = Sql {
    text: "select record_id, version, replaced_wall, octet_length(ciphertext) from revisions
           where vault_id = $1 and (record_id, version) > ($2, $3)
           order by record_id, version limit $4",
    types: &[Type::UUID, Type::TEXT, Type::INT8, Type::INT8],
};

/// By the later of both times: either clock may have been wrong.
const TOMBSTONES: Sql = Sql {
    text: "select record_id, updated_at, octet_length(ciphertext) from records
           where vault_id = $1 and deleted and updated_at > $2
             and greatest(written_at, updated_at) < $3
           order by updated_at limit $4",
    types: &[Type::UUID, Type::INT8, Type::INT8, Type::INT8],
};

const LOCK: Sql = Sql {
    text: "select erasure from vaults where vault_id = $1 for no key update",
    types: &[Type::UUID],
};

/// The clock moves on, so that the new head wakes waiting readers.
const BEGIN_ERASE: Sql = Sql {
    text: "update vaults set erasure = 1, receipts = '', clock = clock + 1
           where vault_id = $1 and epoch = $2 and erasure = 0
           returning clock",
    types: &[Type::UUID, Type::UUID],
};

const ADD_ERASED_EPOCH: Sql = Sql {
    text: "insert into erased_epochs (vault_id, epoch, erased_at) values ($1, $2, $3)
           on conflict do nothing",
    types: &[Type::UUID, Type::UUID, Type::INT8],
};

const RECORDS_TO_ERASE: Sql = Sql {
    text: "select updated_at, octet_length(ciphertext) from records where vault_id = $1
           order by updated_at limit $2",
    types: &[Type::UUID, Type::INT8],
};

const ERASE_RECORDS: Sql = Sql {
    text: "delete from records where vault_id = $1 and updated_at <= $2",
    types: &[Type::UUID, Type::INT8],
};

const VERSIONS_TO_ERASE: Sql = Sql {
    text: "select record_id, version, octet_length(ciphertext) from revisions where vault_id = $1
           order by record_id, version limit $2",
    types: &[Type::UUID, Type::INT8],
};

const ERASE_VERSIONS: Sql = Sql {
    text: "delete from revisions where vault_id = $1 and (record_id, version) <= ($2, $3)",
    types: &[Type::UUID, Type::TEXT, Type::INT8],
};

const END_ERASE: Sql = Sql {
    text: "update vaults set erasure = 2, issuer = '', subject = '', name = '', live_records = 0,
             record_rows = 0, bytes = 0, history_bytes = 0, purged_at = null
           where vault_id = $1",
    types: &[Type::UUID],
};

const REMOVE_VERSIONS: Sql = Sql {
    text: "delete from revisions
           where vault_id = $1 and (record_id, version) in (
             select * from unnest($2::text[], $3::bigint[])
           )
           returning octet_length(ciphertext)",
    types: &[Type::UUID, Type::TEXT_ARRAY, Type::INT8_ARRAY],
};

const REMOVE_TOMBSTONES: Sql = Sql {
    text: "delete from records where vault_id = $1 and updated_at = any($2) and deleted
           returning record_id, updated_at, octet_length(ciphertext)",
    types: &[Type::UUID, Type::INT8_ARRAY],
};

const REMOVE_VERSIONS_OF: Sql = Sql {
    text: "delete from revisions where vault_id = $1 and record_id = any($2)
           returning octet_length(ciphertext)",
    types: &[Type::UUID, Type::TEXT_ARRAY],
};

const COUNT_VERSIONS: Sql = Sql {
    text: "update vaults set history_bytes = history_bytes - $2 where vault_id = $1",
    types: &[Type::UUID, Type::INT8],
};

const COUNT_PURGE: Sql = Sql {
    text: "update vaults set record_rows = record_rows - $2, bytes = bytes - $3,
             history_bytes = history_bytes - $4, purged_at = greatest(purged_at, $5), receipts = ''
           where vault_id = $1",
    types: &[Type::UUID, Type::INT8, Type::INT8, Type::INT8, Type::INT8],
};

fn number(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// A transaction that holds the lock of a vault's row. If it is dropped, nothing is written.
struct VaultTxn {
    connection: Connection,
    deadlines: Deadlines,
    /// Whether the vault is being erased, if there is a vault.
    erasure: Option<i16>,
}

impl VaultTxn {
    async fn begin(inner: &Inner, vault: VaultId) -> Result<Self, DbError> {
        let deadlines = Deadlines::new(inner.timeout, 0);
        let connection = inner.primaries.connect_to_write(vault, 0, deadlines).await?;
        let statements = begin(deadlines.deadline, inner.timeout, connection.is_citus());
        let sent = connection.send_each(&statements).map_err(|error| DbError::of(&error));
        with_deadline(deadlines.deadline, DbError::ConnectionLost, sent).await?;
        let mut txn = Self { connection, deadlines, erasure: None };
        let rows = txn.rows(&LOCK, &[&uuid(vault)]).await?;
        txn.erasure = rows.first().map(|row| column(row, 0)).transpose()?;
        Ok(txn)
    }

    async fn rows(
        &self,
        sql: &'static Sql,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DbError> {
        self.connection.read(sql, values, self.deadlines.deadline).await
    }

    async fn commit(self) -> Result<(), DbError> {
        let warnings = self.connection.warnings();
        let sent = self.connection.send("commit").map_err(|error| DbError::of_commit(&error));
        with_deadline(self.deadlines.deadline, DbError::InDoubt, sent).await?;
        if self.connection.warnings() != warnings {
            return Err(DbError::of_warning());
        }
        self.connection.release();
        Ok(())
    }
}

/// Stands for a vault where a statement concerns none: it chooses the address.
pub(super) const NO_VAULT: VaultId = VaultId::from_bytes([0; 16]);

impl Postgres {
    pub(crate) async fn begin_erase(
        &self,
        vault: VaultId,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let clock = Box::pin(self.inner.begin_erase(vault, epoch, now)).await?;
        if let Some(clock) = clock {
            // Waiting pulls and event streams read again.
            self.inner.notifier.publish(vault, clock);
        }
        Ok(clock.is_some() || self.is_erased(vault, epoch).await?)
    }

    pub(crate) async fn is_erased(&self, vault: VaultId, epoch: Epoch) -> Result<bool, StoreError> {
        let values: [&(dyn ToSql + Sync); 2] = [&uuid(vault), &Uuid::from_bytes(*epoch.as_bytes())];
        let rows = self.inner.read_rows(vault, &IS_ERASED, &values).await?;
        Ok(!rows.is_empty())
    }

    pub(crate) async fn erasing(&self, after: Option<VaultId>) -> Result<Vec<VaultId>, StoreError> {
        let after = uuid(after.unwrap_or(NO_VAULT));
        let rows =
            self.inner.read_rows(NO_VAULT, &ERASING, &[&after, &number(BATCH_VAULTS)]).await?;
        Ok(rows.iter().map(vault_id).collect::<Result<_, _>>()?)
    }

    pub(crate) async fn erase_batch(&self, vault: VaultId) -> Result<bool, StoreError> {
        Ok(Box::pin(self.inner.erase_batch(vault)).await?)
    }

    pub(crate) async fn vaults_to_maintain(
        &self,
        after: Option<VaultId>,
    ) -> Result<Vec<VaultId>, StoreError> {
        let after = uuid(after.unwrap_or(NO_VAULT));
        let values: [&(dyn ToSql + Sync); 2] = [&after, &number(BATCH_VAULTS)];
        let rows = self.inner.read_rows(NO_VAULT, &TO_MAINTAIN, &values).await?;
        Ok(rows.iter().map(vault_id).collect::<Result<_, _>>()?)
    }

    pub(crate) async fn claim_maintenance(
        &self,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let values: [&(dyn ToSql + Sync); 2] = [&now.as_millis(), &until.as_millis()];
        Ok(Box::pin(self.inner.claim_maintenance(&values)).await?)
    }

    pub(crate) async fn kept_versions(
        &self,
        vault: VaultId,
        after: Option<VersionKey>,
    ) -> Result<Vec<StoredRevision>, StoreError> {
        let (after_id, after_version) = after
            .as_ref()
            .map_or(("", 0), |(record_id, version)| (record_id.as_str(), version.get()));
        let values: [&(dyn ToSql + Sync); 4] =
            [&uuid(vault), &after_id, &after_version, &number(BATCH_ROWS)];
        let rows = self.inner.read_rows(vault, &KEPT_VERSIONS, &values).await?;
        Ok(rows.iter().map(kept_version).collect::<Result<_, _>>()?)
    }

    pub(crate) async fn remove_versions(
        &self,
        vault: VaultId,
        keys: Vec<VersionKey>,
    ) -> Result<Removed, StoreError> {
        Ok(Box::pin(self.inner.remove_versions(vault, &keys)).await?)
    }

    pub(crate) async fn tombstones(
        &self,
        vault: VaultId,
        after: Option<Timestamp>,
        written_before: Timestamp,
    ) -> Result<Vec<Tombstone>, StoreError> {
        let after = after.map_or(i64::MIN, Timestamp::as_millis);
        let values: [&(dyn ToSql + Sync); 4] =
            [&uuid(vault), &after, &written_before.as_millis(), &number(BATCH_ROWS)];
        let rows = self.inner.read_rows(vault, &TOMBSTONES, &values).await?;
        Ok(rows.iter().map(tombstone).collect::<Result<_, _>>()?)
    }

    pub(crate) async fn remove_tombstones(
        &self,
        vault: VaultId,
        tombstones: Vec<Tombstone>,
    ) -> Result<Removed, StoreError> {
        Ok(Box::pin(self.inner.remove_tombstones(vault, &tombstones)).await?)
    }
}

impl Inner {
    async fn claim_maintenance(&self, values: &[&(dyn ToSql + Sync)]) -> Result<bool, DbError> {
        let deadlines = Deadlines::new(self.timeout, 0);
        let connection = self.primaries.connect_to_write(NO_VAULT, 0, deadlines).await?;
        let sent = connection.read(&CLAIM, values, deadlines.deadline);
        let claimed = connection.endpoint().watch(sent).await;
        Ok(!connection.settle(claimed)?.is_empty())
    }

    /// The vault's clock, if it is erased now.
    async fn begin_erase(
        &self,
        vault: VaultId,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, DbError> {
        let (id, epoch) = (uuid(vault), Uuid::from_bytes(*epoch.as_bytes()));
        let txn = VaultTxn::begin(self, vault).await?;
        let rows = txn.rows(&BEGIN_ERASE, &[&id, &epoch]).await?;
        let clock = rows.first().map(|row| column(row, 0)).transpose()?;
        if clock.is_some() {
            txn.rows(&ADD_ERASED_EPOCH, &[&id, &epoch, &now.as_millis()]).await?;
        }
        txn.commit().await?;
        Ok(clock.map(Timestamp::from_millis))
    }

    /// Removes some rows of an erased vault. Returns whether none is left.
    async fn erase_batch(&self, vault: VaultId) -> Result<bool, DbError> {
        let (id, limit) = (uuid(vault), number(BATCH_ROWS));
        let txn = VaultTxn::begin(self, vault).await?;
        if txn.erasure != Some(1) {
            txn.commit().await?;
            return Ok(true);
        }
        let sizes = |row: &Row| Ok((column::<i64>(row, 0)?, length(row, 1)?));
        let records = txn.rows(&RECORDS_TO_ERASE, &[&id, &limit]).await?;
        let records = records.iter().map(sizes).collect::<Result<Vec<_>, DbError>>()?;
        let batch = first_batch(&records, BATCH_BYTES, |(_, bytes)| *bytes);
        if let Some((last, _)) = batch.last() {
            txn.rows(&ERASE_RECORDS, &[&id, last]).await?;
            txn.commit().await?;
            return Ok(false);
        }
        let sizes = |row: &Row| {
            let key = (column::<String>(row, 0)?, column::<i64>(row, 1)?);
            Ok((key, length(row, 2)?))
        };
        let versions = txn.rows(&VERSIONS_TO_ERASE, &[&id, &limit]).await?;
        let versions = versions.iter().map(sizes).collect::<Result<Vec<_>, DbError>>()?;
        let batch = first_batch(&versions, BATCH_BYTES, |(_, bytes)| *bytes);
        if let Some(((record_id, version), _)) = batch.last() {
            txn.rows(&ERASE_VERSIONS, &[&id, record_id, version]).await?;
            txn.commit().await?;
            return Ok(false);
        }
        txn.rows(&END_ERASE, &[&id]).await?;
        txn.commit().await?;
        Ok(true)
    }

    async fn remove_versions(
        &self,
        vault: VaultId,
        keys: &[VersionKey],
    ) -> Result<Removed, DbError> {
        let id = uuid(vault);
        let ids: Vec<_> = keys.iter().map(|(record_id, _)| record_id.as_str()).collect();
        let versions: Vec<_> = keys.iter().map(|(_, version)| version.get()).collect();
        let txn = VaultTxn::begin(self, vault).await?;
        let rows = txn.rows(&REMOVE_VERSIONS, &[&id, &ids, &versions]).await?;
        let bytes = sum(&rows, 0)?;
        txn.rows(&COUNT_VERSIONS, &[&id, &bytes]).await?;
        txn.commit().await?;
        Ok(Removed { rows: number(rows.len()), bytes })
    }

    async fn remove_tombstones(
        &self,
        vault: VaultId,
        tombstones: &[Tombstone],
    ) -> Result<Removed, DbError> {
        let id = uuid(vault);
        let times: Vec<_> = tombstones.iter().map(|one| one.updated_at.as_millis()).collect();
        let txn = VaultTxn::begin(self, vault).await?;
        // One that was written again meanwhile has another time.
        let rows = txn.rows(&REMOVE_TOMBSTONES, &[&id, &times]).await?;
        let ids = rows.iter().map(|row| column(row, 0)).collect::<Result<Vec<&str>, _>>()?;
        let times = rows.iter().map(|row| column(row, 1)).collect::<Result<Vec<i64>, _>>()?;
        let bytes = sum(&rows, 2)?;
        if let Some(newest) = times.iter().max() {
            let versions = txn.rows(&REMOVE_VERSIONS_OF, &[&id, &ids]).await?;
            let count = number(rows.len());
            let values: [&(dyn ToSql + Sync); 5] =
                [&id, &count, &bytes, &sum(&versions, 0)?, newest];
            txn.rows(&COUNT_PURGE, &values).await?;
        }
        txn.commit().await?;
        Ok(Removed { rows: number(rows.len()), bytes })
    }
}

/// The length of a ciphertext.
fn length(row: &Row, index: usize) -> Result<i64, DbError> {
    column::<i32>(row, index).map(i64::from)
}

/// The sum of a column of lengths.
fn sum(rows: &[Row], index: usize) -> Result<i64, DbError> {
    rows.iter().map(|row| length(row, index)).sum()
}

fn vault_id(row: &Row) -> Result<VaultId, DbError> {
    Ok(VaultId::from_bytes(*column::<Uuid>(row, 0)?.as_bytes()))
}

fn kept_version(row: &Row) -> Result<StoredRevision, DbError> {
    Ok(StoredRevision {
        record_id: record_id(row, 0)?,
        version: version(row, 1)?,
        replaced_at: Timestamp::from_millis(column(row, 2)?),
        ciphertext_bytes: length(row, 3)?,
    })
}

fn tombstone(row: &Row) -> Result<Tombstone, DbError> {
    Ok(Tombstone {
        record_id: record_id(row, 0)?,
        updated_at: Timestamp::from_millis(column(row, 1)?),
        ciphertext_bytes: length(row, 2)?,
    })
}
