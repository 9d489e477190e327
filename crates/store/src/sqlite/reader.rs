//! Reads of a file beside a server that serves from it, for operators' commands.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use vaultsync_protocol::{Epoch, Pull, Usage, VaultSummary};

use super::{Sqlite, check, health::is_damage, open, pull, revisions, usage, users, vaults};
use crate::{
    OpenError, PullOutcome, RevisionsOutcome, RevisionsRequest, StoreError, Unbounded, UserSummary,
    Vault, VaultId, migrations,
};

/// Ciphertext of one page, in bytes.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// A connection of a command. It takes no lock that a server has.
pub struct SqliteReader {
    path: PathBuf,
    connection: Connection,
}

impl SqliteReader {
    /// Opens the file.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let path = std::path::absolute(path)
            .map_err(|error| OpenError::Io { path: path.to_owned(), error })?;
        if let Err(error) = std::fs::metadata(&path) {
            return Err(OpenError::Io { path, error });
        }
        let to_open_error = |failed: rusqlite::Error| open::error(&path, &failed);
        let connection = check::open_beside(&path).map_err(to_open_error)?;
        if !open::is_marked(&connection).map_err(to_open_error)? {
            let reason = "it is not marked as one".to_owned();
            return Err(OpenError::Foreign { path, reason });
        }
        let newest = "select coalesce(max(version), 0) from refinery_schema_history";
        let version: i64 =
            connection.query_row(newest, [], |row| row.get(0)).map_err(to_open_error)?;
        if version != migrations::newest_of_sqlite() {
            return Err(OpenError::Database {
                database: path.display().to_string(),
                message:
                    "another version of Vaultsync has written it: start the server of this version \
                          once, which upgrades it"
                        .to_owned(),
            });
        }
        Ok(Self { path, connection })
    }

    pub(crate) fn users(
        &self,
        issuer: &str,
        subject: &str,
    ) -> Result<Vec<UserSummary>, StoreError> {
        self.read(|connection| users::list(connection, issuer, subject))
    }

    /// The vaults of a vault's user.
    pub fn vaults(&self, of: &Vault) -> Result<Vec<VaultSummary>, StoreError> {
        self.read(|connection| vaults::list(connection, of))
    }

    pub(crate) fn usage(&self, vault: VaultId) -> Result<Usage, StoreError> {
        self.read(|connection| usage::read(connection, vault))
    }

    pub(crate) fn pull(&self, vault: VaultId, pull: &Pull) -> Result<PullOutcome, StoreError> {
        self.read(|connection| {
            let mut limits =
                pull::Limits { bytes_max: PAGE_BYTES_MAX, until: None, budget: &mut Unbounded };
            pull::read_page(connection, vault, pull, &mut limits)
        })
    }

    pub(crate) fn revisions(
        &self,
        vault: VaultId,
        request: &RevisionsRequest,
    ) -> Result<RevisionsOutcome, StoreError> {
        self.read(|connection| {
            revisions::read_page(connection, vault, request, PAGE_BYTES_MAX, &mut Unbounded)
        })
    }

    /// Asks the server that serves from the file to erase vaults if they have these epochs. It does so within
    /// seconds: only it changes the rows of vaults.
    pub fn request_erasure(&self, vaults: &[(Vault, Epoch)]) -> Result<(), StoreError> {
        self.read(|connection| {
            let request = "insert or ignore into erase_requests (vault_id, epoch) values (?1, ?2)";
            let mut insert = connection.prepare_cached(request)?;
            vaults.iter().try_for_each(|(vault, epoch)| {
                insert.execute([vault.id().as_bytes(), epoch.as_bytes()]).map(drop)
            })
        })
    }

    fn read<T>(
        &self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let of = |error: rusqlite::Error| {
            let is_damaged = is_damage(&error);
            let message = error.to_string();
            if is_damaged {
                StoreError::Internal(message)
            } else {
                StoreError::Unavailable(message)
            }
        };
        run(&self.connection).map_err(of)
    }
}

impl std::fmt::Debug for SqliteReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteReader").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Sqlite {
    pub(crate) async fn users(
        &self,
        issuer: &str,
        subject: &str,
    ) -> Result<Vec<UserSummary>, StoreError> {
        let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
        self.read_blocking(move |connection| users::list(connection, &issuer, &subject)).await
    }
}
