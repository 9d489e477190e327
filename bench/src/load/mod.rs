//! The load generator: clients in a closed loop, each with its own connection.
//!
//! It shares the processors with the server that it measures, so it runs on one thread, sends prepared
//! bytes, and parses no more of a response than it needs.

mod client;
mod connection;
mod event_streams;
mod requests;

pub(crate) use client::{Client, User};
pub(crate) use connection::Connection;
pub(crate) use event_streams::open_event_streams;
pub(crate) use requests::{parse_page_end, write_pull};

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::Instant,
};

use crate::{tally::Tally, workloads::Workload};

/// The clients of one target, and the thread that drives them.
#[derive(Debug)]
pub(crate) struct LoadGenerator {
    runtime: Runtime,
    clients: Vec<Client>,
}

impl LoadGenerator {
    /// A generator without clients.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, clients: Vec::new() })
    }

    /// The runtime that drives the clients.
    pub(crate) const fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Replaces the clients, and prepares their vaults for a workload.
    pub(crate) fn prepare(
        &mut self,
        workload: Workload,
        clients: Vec<Client>,
    ) -> anyhow::Result<()> {
        self.clients = self.for_each(clients, move |mut client| async move {
            client.prepare(workload).await?;
            Ok(client)
        })?;
        Ok(())
    }

    /// Runs the workload for some time: every client makes one request after the other.
    pub(crate) fn run(&mut self, workload: Workload, time: Duration) -> anyhow::Result<Tally> {
        let clients = std::mem::take(&mut self.clients);
        ensure!(!clients.is_empty(), "there are no clients: an earlier window has failed");
        let started = Instant::now();
        let until = started + time;
        let done = self.for_each(clients, move |mut client| async move {
            let tally = client.run(workload, until).await?;
            Ok((client, tally))
        })?;
        let mut total = Tally::default();
        for (client, tally) in done {
            self.clients.push(client);
            total.merge(tally);
        }
        total.elapsed = started.elapsed();
        Ok(total)
    }

    /// Replaces the clients, and reconnects the new ones.
    pub(crate) fn set_clients(&mut self, clients: Vec<Client>) -> anyhow::Result<()> {
        self.clients = self.for_each(clients, |mut client| async move {
            client.reconnect().await?;
            Ok(client)
        })?;
        Ok(())
    }

    /// Takes the clients back; there are none if a window has failed.
    pub(crate) fn take_clients(&mut self) -> Vec<Client> {
        std::mem::take(&mut self.clients)
    }

    /// Fills the vaults: each client inserts the given number of records for each of its users, and reads up
    /// to the head. If all clients are devices of one user, one of them reads for all.
    pub(crate) fn fill(
        &self,
        clients: Vec<(Client, u64)>,
        one_user: bool,
    ) -> anyhow::Result<Vec<Client>> {
        let catch_up = |mut client: Client| async move {
            client.catch_up().await?;
            Ok(client)
        };
        let mut clients = self.for_each(clients, |(mut client, records)| async move {
            client.fill(records).await?;
            Ok(client)
        })?;
        if !one_user {
            return self.for_each(clients, catch_up);
        }
        let last = clients.split_off(clients.len().saturating_sub(1));
        let mut last = self.for_each(last, catch_up)?;
        if let Some(reader) = last.first() {
            for client in &mut clients {
                client.copy_cursors(reader);
            }
        }
        clients.append(&mut last);
        Ok(clients)
    }

    /// Runs one future for each item, all at the same time.
    fn for_each<I, T, F>(&self, items: Vec<I>, work: impl Fn(I) -> F) -> anyhow::Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for item in items {
                tasks.spawn(work(item));
            }
            let mut results = Vec::with_capacity(tasks.len());
            while let Some(ended) = tasks.join_next().await {
                results.push(ended.context("a client panicked")??);
            }
            Ok(results)
        })
    }
}
