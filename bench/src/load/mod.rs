//! The load generator: clients in a closed loop, each with a connection of its own.
//!
//! It shares the processors with what it measures, so it runs on one thread, sends bytes that were made
//! before, and looks at no more of an answer than it needs.

mod bodies;
mod clients;
mod http;

pub(crate) use clients::{Client, User};
pub(crate) use http::Connection;

use std::time::Duration;

use anyhow::Context as _;
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

    /// Runs one future for each client at the same time.
    fn each<T, F>(&self, clients: Vec<Client>, work: impl Fn(Client) -> F) -> anyhow::Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for client in clients {
                tasks.spawn(work(client));
            }
            let mut done = Vec::with_capacity(tasks.len());
            while let Some(ended) = tasks.join_next().await {
                done.push(ended.context("a client panicked")??);
            }
            Ok(done)
        })
    }
}
