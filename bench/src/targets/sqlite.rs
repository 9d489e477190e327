//! The limits of SQLite: one thread with prepared statements on the store's tables that syncs each commit,
//! without HTTP, JSON, base64, authentication or version checks.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use rusqlite::{Connection, params};
use tokio::{runtime::Builder, time::Instant};
use uuid::Uuid;
use vaultsync_protocol::{Epoch, RecordDigest};
use vaultsync_store::{Store, StoreOptions};

use super::{Environment, Target};
use crate::{
    cpu::Processes,
    record_ids::RecordIds,
    tally::Tally,
    workloads::{PULLED_RECORDS, Workload},
};

const CIPHERTEXT_BYTES: usize = 1024;

/// Size of a vault's 32 receipts.
const RECEIPTS_BYTES: usize = 32 * 29;

/// A way to use SQLite.
pub(crate) struct Sqlite {
    name: &'static str,
    path: PathBuf,
    connection: Connection,
    /// Number of requests that share a commit; `None` if it only reads.
    batch: Option<usize>,
    ids: RecordIds,
    vaults: Vec<Vault>,
    ciphertext: Vec<u8>,
    next_vault: usize,
}

struct Vault {
    id: Uuid,
    /// The key of its row and records.
    key: i64,
    next: u64,
    clock: i64,
    /// Position of the reader.
    cursor: i64,
}

/// Starts all ways, each with its own file.
pub(crate) fn start(environment: &Environment) -> anyhow::Result<Vec<Box<dyn Target>>> {
    let ways = [
        ("limit: SQLite FULL, 1 request a commit", Some(1)),
        ("limit: SQLite FULL, 8 requests a commit", Some(8)),
        ("limit: SQLite FULL, 64 requests a commit", Some(64)),
        ("limit: SQLite query", None),
    ];
    let folder = environment.folder("limits")?;
    let mut all: Vec<Box<dyn Target>> = Vec::new();
    for (number, (name, batch)) in ways.into_iter().enumerate() {
        let path = folder.join(format!("{number}.sqlite3"));
        all.push(Box::new(Sqlite::open(name, path, batch, environment.ids)?));
    }
    Ok(all)
}

impl Sqlite {
    fn open(
        name: &'static str,
        path: PathBuf,
        batch: Option<usize>,
        ids: RecordIds,
    ) -> anyhow::Result<Self> {
        // The store creates the tables.
        let new_epoch = || Epoch::from_bytes([0; 16]);
        let store = Store::open_sqlite(
            path.clone(),
            StoreOptions { page_bytes_max: 1, ..StoreOptions::new(new_epoch) },
        )?;
        Builder::new_current_thread().build()?.block_on(store.close());
        drop(store);
        let connection = Connection::open(&path)?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.set_prepared_statement_cache_capacity(32);
        let mut ciphertext = vec![0; CIPHERTEXT_BYTES];
        getrandom::fill(&mut ciphertext)?;
        let (vaults, next_vault) = (Vec::new(), 0);
        Ok(Self { name, path, connection, batch, ids, vaults, ciphertext, next_vault })
    }

    fn new_vaults(&mut self, count: usize) -> anyhow::Result<()> {
        self.vaults.clear();
        for _ in 0..count {
            let id = Uuid::new_v4();
            self.connection.execute(
                "insert into vaults (vault_id, issuer, subject, clock, epoch)
                 values (?1, 'bench', 'sqlite', 0, ?1)",
                [id.as_bytes()],
            )?;
            let key = self.connection.last_insert_rowid();
            self.vaults.push(Vault { id, key, next: 0, clock: 0, cursor: i64::MIN });
        }
        Ok(())
    }

    /// Commits `batch` pushes of `size` new records, each push to another vault.
    fn commit(&mut self, batch: usize, size: u64) -> rusqlite::Result<()> {
        self.connection.execute_batch("begin immediate")?;
        for _ in 0..batch {
            let vault = self.advance();
            let vault = &mut self.vaults[vault];
            let numbers = vault.next..vault.next + size;
            vault.next += size;
            let ids: Vec<String> = numbers.map(|number| self.ids.id(number)).collect();
            push(&self.connection, vault, &ids, &self.ciphertext)?;
        }
        self.connection.execute_batch("commit")
    }

    /// Selects the next vault.
    fn advance(&mut self) -> usize {
        self.next_vault = (self.next_vault + 1) % self.vaults.len();
        self.next_vault
    }

    fn page(&mut self) -> anyhow::Result<u64> {
        let vault = self.advance();
        let vault = &mut self.vaults[vault];
        let mut select = self.connection.prepare_cached(
            "select record_id, version, deleted, updated_at, ciphertext from records
             where vault_key = ?1 and updated_at > ?2 order by updated_at limit 101",
        )?;
        let mut rows = select.query(params![vault.key, vault.cursor])?;
        let (mut count, mut bytes, mut last) = (0, 0, i64::MIN);
        let mut has_more = false;
        while let Some(row) = rows.next()? {
            has_more = count == 100;
            if has_more {
                break;
            }
            count += 1;
            bytes += row.get_ref(0)?.as_str()?.len() + row.get_ref(4)?.as_blob()?.len();
            last = row.get(3)?;
        }
        ensure!(count == 100 && bytes > 100 * CIPHERTEXT_BYTES, "the page has {count} records");
        vault.cursor = if has_more { last } else { i64::MIN };
        Ok(count)
    }

    fn read_head(&mut self) -> anyhow::Result<()> {
        let vault = self.advance();
        let vault = &self.vaults[vault];
        let mut select = self
            .connection
            .prepare_cached("select epoch, clock from vaults where vault_id = ?1")?;
        let clock: i64 = select.query_row([vault.id.as_bytes()], |row| row.get(1))?;
        ensure!(clock == vault.clock, "the clock of the vault is {clock}");
        Ok(())
    }
}

/// Runs the statements of one push of new records.
fn push(
    connection: &Connection,
    vault: &mut Vault,
    ids: &[String],
    ciphertext: &[u8],
) -> rusqlite::Result<()> {
    let (id, key) = (vault.id.as_bytes(), vault.key);
    connection
        .prepare_cached("select clock, epoch, receipts from vaults where vault_id = ?1")?
        .query_row([id], |row| row.get_ref(2).map(|_| ()))?;
    let mut select = connection.prepare_cached(
        "select version, deleted, length(ciphertext), digest from records
         where vault_key = ?1 and record_id = ?2",
    )?;
    let mut upsert = connection.prepare_cached(
        "insert into records (vault_key, record_id, version, deleted, updated_at, digest, created_at,
           written_at, ciphertext)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?5, ?5, ?7)
         on conflict (vault_key, record_id) do update set version = excluded.version,
           deleted = excluded.deleted, updated_at = excluded.updated_at, digest = excluded.digest,
           written_at = excluded.written_at, ciphertext = excluded.ciphertext
         where version = excluded.version - 1",
    )?;
    for record_id in ids {
        if select.exists(params![key, record_id])? {
            return Err(rusqlite::Error::StatementChangedRows(0));
        }
    }
    for record_id in ids {
        vault.clock += 1;
        upsert.execute(params![
            key,
            record_id,
            1,
            false,
            vault.clock,
            [0_u8; RecordDigest::BYTES],
            ciphertext
        ])?;
    }
    connection
        .prepare_cached("update vaults set clock = ?2, receipts = ?3 where vault_id = ?1")?
        .execute(params![id, vault.clock, [0_u8; RECEIPTS_BYTES]])?;
    Ok(())
}

impl Target for Sqlite {
    fn name(&self) -> &'static str {
        self.name
    }

    fn supports(&self, workload: Workload) -> bool {
        match workload {
            Workload::Push1 => self.batch.is_some(),
            Workload::Push100 => self.batch.is_some_and(|batch| batch <= 8),
            Workload::PullAll | Workload::PullIdle => self.batch.is_none(),
            Workload::Update100 | Workload::Mixed => false,
        }
    }

    fn prepare(&mut self, workload: Workload, clients: usize) -> anyhow::Result<()> {
        if !workload.only_reads() {
            return self.new_vaults(clients.max(self.batch.unwrap_or(1)));
        }
        if self.vaults.is_empty() {
            self.new_vaults(clients)?;
            for _ in 0..PULLED_RECORDS / 100 {
                self.commit(clients, 100)?;
            }
        }
        Ok(())
    }

    fn run(&mut self, workload: Workload, time: Duration) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let started = Instant::now();
        let mut last = started;
        while last < started + time {
            let (requests, records) = match (workload, self.batch) {
                (Workload::PullAll, _) => (1, self.page()?),
                (Workload::PullIdle, _) => {
                    self.read_head()?;
                    (1, 0)
                }
                (_, batch) => {
                    let batch = batch.unwrap_or(1);
                    let size = if workload == Workload::Push1 { 1 } else { 100 };
                    self.commit(batch, size)?;
                    (batch, size)
                }
            };
            let now = Instant::now();
            // Requests that share a commit all wait for it.
            (0..requests).for_each(|_| tally.add_request(now - last, records));
            last = now;
        }
        tally.elapsed = started.elapsed();
        Ok(tally)
    }

    fn processes(&self) -> Processes {
        Processes(vec![std::process::id()])
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // A file of gigabytes should not stay until the whole run ends.
        let _ = std::fs::remove_file(&self.path);
    }
}
