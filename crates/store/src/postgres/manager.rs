//! Makes the connections of a pool.

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Client, Config, Error, Statement, types::Type};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How the connections of one address are made.
pub(super) struct Manager {
    config: Config,
    tls: MakeRustlsConnect,
}

impl Manager {
    pub(super) const fn new(config: Config, tls: MakeRustlsConnect) -> Self {
        Self { config, tls }
    }
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager").finish_non_exhaustive()
    }
}

/// A connection in a pool.
#[derive(Debug)]
pub(super) struct PooledClient {
    client: ClientWrapper,
}

impl PooledClient {
    /// As [`Client::prepare_typed`], once for each statement.
    pub(super) async fn prepare_once(
        &self,
        text: &str,
        types: &[Type],
    ) -> Result<Statement, Error> {
        self.client.prepare_typed_cached(text, types).await
    }
}

impl std::ops::Deref for PooledClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl managed::Manager for Manager {
    type Type = PooledClient;
    type Error = Error;

    async fn create(&self) -> Result<PooledClient, Error> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the database ended");
            }
        });
        Ok(PooledClient { client: ClientWrapper::new(client, task) })
    }

    async fn recycle(&self, client: &mut PooledClient, _: &Metrics) -> RecycleResult<Error> {
        if client.is_closed() {
            return Err(RecycleError::message("the connection is closed"));
        }
        Ok(())
    }
}
