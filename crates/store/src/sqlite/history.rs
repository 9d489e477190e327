//! The statements that read the history.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use vaultsync_protocol::{
    Ciphertext, Cursor, FoundVersion, HistoryQuery, HistoryRequest, KeptVersion, PastStates,
    RecordHistory, RecordId, RecordVersion, Version,
};

use super::{
    Sqlite, VaultKey,
    pull::read_row,
    rows::{digest, length, optional_time, record_id, time, version},
};
use crate::{
    HistoryOutcome, ReadBudget, StoreError, VaultId,
    history_page::HistoryPage,
    pull::{VaultHead, is_another_epoch, rows_max},
    rewind::{CurrentRecord, StatesPage},
};

impl Sqlite {
    /// Reads what a request asks for.
    pub(crate) async fn history<R: ReadBudget>(
        &self,
        vault: VaultId,
        request: &HistoryRequest,
        mut budget: R,
    ) -> Result<(HistoryOutcome, R), StoreError> {
        let request = request.clone();
        self.read_blocking(move |connection| {
            read(connection, vault, &request, &mut budget).map(|outcome| (outcome, budget))
        })
        .await
    }
}

/// Reads what a request asks for, all of it from one snapshot.
fn read<R: ReadBudget>(
    connection: &Connection,
    vault: VaultId,
    request: &HistoryRequest,
    budget: &mut R,
) -> rusqlite::Result<HistoryOutcome> {
    let snapshot = connection.unchecked_transaction()?;
    let (key, head) = read_row(&snapshot, vault)?.unzip();
    if is_another_epoch(request.epoch.as_ref(), head) {
        return Ok(HistoryOutcome::EpochChanged);
    }
    let vault = Snapshot { connection: &snapshot, key, head };
    Ok(match &request.query {
        HistoryQuery::Versions { record_id, before, limit } => {
            HistoryOutcome::Versions(vault.versions(record_id, *before, *limit, budget)?)
        }
        HistoryQuery::Version { record_id, version } => {
            HistoryOutcome::Version(vault.version(record_id, *version, budget)?)
        }
        HistoryQuery::States { at, after, limit } => {
            HistoryOutcome::States(vault.states(*at, after.as_ref(), *limit, budget)?)
        }
    })
}

/// A vault in one snapshot of the database.
struct Snapshot<'a> {
    connection: &'a Connection,
    /// `None` if the vault does not exist.
    key: Option<VaultKey>,
    head: Option<VaultHead>,
}

impl Snapshot<'_> {
    fn versions<R: ReadBudget>(
        &self,
        record_id: &RecordId,
        before: Option<Version>,
        limit: usize,
        budget: &mut R,
    ) -> rusqlite::Result<RecordHistory> {
        let mut page = HistoryPage::new(self.head, record_id, limit, budget);
        if let Some(VaultKey(key)) = self.key {
            // `length` reads the row's header only.
            let mut select = self.connection.prepare_cached(
                "select version, deleted, updated_at, replaced_at, length(ciphertext), digest
                 from revisions where vault_key = ?1 and record_id = ?2 and version < ?3
                 order by version desc limit ?4",
            )?;
            let before = before.map_or(i64::MAX, Version::get);
            let mut rows =
                select.query(params![key, record_id.as_str(), before, rows_max(limit)])?;
            while let Some(row) = rows.next()?
                && page.add(kept(row)?)
            {}
        }
        Ok(page.finish())
    }

    /// The current row and the kept ones are in one snapshot, so the version is in one of them or in none.
    fn version<R: ReadBudget>(
        &self,
        record_id: &RecordId,
        version: Version,
        budget: &mut R,
    ) -> rusqlite::Result<FoundVersion> {
        let record = match self.key {
            Some(VaultKey(key)) => self
                .connection
                .prepare_cached(
                    "select deleted, updated_at, null, digest, ciphertext from records
                     where vault_key = ?1 and record_id = ?2 and version = ?3
                     union all
                     select deleted, updated_at, replaced_at, digest, ciphertext from revisions
                     where vault_key = ?1 and record_id = ?2 and version = ?3",
                )?
                .query_row(params![key, record_id.as_str(), version.get()], |row| {
                    record_version(row, record_id, version, budget)
                })
                .optional()?,
            None => None,
        };
        let (epoch, head) = self.head.map(|head| (head.epoch, head.clock)).unzip();
        Ok(FoundVersion { record, epoch, head })
    }

    fn states<R: ReadBudget>(
        &self,
        at: Cursor,
        after: Option<&RecordId>,
        limit: usize,
        budget: &mut R,
    ) -> rusqlite::Result<PastStates> {
        let mut page = StatesPage::new(self.head, at, limit, budget);
        if let Some(VaultKey(key)) = self.key {
            // The ciphertext is the last column, and is not read.
            let mut select = self.connection.prepare_cached(
                "select record_id, version, updated_at, created_at from records
                 where vault_key = ?1 and record_id > ?2 order by record_id limit ?3",
            )?;
            // Every id is later than the empty one.
            let after = after.map_or("", RecordId::as_str);
            let mut rows = select.query(params![key, after, rows_max(limit)])?;
            while let Some(row) = rows.next()? {
                let record = current(row)?;
                let kept = if record.has_changed(at) {
                    self.newest_kept(&record.record_id, at)?
                } else {
                    None
                };
                if !page.look_at(record, kept) {
                    break;
                }
            }
        }
        Ok(page.finish())
    }

    /// The newest kept version of a record that is not later than the cursor.
    fn newest_kept(
        &self,
        record_id: &RecordId,
        at: Cursor,
    ) -> rusqlite::Result<Option<KeptVersion>> {
        let Some(VaultKey(key)) = self.key else { return Ok(None) };
        self.connection
            .prepare_cached(
                "select version, deleted, updated_at, replaced_at, length(ciphertext), digest
                 from revisions where vault_key = ?1 and record_id = ?2 and updated_at <= ?3
                 order by version desc limit 1",
            )?
            .query_row(params![key, record_id.as_str(), at.timestamp().as_millis()], kept)
            .optional()
    }
}

fn kept(row: &Row<'_>) -> rusqlite::Result<KeptVersion> {
    Ok(KeptVersion {
        version: version(row, 0)?,
        deleted: row.get(1)?,
        updated_at: time(row, 2)?,
        replaced_at: time(row, 3)?,
        bytes: length(row, 4)?,
        digest: digest(row, 5)?,
    })
}

fn current(row: &Row<'_>) -> rusqlite::Result<CurrentRecord> {
    Ok(CurrentRecord {
        record_id: record_id(row, 0)?,
        version: version(row, 1)?,
        updated_at: time(row, 2)?,
        created_at: optional_time(row, 3)?,
    })
}

/// As the first record of a page, the version is returned even if `budget` has no room for it.
fn record_version(
    row: &Row<'_>,
    record_id: &RecordId,
    version: Version,
    budget: &mut impl ReadBudget,
) -> rusqlite::Result<RecordVersion> {
    let ciphertext = row.get_ref(4)?.as_blob()?;
    budget.take(ciphertext.len());
    Ok(RecordVersion {
        record_id: record_id.clone(),
        version,
        deleted: row.get(0)?,
        ciphertext: Ciphertext::from_bytes(ciphertext.to_vec()),
        updated_at: time(row, 1)?,
        replaced_at: optional_time(row, 2)?,
        digest: digest(row, 3)?,
    })
}
