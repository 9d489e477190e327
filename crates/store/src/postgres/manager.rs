//! Makes the connections of a pool, and counts the warnings that arrive on each.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;
use futures_util::{StreamExt as _, stream::poll_fn};
use tokio_postgres::{
    AsyncMessage, Client, Config, Error, Statement, error::Severity, types::Type,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::postgres_client::RawConnection;

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
    warnings: Arc<AtomicU64>,
}

impl PooledClient {
    /// The number of warnings so far. One that the server sent before a response is counted before the
    /// response is delivered.
    pub(super) fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Acquire)
    }

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
        let warnings = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(run(connection, Arc::clone(&warnings)));
        Ok(PooledClient { client: ClientWrapper::new(client, task), warnings })
    }

    async fn recycle(&self, client: &mut PooledClient, _: &Metrics) -> RecycleResult<Error> {
        if client.is_closed() {
            return Err(RecycleError::message("the connection is closed"));
        }
        Ok(())
    }
}

/// Polls a connection until it ends.
async fn run(mut connection: RawConnection, warnings: Arc<AtomicU64>) {
    let mut messages = poll_fn(move |context| connection.poll_message(context));
    while let Some(message) = messages.next().await {
        match message {
            Ok(AsyncMessage::Notice(notice)) => {
                if notice.parsed_severity() == Some(Severity::Warning) {
                    warnings.fetch_add(1, Ordering::Release);
                }
                tracing::debug!(code = notice.code().code(), "the database sent a notice");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a connection to the database ended");
                return;
            }
        }
    }
}
