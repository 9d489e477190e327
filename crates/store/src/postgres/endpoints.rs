//! The addresses of a database, and the choice of one for a vault.

use std::sync::Arc;

use deadpool::managed::{HookError, PoolError, TimeoutType};
use tokio::time::{Instant, timeout_at};

use super::{
    PostgresOptions, citus, connection::Connection, db_error::DbError, deadlines::Deadlines,
    open::Checks, pool::Endpoint,
};
use crate::{
    OpenError, VaultId,
    postgres_client::{DatabaseUrl, OPEN_TIMEOUT, open_error},
};

/// Addresses of one database, any of which can serve.
#[derive(Debug)]
pub(super) struct Endpoints {
    all: Vec<Arc<Endpoint>>,
    prepare: bool,
    /// Whether the nodes of Citus behind them must keep what they acknowledge.
    checks_nodes: bool,
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

impl Endpoints {
    /// A pool for each of these addresses. See [`Endpoint::new`].
    pub(super) fn new(
        urls: &[DatabaseUrl],
        options: &PostgresOptions,
        checks: Checks,
        page_bytes_max: usize,
    ) -> Result<Self, OpenError> {
        let all = urls
            .iter()
            .map(|url| Endpoint::new(url, options, checks, page_bytes_max).map(Arc::new));
        Ok(Self {
            all: all.collect::<Result<_, _>>()?,
            prepare: options.prepare,
            checks_nodes: !options.allow_unsafe,
        })
    }

    /// Tries each address once. An unreachable address may be reachable later. An address of a database
    /// that must not be served from is an error.
    pub(super) async fn check_all(&self, urls: &[DatabaseUrl]) -> Result<(), OpenError> {
        for (endpoint, url) in self.all.iter().zip(urls) {
            let until = Instant::now() + OPEN_TIMEOUT;
            let got = timeout_at(until, endpoint.get(until)).await;
            match got.unwrap_or(Err(PoolError::Timeout(TimeoutType::Create))) {
                Ok(client) => {
                    if endpoint.is_writable() && endpoint.is_citus() && self.checks_nodes {
                        let checked = timeout_at(until, citus::check_nodes(&client)).await;
                        checked
                            .unwrap_or_else(|_| {
                                tracing::warn!(database = %url, "the nodes of Citus are not checked");
                                Ok(())
                            })
                            .map_err(|reason| open_error(url, reason))?;
                    }
                }
                Err(PoolError::PostCreateHook(HookError::Message(reason))) => {
                    return Err(open_error(url, reason));
                }
                Err(error) => {
                    let failure = DbError::of_pool(&error);
                    tracing::warn!(database = %url, ?failure, "a database is unreachable");
                }
            }
        }
        Ok(())
    }

    /// A connection to read a vault. The same vault goes to the same address, which has its rows and plans
    /// in memory, unless that address is down. A later `attempt` goes to the next address.
    pub(super) async fn connect(
        &self,
        vault: VaultId,
        attempt: usize,
        deadlines: Deadlines,
    ) -> Result<Connection, DbError> {
        self.connect_for(Access::Read, vault, attempt, deadlines).await
    }

    /// As [`Self::connect`], a connection for a transaction that writes. An error if as many statements as
    /// the pool has connections have not ended in time: commits wait for a silent replica, for example.
    pub(super) async fn connect_to_write(
        &self,
        vault: VaultId,
        attempt: usize,
        deadlines: Deadlines,
    ) -> Result<Connection, DbError> {
        self.connect_for(Access::Write, vault, attempt, deadlines).await
    }

    async fn connect_for(
        &self,
        access: Access,
        vault: VaultId,
        attempt: usize,
        deadlines: Deadlines,
    ) -> Result<Connection, DbError> {
        let mut failure = DbError::Transient("no database address is configured".to_owned());
        for endpoint in self.in_order(vault, attempt) {
            let permit = match access {
                Access::Read => None,
                Access::Write => match endpoint.write_permit(deadlines.wait_until).await {
                    Ok(permit) => Some(permit),
                    Err(error @ DbError::Busy(_)) => return Err(error),
                    Err(error) => {
                        failure = error;
                        continue;
                    }
                },
            };
            let got = timeout_at(deadlines.deadline, endpoint.get(deadlines.wait_until)).await;
            match got.unwrap_or(Err(PoolError::Timeout(TimeoutType::Create))) {
                Ok(object) => {
                    endpoint.mark_up();
                    return Ok(Connection::new(object, permit, Arc::clone(endpoint), self.prepare));
                }
                // The database is reachable, but all connections are in use.
                Err(error @ PoolError::Timeout(TimeoutType::Wait)) => {
                    return Err(DbError::of_pool(&error));
                }
                Err(error) => {
                    failure = DbError::of_pool(&error);
                    endpoint.mark_down();
                }
            }
        }
        Err(failure)
    }

    /// The addresses from the vault's own one on, and those that are down last.
    fn in_order(&self, vault: VaultId, attempt: usize) -> Vec<&Arc<Endpoint>> {
        let bytes = vault.as_bytes();
        let first = usize::from(u16::from_be_bytes([bytes[0], bytes[1]])) + attempt;
        let count = self.all.len();
        let mut order: Vec<_> = (0..count).map(|step| &self.all[(first + step) % count]).collect();
        order.sort_by_cached_key(|endpoint| endpoint.is_down());
        order
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether any of the addresses reached a machine with Citus.
    pub(super) fn are_citus(&self) -> bool {
        self.all.iter().any(|endpoint| endpoint.is_citus())
    }

    /// Whether every address is down, or there is none.
    pub(super) fn are_down(&self) -> bool {
        self.all.iter().all(|endpoint| endpoint.is_down())
    }

    pub(super) fn close(&self) {
        self.all.iter().for_each(|endpoint| endpoint.close_pool());
    }

    /// The number of open connections, and how many of them are idle.
    pub(super) fn count(&self) -> (usize, usize) {
        let counts = self.all.iter().map(|endpoint| endpoint.count());
        counts.fold((0, 0), |(open, idle), count| (open + count.0, idle + count.1))
    }
}
