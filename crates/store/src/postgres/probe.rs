//! Asks the database whether it could take a push, on a connection of its own: a pool whose connections
//! are all in use is busy, and not gone.

use std::time::Duration;

use deadpool::managed::PoolError;
use tokio::{sync::Mutex, time::timeout};
use tokio_postgres::Client;

use super::{
    PostgresOptions,
    db_error::DbError,
    open::{self, Checks},
};
use crate::postgres_client::{DatabaseUrl, connect};

/// The connection of a readiness check. It is opened by the first check and kept while it works.
#[derive(Debug)]
pub(super) struct Probe {
    urls: Vec<DatabaseUrl>,
    checks: Checks,
    timeout: Duration,
    client: Mutex<Option<Client>>,
}

impl Probe {
    pub(super) fn new(options: &PostgresOptions, checks: Checks) -> Self {
        Self {
            urls: options.primaries.clone(),
            checks,
            timeout: options.timeout,
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
        // Taken out, so that a check that is given up closes the connection.
        if let Some(client) = kept.take()
            && self.ask(&client).await.is_ok()
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
            match asked.await {
                Ok(client) => {
                    *kept = Some(client);
                    return Ok(());
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Asks one address: that it is still the right database, that it can be written to, and that it has
    /// the tables.
    ///
    /// A check of the workers of Citus belongs here, beside the tables.
    async fn ask(&self, client: &Client) -> Result<(), DbError> {
        open::check(client, self.checks)
            .await
            .map_err(|error| DbError::of_pool(&PoolError::PostCreateHook(error)))?;
        let look = client.batch_execute("select from vaults limit 0; select from records limit 0");
        look.await.map_err(|error| DbError::of(&error))
    }
}
