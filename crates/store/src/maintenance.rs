//! Removal of what is not kept any longer: the rows of erased vaults, old tombstones, replaced versions.
//!
//! All of it goes vault by vault in small transactions under the vault's lock, beside pushes, and can be
//! interrupted and repeated at any point. What is removed is decided here and in `history.rs`, for every database.

use vaultsync_protocol::{KnownEpoch, RecordId, Timestamp};

use crate::{
    Store, StoreError, Vault, VaultId, VersionKey,
    history::{DAY_MILLIS, StoredRevision, expired},
    store::ByEpoch,
};

/// Rows that are read at a time.
pub(crate) const BATCH_ROWS: usize = 1000;

/// Bytes of ciphertext that are removed in one transaction, unless a single row has more.
pub(crate) const BATCH_BYTES: i64 = 16 << 20;

/// Vaults that are listed at a time.
pub(crate) const BATCH_VAULTS: usize = 100;

/// Ids of records whose tombstones are never removed: they are the client's own, such as its keyring.
const RESERVED_PREFIX: &str = "vaultsync.";

/// What [`Store::gc`] removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GcOptions {
    /// Days for which replaced versions are kept.
    pub history_days: usize,
    /// Days for which tombstones are kept; 0 keeps them for ever.
    pub tombstone_days: usize,
    /// The time by the wall clock.
    pub now: Timestamp,
    /// Whether to count only what would be removed.
    pub dry_run: bool,
}

/// What [`Store::gc`] has removed, or would remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Tombstones that were old enough.
    pub tombstones: Removed,
    /// Replaced versions that were old enough, or one of several of their hour or day.
    pub versions: Removed,
}

/// A number of rows, and the size of their ciphertext.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Rows.
    pub rows: i64,
    /// Bytes of ciphertext.
    pub bytes: i64,
}

impl std::ops::AddAssign for Removed {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

/// Outcome of the erasure of a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EraseOutcome {
    /// Its epoch is erased for ever: nothing can be read any more. The rows are removed by
    /// [`Store::finish_erasures`].
    Erased,
    /// The vault has another epoch, or does not exist.
    EpochChanged,
}

/// A tombstone, as far as its removal depends on it.
#[derive(Clone, Debug)]
pub(crate) struct Tombstone {
    pub(crate) record_id: RecordId,
    /// Identifies it: it is unique in its vault, and any write changes it.
    pub(crate) updated_at: Timestamp,
    pub(crate) ciphertext_bytes: i64,
}

impl Store {
    /// Erases a vault that has this epoch. From then on it is empty, requests that name the epoch are refused for
    /// ever, and the next push begins a new history. Repeating it does nothing.
    pub async fn erase(
        &self,
        vault: &Vault,
        epoch: &KnownEpoch,
        now: Timestamp,
    ) -> Result<EraseOutcome, StoreError> {
        let Some(epoch) = epoch.parse() else { return Ok(EraseOutcome::EpochChanged) };
        let erased = match self {
            Self::Sqlite(sqlite) => sqlite.begin_erase(vault.id(), epoch, now).await,
            Self::Postgres(postgres) => postgres.begin_erase(vault.id(), epoch, now).await,
        };
        Ok(if erased? { EraseOutcome::Erased } else { EraseOutcome::EpochChanged })
    }

    /// The outcome, unless the client names an epoch that was erased. Asked only if its epoch is not the vault's,
    /// so that it costs other requests nothing.
    pub(crate) async fn distinguish_erased<T: ByEpoch>(
        &self,
        vault: &Vault,
        known: Option<&KnownEpoch>,
        outcome: T,
    ) -> Result<T, StoreError> {
        let known = known.filter(|_| outcome.is_epoch_changed()).and_then(KnownEpoch::parse);
        let Some(epoch) = known else { return Ok(outcome) };
        let is_erased = match self {
            Self::Sqlite(sqlite) => sqlite.is_erased(vault.id(), epoch).await,
            Self::Postgres(postgres) => postgres.is_erased(vault.id(), epoch).await,
        };
        Ok(if is_erased? { T::VAULT_ERASED } else { outcome })
    }

    /// Removes the rows of all vaults that were erased, also of those that another process has begun with. Returns
    /// how many vaults it has finished.
    pub async fn finish_erasures(&self, now: Timestamp) -> Result<usize, StoreError> {
        let (mut finished, mut last, mut failed) = (0, None, Ok(()));
        loop {
            let vaults = match self {
                Self::Sqlite(sqlite) => sqlite.erasing(last, now).await,
                Self::Postgres(postgres) => postgres.erasing(last).await,
            }?;
            let Some(end) = vaults.last() else { return failed.map(|()| finished) };
            last = Some(*end);
            for vault in vaults {
                match self.erase_rows(vault).await {
                    Ok(()) => finished += 1,
                    // The others do not wait for one that fails.
                    Err(error) => failed = failed.and(Err(error)),
                }
            }
        }
    }

    async fn erase_rows(&self, vault: VaultId) -> Result<(), StoreError> {
        while !self.erase_batch(vault).await? {}
        Ok(())
    }

    /// Removes some rows of an erased vault. Returns whether none is left.
    async fn erase_batch(&self, vault: VaultId) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.erase_batch(vault).await,
            Self::Postgres(postgres) => postgres.erase_batch(vault).await,
        }
    }

    /// Removes tombstones and replaced versions that are not kept any longer.
    pub async fn gc(&self, options: GcOptions) -> Result<GcReport, StoreError> {
        let (mut report, mut last, mut failed) = (GcReport::default(), None, Ok(()));
        loop {
            let vaults = match self {
                Self::Sqlite(sqlite) => sqlite.vaults_to_maintain(last).await,
                Self::Postgres(postgres) => postgres.vaults_to_maintain(last).await,
            }?;
            let Some(end) = vaults.last() else { return failed.map(|()| report) };
            last = Some(*end);
            for vault in vaults {
                match self.gc_vault(vault, options).await {
                    Ok(GcReport { versions, tombstones }) => {
                        report.versions += versions;
                        report.tombstones += tombstones;
                    }
                    Err(error) => failed = failed.and(Err(error)),
                }
            }
        }
    }

    async fn gc_vault(&self, vault: VaultId, options: GcOptions) -> Result<GcReport, StoreError> {
        let versions = self.thin(vault, options).await?;
        let tombstones = match options.tombstone_days {
            0 => Removed::default(),
            _ => self.purge(vault, options).await?,
        };
        Ok(GcReport { tombstones, versions })
    }

    /// Claims the maintenance of the database until a time, for this process alone. Returns false if another one
    /// has claimed it until later than `now`.
    pub async fn claim_maintenance(
        &self,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        match self {
            // One process serves from a file.
            Self::Sqlite(_) => Ok(true),
            Self::Postgres(postgres) => postgres.claim_maintenance(now, until).await,
        }
    }

    /// Removes the replaced versions of a vault that are not kept any longer.
    async fn thin(&self, vault: VaultId, options: GcOptions) -> Result<Removed, StoreError> {
        let (mut removed, mut after) = (Removed::default(), None);
        loop {
            let kept = match self {
                Self::Sqlite(sqlite) => sqlite.kept_versions(vault, after).await,
                Self::Postgres(postgres) => postgres.kept_versions(vault, after).await,
            }?;
            let gone = expired(&kept, options.history_days, options.now);
            for batch in batches(&gone, |one| one.ciphertext_bytes) {
                removed += if options.dry_run {
                    sum(batch, |one| one.ciphertext_bytes)
                } else {
                    let keys = batch.iter().map(|one| (one.record_id.clone(), one.version));
                    self.remove_versions(vault, keys.collect()).await?
                };
            }
            if kept.len() < BATCH_ROWS {
                return Ok(removed);
            }
            // The next part begins with the last version of this one, which could not be judged.
            let before_last = kept.into_iter().nth_back(1);
            after =
                before_last.map(|StoredRevision { record_id, version, .. }| (record_id, version));
        }
    }

    async fn remove_versions(
        &self,
        vault: VaultId,
        keys: Vec<VersionKey>,
    ) -> Result<Removed, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.remove_versions(vault, keys).await,
            Self::Postgres(postgres) => postgres.remove_versions(vault, keys).await,
        }
    }

    /// Removes the old tombstones of a vault.
    async fn purge(&self, vault: VaultId, options: GcOptions) -> Result<Removed, StoreError> {
        let days = i64::try_from(options.tombstone_days).unwrap_or(i64::MAX);
        let age = days.saturating_mul(DAY_MILLIS);
        let written_before = Timestamp::from_millis(options.now.as_millis().saturating_sub(age));
        let (mut removed, mut after) = (Removed::default(), None);
        loop {
            let mut tombstones = match self {
                Self::Sqlite(sqlite) => sqlite.tombstones(vault, after, written_before).await,
                Self::Postgres(postgres) => postgres.tombstones(vault, after, written_before).await,
            }?;
            let is_last = tombstones.len() < BATCH_ROWS;
            after = tombstones.last().map(|one| one.updated_at);
            tombstones.retain(|one| !one.record_id.as_str().starts_with(RESERVED_PREFIX));
            for batch in batches(&tombstones, |one| one.ciphertext_bytes) {
                removed += if options.dry_run {
                    sum(batch, |one| one.ciphertext_bytes)
                } else {
                    self.remove_tombstones(vault, batch.to_vec()).await?
                };
            }
            if is_last {
                return Ok(removed);
            }
        }
    }

    async fn remove_tombstones(
        &self,
        vault: VaultId,
        tombstones: Vec<Tombstone>,
    ) -> Result<Removed, StoreError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.remove_tombstones(vault, tombstones).await,
            Self::Postgres(postgres) => postgres.remove_tombstones(vault, tombstones).await,
        }
    }
}

/// Divides rows into batches of at most [`BATCH_BYTES`].
fn batches<T>(rows: &[T], bytes: impl Fn(&T) -> i64) -> Vec<&[T]> {
    let (mut batches, mut rest) = (Vec::new(), rows);
    while !rest.is_empty() {
        let batch = first_batch(rest, BATCH_BYTES, &bytes);
        batches.push(batch);
        rest = &rest[batch.len()..];
    }
    batches
}

/// The first rows that have at most that many bytes together: at least one, if there is one.
pub(crate) fn first_batch<T>(rows: &[T], bytes_max: i64, bytes: impl Fn(&T) -> i64) -> &[T] {
    let mut sum = 0;
    let fitting = rows.iter().take_while(|row| {
        sum += bytes(row);
        sum <= bytes_max
    });
    &rows[..fitting.count().max(1).min(rows.len())]
}

fn sum<T>(rows: &[T], bytes: impl Fn(&T) -> i64) -> Removed {
    Removed {
        rows: i64::try_from(rows.len()).unwrap_or(i64::MAX),
        bytes: rows.iter().map(bytes).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_before_it_has_too_many_bytes_but_not_before_its_first_row() {
        let check = |bytes: &[i64], expected: &[usize]| {
            let found: Vec<_> =
                batches(bytes, |bytes| *bytes).iter().map(|one| one.len()).collect();
            assert_eq!(found, expected, "{bytes:?}");
        };
        check(&[], &[]);
        check(&[1, 2, 3], &[3]);
        check(&[BATCH_BYTES, 0, 1], &[2, 1]);
        check(&[BATCH_BYTES + 1, BATCH_BYTES + 1, 1], &[1, 1, 1]);
        check(&[1, BATCH_BYTES, 1, 1], &[1, 1, 2]);
    }
}
