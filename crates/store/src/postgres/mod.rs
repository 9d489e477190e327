//! The store on PostgreSQL, and on Citus with the same statements: any number of processes serve from
//! it, and the vault's row is what keeps them apart.
//!
//! Not here: advisory locks, triggers, stored code, and NOTIFY in a transaction that writes, which
//! would make all commits of the database wait for each other.

mod batcher;
mod connect;
mod db_error;
mod head_reads;
mod migrate;
mod open;
mod pull;
mod pull_executor;
mod push_batch;
mod push_executor;
mod push_txn;
mod rows;
mod tls;
mod url;
mod vault_locks;

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;
use vaultsync_protocol::{Pull, Push, Timestamp};

pub(crate) use self::open::{connect as open_plain, connect_raw as open_raw};
use self::{
    batcher::Batcher,
    connect::{Deadlines, Endpoints, with_deadline},
    db_error::DbError,
    head_reads::Looks,
    vault_locks::VaultLocks,
};
pub use self::{
    migrate::{distribute, migrate, pending_migrations},
    url::DatabaseUrl,
};
use crate::{
    ChangeNotifier, OpenError, PubsubBackend, PullOutcome, PushOutcome, ReadBudget, StoreError,
    StoreOptions, Vault, pubsub::Relay,
};

/// How long making a connection may take while the store is opened or migrated.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// What a PostgreSQL store is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresOptions {
    /// Addresses of one database, any of which will do: one, or several nodes of a Citus cluster.
    pub primaries: Vec<DatabaseUrl>,
    /// Addresses of replicas of it that pulls may read from; they may lag behind.
    pub replicas: Vec<DatabaseUrl>,
    /// Connections open at a time, for each address.
    pub connections_max: usize,
    /// How long one push or pull may take, a large one longer. It is told within this that the
    /// database is gone.
    pub timeout: Duration,
    /// Whether statements are prepared once for each connection, and not parsed each time.
    pub prepare: bool,
    /// Whether the tables are brought up to date; where not, they must be.
    pub migrate: bool,
    /// How processes that serve from the database tell each other of changes.
    pub hints: PubsubBackend,
    /// Whether a database may be served from that can lose what it acknowledged.
    pub allow_unsafe: bool,
}

/// The statements of every push and pull by their names, to be explained by whoever wants to know how a
/// database carries them out.
pub fn hot_statements() -> [(&'static str, &'static str); 8] {
    [
        ("lock", push_txn::LOCK.text),
        ("heads", push_txn::RECORD_STATES.text),
        ("conflicts", push_txn::CONFLICTS.text),
        ("insert", push_txn::INSERT.text),
        ("write", push_txn::WRITE.text),
        ("save", push_txn::SAVE.text),
        ("look", pull::HEAD.text),
        ("page", pull::PAGE.text),
    ]
}

/// The statements of pushes and pulls that go together, in the same way.
pub fn joined_statements() -> [(&'static str, &'static str); 6] {
    [
        ("look each", head_reads::HEADS_BATCH.text),
        ("lock each", push_batch::LOCK_BATCH.text),
        ("heads each", push_batch::RECORD_STATES_BATCH.text),
        ("insert each", push_batch::INSERT_BATCH.text),
        ("write each", push_batch::WRITE_BATCH.text),
        ("save each", push_batch::SAVE_BATCH.text),
    ]
}

/// An open PostgreSQL database.
#[derive(Debug)]
pub struct Postgres {
    inner: Arc<Inner>,
    /// The pushes that have begun.
    pushes: TaskTracker,
    relay: Relay,
}

/// A push, from when it is taken on to its end.
#[derive(Debug)]
struct Job {
    vault: Vault,
    push: Push,
    now: Timestamp,
}

#[derive(Debug)]
struct Inner {
    primaries: Endpoints,
    replicas: Endpoints,
    gate: VaultLocks,
    joiner: Batcher,
    looks: Looks,
    notifier: ChangeNotifier,
    timeout: Duration,
    options: StoreOptions,
}

impl Postgres {
    /// See [`Store::open_postgres`](crate::Store::open_postgres).
    pub(crate) async fn open(
        postgres: PostgresOptions,
        options: StoreOptions,
    ) -> Result<Self, OpenError> {
        let deployment = open::prepare(&postgres).await?;
        let (notifier, relay) = Relay::start(postgres.hints.clone());
        let inner = Arc::new(Inner {
            primaries: Endpoints::new(&postgres.primaries, &postgres, deployment, true)?,
            replicas: Endpoints::new(&postgres.replicas, &postgres, deployment, false)?,
            gate: VaultLocks::default(),
            joiner: Batcher::default(),
            looks: Looks::default(),
            notifier,
            timeout: postgres.timeout,
            options,
        });
        inner.primaries.check_all(&postgres.primaries).await?;
        inner.replicas.check_all(&postgres.replicas).await?;
        Ok(Self { inner, pushes: TaskTracker::new(), relay })
    }

    pub(crate) async fn push(
        &self,
        vault: &Vault,
        push: Push,
        now: Timestamp,
        held: Box<dyn Send>,
    ) -> Result<PushOutcome, StoreError> {
        if self.pushes.is_closed() {
            return Err(StoreError::Unavailable("the database is closing".to_owned()));
        }
        let inner = self.inner.clone();
        let job = Arc::new(Job { vault: vault.clone(), push, now });
        // In a task of its own: a caller that goes away must not leave a transaction half-way.
        let pushing = self.pushes.spawn(async move {
            let outcome = inner.push(&job).await;
            // Before the answer: whoever has it may count on what the push took being free again.
            drop((job, held));
            outcome
        });
        pushing.await.unwrap_or_else(|_| {
            Err(StoreError::OutcomeUnknown("the task of a push ended early".to_owned()))
        })
    }

    pub(crate) async fn pull<R: ReadBudget>(
        &self,
        vault: &Vault,
        pull: &Pull,
        room: R,
    ) -> Result<(PullOutcome, R), StoreError> {
        self.inner.pull(vault, pull, room).await.map_err(StoreError::from)
    }

    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        if self.pushes.is_closed() {
            return Err(StoreError::Unavailable("the database is closing".to_owned()));
        }
        self.inner.check().await.map_err(StoreError::from)
    }

    pub(crate) fn notifier(&self) -> &ChangeNotifier {
        &self.inner.notifier
    }

    /// Finishes what has begun; a push that comes later is refused.
    pub(crate) async fn close(&self) {
        self.pushes.close();
        self.pushes.wait().await;
        self.relay.close().await;
        self.inner.primaries.close();
        self.inner.replicas.close();
    }
}

impl Inner {
    async fn check(&self) -> Result<(), DbError> {
        let deadlines = Deadlines::new(self.timeout, 0);
        let nobody = Vault::of("", "").id();
        let connection = self.primaries.connect(nobody, 0, deadlines).await?;
        let look = async {
            let looked = connection.send("select from vaults limit 0; select from records limit 0");
            looked.await.map_err(|error| DbError::of(&error))
        };
        connection
            .node()
            .watch(with_deadline(deadlines.deadline, DbError::ConnectionLost, look))
            .await?;
        connection.release();
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a pool is far smaller than 2^53")]
    fn gauge(&self) {
        let (open, idle) = self.primaries.count();
        metrics::gauge!("vaultsync_store_connections").set(open as f64);
        metrics::gauge!("vaultsync_store_connections_idle").set(idle as f64);
    }
}
