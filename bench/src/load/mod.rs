//! The load generator: clients in a closed loop, each with a connection of its own.
//!
//! It shares the processors with what it measures, so it runs on one thread, sends bytes that were made
//! before, and looks at no more of an answer than it needs.

mod bodies;
mod clients;
mod http;
mod streams;

pub(crate) use clients::{Client, User};
pub(crate) use http::Connection;
pub(crate) use streams::open_streams;

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
pub(crate) struct Generator {
    runtime: Runtime,
    clients: Vec<Client>,
}

impl Generator {
    /// Without clients yet.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, clients: Vec::new() })
    }

    /// The thread that drives the clients.
    pub(crate) const fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Lets these clients do the work from now on, once each has what the workload needs to be there.
    pub(crate) fn prepare(
        &mut self,
        workload: Workload,
        clients: Vec<Client>,
    ) -> anyhow::Result<()> {
        self.clients = self.each(clients, move |mut client| async move {
            client.prepare(workload).await?;
            Ok(client)
        })?;
        Ok(())
    }

    /// Has every client make requests, one after the other, for that long.
    pub(crate) fn run(&mut self, workload: Workload, time: Duration) -> anyhow::Result<Tally> {
        let clients = std::mem::take(&mut self.clients);
        ensure!(!clients.is_empty(), "there are no clients: a window before has failed");
        let begun = Instant::now();
        let until = begun + time;
        let done = self.each(clients, move |mut client| async move {
            let tally = client.drive(workload, until).await?;
            Ok((client, tally))
        })?;
        let mut all = Tally::default();
        for (client, tally) in done {
            self.clients.push(client);
            all.add(tally);
        }
        all.elapsed = begun.elapsed();
        Ok(all)
    }

    /// Lets these clients do the work from now on.
    pub(crate) fn employ(&mut self, clients: Vec<Client>) -> anyhow::Result<()> {
        self.clients = self.each(clients, |mut client| async move {
            client.reconnect().await?;
            Ok(client)
        })?;
        Ok(())
    }

    /// Takes the clients back; there are none where a window has failed.
    pub(crate) fn dismiss(&mut self) -> Vec<Client> {
        std::mem::take(&mut self.clients)
    }

    /// Has each of these clients make as many new records for each of its users as comes with it, and read
    /// up to the head; where all are devices of one user, one reads for them.
    pub(crate) fn fill(
        &self,
        clients: Vec<(Client, u64)>,
        one_user: bool,
    ) -> anyhow::Result<Vec<Client>> {
        let read = |mut client: Client| async move {
            client.catch_up().await?;
            Ok(client)
        };
        let mut clients = self.each(clients, |(mut client, records)| async move {
            client.fill(records).await?;
            Ok(client)
        })?;
        if one_user {
            let mut first = self.each(clients.split_off(clients.len().saturating_sub(1)), read)?;
            if let Some(first) = first.first() {
                for client in &mut clients {
                    client.read_as(first);
                }
            }
            clients.append(&mut first);
        } else {
            clients = self.each(clients, read)?;
        }
        Ok(clients)
    }

    /// Runs one future for each of these at the same time.
    fn each<I, T, F>(&self, items: Vec<I>, work: impl Fn(I) -> F) -> anyhow::Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for item in items {
                tasks.spawn(work(item));
            }
            let mut done = Vec::with_capacity(tasks.len());
            while let Some(ended) = tasks.join_next().await {
                done.push(ended.context("a client panicked")??);
            }
            Ok(done)
        })
    }
}
