//! The limit of PostgreSQL: the statements of the store through the driver, on 8 connections and more,
//! without HTTP, JSON, base64, sign-in or judgement.

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

use super::{Bench, Target};
use crate::{
    cpu::Processes,
    tally::Tally,
    workloads::{PULLED_RECORDS, UPDATED_RECORDS, Workload},
};

/// As the store sets its connections.
const SETTINGS: &str = "set enable_seqscan = off; set enable_hashjoin = off;
    set enable_mergejoin = off; set plan_cache_mode = force_generic_plan";

/// What a vault remembers of its last 32 pushes.
const RECEIPTS_BYTES: usize = 32 * 29;

/// Ciphertext of a record.
const CIPHERTEXT_BYTES: usize = 1024;

/// What a page holds at most.
const PAGE_BYTES_MAX: i64 = 8 * 1024 * 1024;

const BEGIN: &str = "begin isolation level read committed; set local lock_timeout = 1500; \
     set local statement_timeout = 1800; set local idle_in_transaction_session_timeout = 4000";

/// The limit, with a connection for each client.
pub(crate) struct Driver {
    runtime: Runtime,
    url: String,
    postgres: u32,
    lanes: Vec<Lane>,
    /// The vaults that are pulled, once they are filled.
    pulled: Vec<(Uuid, i64)>,
}

/// One connection and its vault.
struct Lane {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    vault: Uuid,
    clock: i64,
    next: u64,
    updates: u64,
    /// Where a walk through the vault is.
    cursor: i64,
    ciphertexts: Arc<Vec<Vec<u8>>>,
}

impl Driver {
    pub(crate) fn start(bench: &Bench) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        bench.postgres().create_database("driver", None);
        let url = bench.postgres().url("driver");
        let address: DatabaseUrl = url.parse().map_err(anyhow::Error::msg)?;
        runtime.block_on(migrate(&address))?;
        let postgres = bench.postgres_process()?;
        Ok(Self { runtime, url, postgres, lanes: Vec::new(), pulled: Vec::new() })
    }

    /// Lets every lane work at the same time.
    fn each<T, F>(&mut self, work: impl Fn(Lane) -> F) -> anyhow::Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = anyhow::Result<(Lane, T)>> + Send + 'static,
    {
        let lanes = std::mem::take(&mut self.lanes);
        let handle = self.runtime.handle().clone();
        let done = self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for lane in lanes {
                tasks.spawn_on(work(lane), &handle);
            }
            let mut done = Vec::with_capacity(tasks.len());
            while let Some(ended) = tasks.join_next().await {
                done.push(ended.context("a lane panicked")??);
            }
            anyhow::Ok(done)
        })?;
        let (lanes, results) = done.into_iter().unzip();
        self.lanes = lanes;
        Ok(results)
    }
}

impl Target for Driver {
    fn name(&self) -> &'static str {
        "limit: driver"
    }

    fn takes(&self, workload: Workload) -> bool {
        workload != Workload::Mixed
    }

    fn prepare(&mut self, workload: Workload, clients: usize) -> anyhow::Result<()> {
        self.lanes.clear();
        for number in 0..clients {
            let lane = self.runtime.block_on(Lane::open(&self.url))?;
            self.lanes.push(lane);
            if workload.only_reads()
                && let Some((vault, clock)) = self.pulled.get(number)
                && let Some(lane) = self.lanes.last_mut()
            {
                (lane.vault, lane.clock, lane.next) = (*vault, *clock, PULLED_RECORDS);
            }
        }
        let records = match workload {
            Workload::Update100 => UPDATED_RECORDS,
            Workload::PullAll | Workload::PullIdle => PULLED_RECORDS,
            _ => 0,
        };
        let vaults = self.each(move |mut lane| async move {
            while lane.next < records {
                lane.insert(100).await?;
            }
            let vault = (lane.vault, lane.clock);
            Ok((lane, vault))
        })?;
        if workload.only_reads() {
            self.pulled = vaults;
        }
        Ok(())
    }

    fn run(&mut self, workload: Workload, time: Duration) -> anyhow::Result<Tally> {
        let begun = Instant::now();
        let until = begun + time;
        let tallies = self.each(move |mut lane| async move {
            let mut tally = Tally::default();
            let mut last = Instant::now();
            while last < until {
                let records = lane.step(workload).await?;
                let now = Instant::now();
                tally.request(now - last, records);
                last = now;
            }
            Ok((lane, tally))
        })?;
        let mut all = Tally::default();
        for tally in tallies {
            all.add(tally);
        }
        all.elapsed = begun.elapsed();
        Ok(all)
    }

    fn processes(&self) -> Processes {
        // This process is the other end of the driver, and does nothing else meanwhile.
        Processes(vec![std::process::id(), self.postgres])
    }
}

impl Lane {
    async fn open(url: &str) -> anyhow::Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(SETTINGS).await?;
        let mut statements = HashMap::new();
        for (name, text) in hot_statements() {
            // Left to itself the database takes the page's bounds for small integers.
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
                let rows = self.client.query(&self.statements["look"], &[&self.vault]).await?;
                ensure!(rows.len() == 1, "a vault that is not there");
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

    /// The two flights of a push, as the store sends them.
    async fn push(&mut self, first: u64, size: u64, base: i64) -> anyhow::Result<u64> {
        let count = usize::try_from(size)?;
        let ids: Vec<String> = (first..first + size).map(|n| format!("record-{n:012}")).collect();
        let (next, lengths) = (vec![base + 1], vec![i32::try_from(CIPHERTEXT_BYTES)?; count]);
        let (issuer, subject, epoch) = ("bench", "driver", self.vault);
        let lock: [&(dyn ToSql + Sync); 4] = [&self.vault, &issuer, &subject, &epoch];
        let heads: [&(dyn ToSql + Sync); 4] = [&self.vault, &ids, &next, &lengths];
        let (begun, locked, _) = tokio::try_join!(
            biased;
            self.client.batch_execute(BEGIN),
            self.client.query(&self.statements["lock"], &lock),
            self.client.query(&self.statements["heads"], &heads),
        )?;
        let () = begun;
        ensure!(locked.len() == 1, "a vault that is not there");
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
            self.client.execute(&self.statements["save"], &save),
            self.client.batch_execute("commit"),
        )?;
        let () = committed;
        ensure!((written, saved) == (size, 1), "other rows were written");
        Ok(size)
    }

    /// The next page of the vault; from the start again after the last.
    async fn page(&mut self) -> anyhow::Result<u64> {
        let (limit, cursor) = (100_i64, self.cursor);
        let page: [&(dyn ToSql + Sync); 4] = [&self.vault, &cursor, &limit, &PAGE_BYTES_MAX];
        let rows = self.client.query(&self.statements["page"], &page).await?;
        ensure!(rows.len() == 100, "a page of {} records", rows.len());
        let mut bytes = 0;
        for row in &rows {
            bytes += row.try_get::<_, &[u8]>(7)?.len();
        }
        ensure!(bytes == 100 * CIPHERTEXT_BYTES, "a page of {bytes} bytes");
        let (found, last) = (rows[0].try_get::<_, i64>(2)?, rows[99].try_get::<_, i64>(6)?);
        self.cursor = if found > 100 { last } else { i64::MIN };
        Ok(100)
    }
}
