//! Asks the database whether it could take a push, on a connection of its own: a pool whose connections
//! are all in use is busy, and not gone.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use deadpool::managed::PoolError;
use tokio::{sync::Mutex, time::timeout};
use tokio_postgres::{Client, Error, types::Type};

use super::{
    PostgresOptions,
    db_error::DbError,
    open::{self, Checks},
    pull::HEAD,
    rows::uuid,
};
use crate::{
    Vault, VaultId,
    postgres_client::{DatabaseUrl, connect},
};

/// How many vaults a check of Citus reads at most. Each is on another node, most likely.
const WORKER_READS: u128 = 4;

/// The connection of a readiness check. It is opened by the first check and kept while it works.
#[derive(Debug)]
pub(super) struct Probe {
    urls: Vec<DatabaseUrl>,
    checks: Checks,
    timeout: Duration,
    /// How many vaults were read to find a worker of Citus that responds.
    vaults_read: AtomicUsize,
    client: Mutex<Option<Client>>,
}

impl Probe {
    pub(super) fn new(options: &PostgresOptions, checks: Checks) -> Self {
        Self {
            urls: options.primaries.clone(),
            checks,
            timeout: options.timeout,
            vaults_read: AtomicUsize::default(),
            client: Mutex::default(),
        }
    }

    /// Succeeds if one of the addresses could take a push. Returns in the time of one push.
    pub(super) async fn check(&self) -> Result<(), DbError> {
        let late = || DbError::ConnectionLost("the database did not respond in time".to_owned());
        timeout(self.timeout, self.check_addresses()).await.unwrap_or_else(|_| Err(late()))
    }

    /// Closes the connection.
    pub(super) async fn close(&self) {
        self.client.lock().await.take();
    }

    async fn check_addresses(&self) -> Result<(), DbError> {
        let mut kept = self.client.lock().await;
        // An address that is silent leaves time for the others.
        let share = self.timeout / (u32::try_from(self.urls.len()).unwrap_or(u32::MAX - 1) + 1);
        // Taken out, so that a check that is given up closes the connection.
        if let Some(client) = kept.take()
            && matches!(timeout(share, self.ask(&client)).await, Ok(Ok(())))
        {
            *kept = Some(client);
            return Ok(());
        }
        let mut failure = DbError::Transient("no database address is configured".to_owned());
        for url in &self.urls {
            let asked = async {
                let client = connect(url).await;
                let client = client.map_err(|error| DbError::Transient(error.to_string()))?;
                self.ask(&client).await.map(|()| client)
            };
            let late = || DbError::ConnectionLost(format!("{url} did not respond in time"));
            match timeout(share, asked).await.unwrap_or_else(|_| Err(late())) {
                Ok(client) => {
                    *kept = Some(client);
                    return Ok(());
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Asks one address: that it is still the right database, that it can be written to, that it has the
    /// tables, and on Citus that a worker responds.
    async fn ask(&self, client: &Client) -> Result<(), DbError> {
        let is_citus = open::check(client, self.checks)
            .await
            .map_err(|error| DbError::of_pool(&PoolError::PostCreateHook(error)))?;
        let look = client.batch_execute("select from vaults limit 0; select from records limit 0");
        look.await.map_err(|error| DbError::of(&error))?;
        if is_citus { self.ask_workers(client).await } else { Ok(()) }
    }

    /// Reads vaults that do not exist until one read succeeds: a statement that names no vault asks no node
    /// of Citus but the first. The server ends a read from a worker that is silent, so that the next one
    /// still has time.
    async fn ask_workers(&self, client: &Client) -> Result<(), DbError> {
        let mut failure = None;
        for _ in 0..WORKER_READS {
            let number = self.vaults_read.fetch_add(1, Ordering::Relaxed);
            let vault = Vault::of("probe", number.to_string()).id();
            match self.read(client, vault).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = Some(DbError::of(&error)),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Reads a vault in a transaction, because a pooler may give the next statement to another session.
    async fn read(&self, client: &Client, vault: VaultId) -> Result<(), Error> {
        let millis = self.timeout.as_millis() / (WORKER_READS + 1);
        client.batch_execute("begin").await?;
        client.batch_execute(&format!("set local statement_timeout = {millis}")).await?;
        let read = client.query_typed(HEAD.text, &[(&uuid(vault), Type::UUID)]).await;
        client.batch_execute("rollback").await?;
        read.map(drop)
    }
}
