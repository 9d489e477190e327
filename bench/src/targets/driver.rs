//! The limit of PostgreSQL: the store's statements through the driver, with one connection per client,
//! without HTTP, JSON, base64, authentication or version checks.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::Instant,
};
use tokio_postgres::{
    Client, NoTls, Statement,
    types::{ToSql, Type},
};
use uuid::Uuid;
use vaultsync_store::{DatabaseUrl, hot_statements, migrate};

use super::{Environment, Target};
use crate::{
    cpu::Processes,
    record_ids::RecordIds,
    tally::Tally,
    workloads::{PULLED_RECORDS, UPDATED_RECORDS, Workload},
};

/// The settings of the store's connections.
const SETTINGS: &str = "set enable_seqscan = off; set enable_hashjoin = off;
    set enable_mergejoin = off; set plan_cache_mode = force_generic_plan";

/// Size of a vault's 32 receipts.
const RECEIPTS_BYTES: usize = 32 * 29;

/// Size of a ciphertext.
const CIPHERTEXT_BYTES: usize = 1024;

/// Maximum size of a page.
const PAGE_BYTES_MAX: i64 = 8 * 1024 * 1024;

const BEGIN: &str = "begin isolation level read committed; set local lock_timeout = 1500; \
     set local statement_timeout = 1800; set local idle_in_transaction_session_timeout = 4000";

/// The target, with one connection per client.
pub(crate) struct Driver {
    runtime: Runtime,
    url: String,
    ids: RecordIds,
    postgres: u32,
    connections: Vec<Connection>,
    /// The vaults that are pulled and their clocks, once they are filled.
    pulled: Vec<(Uuid, i64)>,
}

/// A connection and its vault.
struct Connection {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    ids: RecordIds,
    vault: Uuid,
    clock: i64,
    next: u64,
    updates: u64,
    /// Position of the reader.
    cursor: i64,
    ciphertexts: Arc<Vec<Vec<u8>>>,
}

impl Driver {
    pub(crate) fn start(environment: &Environment) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        environment.postgres().create_database("driver", None);
        let url = environment.postgres().url("driver");
        let address: DatabaseUrl = url.parse().map_err(anyhow::Error::msg)?;
        runtime.block_on(migrate(&address))?;
        let postgres = environment.postgres_process()?;
        let ids = environment.ids;
        Ok(Self { runtime, url, ids, postgres, connections: Vec::new(), pulled: Vec::new() })
    }

    /// Runs one future for each connection, all at the same time.
    fn for_each<T, F>(&mut self, work: impl Fn(Connection) -> F) -> anyhow::Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = anyhow::Result<(Connection, T)>> + Send + 'static,
    {
        let connections = std::mem::take(&mut self.connections);
        let handle = self.runtime.handle().clone();
        let done = self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for connection in connections {
                tasks.spawn_on(work(connection), &handle);
            }
            let mut done = Vec::with_capacity(tasks.len());
            while let Some(ended) = tasks.join_next().await {
                done.push(ended.context("a connection's task panicked")??);
            }
            anyhow::Ok(done)
        })?;
        let (connections, results) = done.into_iter().unzip();
        self.connections = connections;
        Ok(results)
    }
}

impl Target for Driver {
    fn name(&self) -> &'static str {
        "limit: driver"
    }

    fn supports(&self, workload: Workload) -> bool {
        workload != Workload::Mixed
    }

    fn prepare(&mut self, workload: Workload, clients: usize) -> anyhow::Result<()> {
        self.connections.clear();
        for number in 0..clients {
            let mut connection = self.runtime.block_on(Connection::open(&self.url, self.ids))?;
            if workload.only_reads()
                && let Some((vault, clock)) = self.pulled.get(number)
            {
                (connection.vault, connection.clock) = (*vault, *clock);
                connection.next = PULLED_RECORDS;
            }
            self.connections.push(connection);
        }
        let records = match workload {
            Workload::Update100 => UPDATED_RECORDS,
            Workload::PullAll | Workload::PullIdle => PULLED_RECORDS,
            _ => 0,
        };
        let vaults = self.for_each(move |mut connection| async move {
            while connection.next < records {
                connection.insert(100).await?;
            }
            let vault = (connection.vault, connection.clock);
            Ok((connection, vault))
        })?;
        if workload.only_reads() {
            self.pulled = vaults;
        }
        Ok(())
    }

    fn run(&mut self, workload: Workload, time: Duration) -> anyhow::Result<Tally> {
        let started = Instant::now();
        let until = started + time;
        let tallies = self.for_each(move |mut connection| async move {
            let mut tally = Tally::default();
            let mut last = Instant::now();
            while last < until {
                let records = connection.step(workload).await?;
                let now = Instant::now();
                tally.add_request(now - last, records);
                last = now;
            }
            Ok((connection, tally))
        })?;
        let mut total = Tally::default();
        for tally in tallies {
            total.merge(tally);
        }
        total.elapsed = started.elapsed();
        Ok(total)
    }

    fn processes(&self) -> Processes {
        // This process runs the driver, and does nothing else meanwhile.
        Processes(vec![std::process::id(), self.postgres])
    }
}

impl Connection {
    async fn open(url: &str, ids: RecordIds) -> anyhow::Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(SETTINGS).await?;
        let mut statements = HashMap::new();
        for (name, text) in hot_statements() {
            // Without types, the database infers small integers for the bounds of a page.
            let types: &[Type] = if name == "page" {
                &[Type::UUID, Type::INT8, Type::INT8, Type::INT8]
            } else {
                &[]
            };
            statements.insert(name, client.prepare_typed(text, types).await?);
        }
        let mut ciphertexts = vec![vec![0; CIPHERTEXT_BYTES]; 100];
        for ciphertext in &mut ciphertexts {
            getrandom::fill(ciphertext)?;
        }
        let (vault, ciphertexts) = (Uuid::new_v4(), Arc::new(ciphertexts));
        Ok(Self {
            client,
            statements,
            ids,
            vault,
            clock: 0,
            next: 0,
            updates: 0,
            cursor: i64::MIN,
            ciphertexts,
        })
    }

    async fn step(&mut self, workload: Workload) -> anyhow::Result<u64> {
        match workload {
            Workload::Push1 => self.insert(1).await,
            Workload::Push100 => self.insert(100).await,
            Workload::Update100 => {
                let batches = UPDATED_RECORDS / 100;
                let (batch, base) = (self.updates % batches, self.updates / batches + 1);
                self.updates += 1;
                self.push(batch * 100, 100, i64::try_from(base)?).await
            }
            Workload::PullAll => self.page().await,
            Workload::PullIdle => {
                let rows = self.client.query(&self.statements["head"], &[&self.vault]).await?;
                ensure!(rows.len() == 1, "the vault does not exist");
                Ok(0)
            }
            Workload::Mixed => Ok(0),
        }
    }

    async fn insert(&mut self, size: u64) -> anyhow::Result<u64> {
        let first = self.next;
        self.next += size;
        self.push(first, size, 0).await
    }

    /// Sends the statements of a push in two round trips, like the store.
    async fn push(&mut self, first: u64, size: u64, base: i64) -> anyhow::Result<u64> {
        let count = usize::try_from(size)?;
        let ids: Vec<String> = (first..first + size).map(|number| self.ids.id(number)).collect();
        let (next, lengths) = (vec![base + 1], vec![i32::try_from(CIPHERTEXT_BYTES)?; count]);
        let (issuer, subject, epoch) = ("bench", "driver", self.vault);
        let lock: [&(dyn ToSql + Sync); 4] = [&self.vault, &issuer, &subject, &epoch];
        let heads: [&(dyn ToSql + Sync); 4] = [&self.vault, &ids, &next, &lengths];
        let (began, locked, _) = tokio::try_join!(
            biased;
            self.client.batch_execute(BEGIN),
            self.client.query(&self.statements["lock"], &lock),
            self.client.query(&self.statements["record states"], &heads),
        )?;
        let () = began;
        ensure!(locked.len() == 1, "the vault does not exist");
        let from = self.clock + 1;
        self.clock += i64::try_from(size)?;
        let updated_at: Vec<i64> = (from..=self.clock).collect();
        let (versions, deleted) = (vec![base + 1; count], vec![false; count]);
        let ciphertexts: Vec<&[u8]> =
            self.ciphertexts.iter().take(count).map(Vec::as_slice).collect();
        let write: [&(dyn ToSql + Sync); 6] =
            [&self.vault, &ids, &versions, &deleted, &ciphertexts, &updated_at];
        let receipts = vec![0_u8; RECEIPTS_BYTES];
        let save: [&(dyn ToSql + Sync); 3] = [&self.vault, &self.clock, &receipts];
        let statement = if base == 0 { "insert" } else { "write" };
        let (written, saved, committed) = tokio::try_join!(
            biased;
            self.client.execute(&self.statements[statement], &write),
            self.client.execute(&self.statements["update vault"], &save),
            self.client.batch_execute("commit"),
        )?;
        let () = committed;
        ensure!((written, saved) == (size, 1), "an unexpected number of rows was written");
        Ok(size)
    }

    /// Reads the next page of the vault; after the last page it starts again.
    async fn page(&mut self) -> anyhow::Result<u64> {
        let (limit, cursor) = (100_i64, self.cursor);
        let page: [&(dyn ToSql + Sync); 4] = [&self.vault, &cursor, &limit, &PAGE_BYTES_MAX];
        let rows = self.client.query(&self.statements["page"], &page).await?;
        ensure!(rows.len() == 100, "the page has {} records", rows.len());
        let mut bytes = 0;
        for row in &rows {
            bytes += row.try_get::<_, &[u8]>(7)?.len();
        }
        ensure!(bytes == 100 * CIPHERTEXT_BYTES, "the page has {bytes} bytes");
        let (found, last) = (rows[0].try_get::<_, i64>(2)?, rows[99].try_get::<_, i64>(6)?);
        self.cursor = if found > 100 { last } else { i64::MIN };
        Ok(100)
    }
}
