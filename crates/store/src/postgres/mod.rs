//! The store on PostgreSQL, and on Citus with the same statements: any number of processes serve from
//! it, and the vault's row is what keeps them apart.
//!
//! Not here: advisory locks, triggers, stored code, and NOTIFY in a transaction that writes, which
//! would make all commits of the database wait for each other.

mod connect;
mod failure;
mod gate;
mod group;
mod joiner;
mod migrate;
mod open;
mod pull;
mod push;
mod rows;
mod tls;
mod url;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use vaultsync_protocol::{Pull, Push, Timestamp};

pub(crate) use self::open::{connect as open_plain, connect_raw as open_raw};
use self::{
    connect::{Bounds, Nodes, flight},
    failure::Failure,
    gate::Gate,
    group::Group,
    joiner::{Joined, Joiner, Member, is_small},
    push::{Attempt, Pushing},
};
pub use self::{
    migrate::{distribute, migrate, pending_migrations},
    url::DatabaseUrl,
};
use crate::{
    Heads, HintsVia, OpenError, PullOutcome, PushOutcome, Room, StoreError, StoreOptions, Vault,
    hints::Relay,
};

/// How long making a connection may take while the store is opened or migrated.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a push is tried. Once more is enough for a connection that had gone stale, a transaction
/// that lost against another, and a commit whose answer was lost: it is sent again, and the vault's
/// receipts tell whether it had been done.
const ATTEMPTS: usize = 2;

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
    pub hints: HintsVia,
    /// Whether a database may be served from that can lose what it acknowledged.
    pub allow_unsafe: bool,
}

/// The statements of every push and pull by their names, to be explained by whoever wants to know how a
/// database carries them out.
pub fn hot_statements() -> [(&'static str, &'static str); 7] {
    [
        ("lock", push::LOCK.text),
        ("heads", push::HEADS.text),
        ("conflicts", push::CONFLICTS.text),
        ("write", push::WRITE.text),
        ("save", push::SAVE.text),
        ("look", pull::LOOK.text),
        ("page", pull::PAGE.text),
    ]
}

/// The statements of pushes that go together, in the same way.
pub fn joined_statements() -> [(&'static str, &'static str); 4] {
    [
        ("lock each", group::LOCK_EACH.text),
        ("heads each", group::HEADS_EACH.text),
        ("write each", group::WRITE_EACH.text),
        ("save each", group::SAVE_EACH.text),
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
    primaries: Nodes,
    replicas: Nodes,
    gate: Gate,
    /// `None` on Citus, where the vaults of a group would lie on several nodes.
    joiner: Option<Joiner>,
    heads: Heads,
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
        let (heads, relay) = Relay::start(postgres.hints.clone());
        let inner = Arc::new(Inner {
            primaries: Nodes::new(&postgres.primaries, &postgres, deployment, true)?,
            replicas: Nodes::new(&postgres.replicas, &postgres, deployment, false)?,
            gate: Gate::default(),
            joiner: (!deployment.is_citus).then(Joiner::default),
            heads,
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

    pub(crate) async fn pull<R: Room>(
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

    pub(crate) fn heads(&self) -> &Heads {
        &self.inner.heads
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

/// Tells each of a group what became of its push.
fn answer(members: Vec<Member>, tried: Result<Vec<Option<Attempt>>, Failure>) {
    let (attempts, in_doubt) = match &tried {
        Ok(_) => (0, false),
        Err(failure) => {
            tracing::warn!(?failure, pushes = members.len(), "pushes are tried again, each alone");
            (1, matches!(failure, Failure::InDoubt(_)))
        }
    };
    let mut tried = tried.unwrap_or_default().into_iter();
    for Member { job, reply, .. } in members {
        let done = tried.next().flatten();
        // Before the answer: whoever has it may count on what the push took being free again.
        drop(job);
        // Nobody there to be told: the push stands all the same, and a retry finds it.
        let _ = reply.send(done.map_or(Joined::Alone { attempts, in_doubt }, Joined::Done));
    }
}

impl Inner {
    async fn push(self: &Arc<Self>, job: &Arc<Job>) -> Result<PushOutcome, StoreError> {
        let mut bounds = Bounds::new(self.timeout, job.push.ciphertext_bytes());
        let too_many = || StoreError::Unavailable("too many pushes were before it".to_owned());
        let Ok(_pass) = timeout_at(bounds.patience, self.gate.enter(job.vault.id())).await else {
            return Err(too_many());
        };
        let (mut attempt, mut in_doubt) = (0, false);
        if let Some(joiner) = self.joiner.as_ref().filter(|_| is_small(&job.push)) {
            let lead = || drop(tokio::spawn(Arc::clone(self).lead()));
            match joiner.join(Arc::clone(job), bounds, lead).await.ok_or_else(too_many)? {
                Joined::Done(attempt) => return Ok(self.tell(job, attempt, false)),
                Joined::Alone { attempts, in_doubt: doubt } => {
                    (attempt, in_doubt) = (attempts, doubt);
                    // It has waited for its turn already.
                    bounds.patience = bounds.deadline;
                }
            }
        }
        loop {
            let tried = self.try_push(job, attempt, bounds).await;
            attempt += 1;
            // What has begun may wait for as long as there is.
            bounds.patience = bounds.deadline;
            match tried {
                Ok(attempt) => return Ok(self.tell(job, attempt, in_doubt)),
                Err(Failure::Fault(told)) if !in_doubt => return Err(StoreError::Internal(told)),
                Err(failure) => {
                    in_doubt |= matches!(failure, Failure::InDoubt(_));
                    if attempt < ATTEMPTS && Instant::now() < bounds.deadline {
                        tracing::warn!(?failure, "a push is tried again");
                        continue;
                    }
                    let error = StoreError::from(failure);
                    return Err(if in_doubt {
                        StoreError::OutcomeUnknown(error.to_string())
                    } else {
                        error
                    });
                }
            }
        }
    }

    /// The outcome of a push, once whoever waits for its vault has been told of it.
    fn tell(&self, job: &Job, attempt: Attempt, in_doubt: bool) -> PushOutcome {
        let Attempt { outcome, clock, wrote } = attempt;
        if let Some(head) = clock.filter(|_| wrote || in_doubt) {
            self.heads.announce(job.vault.id(), head);
        }
        outcome
    }

    async fn try_push(
        &self,
        job: &Job,
        attempt: usize,
        bounds: Bounds,
    ) -> Result<Attempt, Failure> {
        let connection = self.primaries.connect(job.vault.id(), attempt, bounds).await?;
        self.gauge();
        let node = connection.node();
        let (deadline, options) = (bounds.deadline, &self.options);
        let Job { vault, push, now } = job;
        let pushing = Pushing { connection, vault, push, now: *now, deadline, options };
        // In a box: it is large, and what waits for a turn or a connection is not.
        node.watch(Box::pin(pushing.run())).await
    }

    /// Sees to one group after another until nobody waits.
    async fn lead(self: Arc<Self>) {
        let Some(joiner) = &self.joiner else { return };
        while let Some(members) = joiner.next_group() {
            let tried = AssertUnwindSafe(self.try_together(&members)).catch_unwind().await;
            let tried = tried.unwrap_or_else(|_| {
                tracing::error!("a group of pushes panicked");
                Err(Failure::InDoubt("its task panicked".to_owned()))
            });
            answer(members, tried);
        }
    }

    async fn try_together(&self, members: &[Member]) -> Result<Vec<Option<Attempt>>, Failure> {
        #[expect(clippy::cast_precision_loss, reason = "a group is far smaller than 2^53")]
        metrics::histogram!("vaultsync_store_commit_pushes").record(members.len() as f64);
        if let [Member { job, bounds, .. }] = members {
            // Alone, what stands in its way is read in the same transaction.
            return self.try_push(job, 0, *bounds).await.map(|attempt| vec![Some(attempt)]);
        }
        let (jobs, deadlines): (Vec<_>, Vec<_>) =
            members.iter().map(|member| (&*member.job, member.bounds.deadline)).unzip();
        self.try_group(&jobs, &deadlines).await
    }

    async fn try_group(
        &self,
        jobs: &[&Job],
        deadlines: &[Instant],
    ) -> Result<Vec<Option<Attempt>>, Failure> {
        let (Some(first), Some(deadline)) = (jobs.first(), deadlines.iter().min()) else {
            return Ok(Vec::new());
        };
        let now = Instant::now();
        let half = deadline.saturating_duration_since(now) / 2;
        let bounds = Bounds { patience: now + half, deadline: *deadline };
        let connection = self.primaries.connect(first.vault.id(), 0, bounds).await?;
        self.gauge();
        let node = connection.node();
        let group = Group { connection, jobs, deadline: *deadline };
        node.watch(Box::pin(group.run())).await
    }

    async fn pull<R: Room>(
        &self,
        vault: &Vault,
        pull: &Pull,
        mut room: R,
    ) -> Result<(PullOutcome, R), Failure> {
        let mut bounds = Bounds::new(self.timeout, 0);
        if !self.replicas.are_shunned() {
            // The primary is left enough time.
            let patience = Instant::now() + self.timeout / 4;
            let shorter = Bounds { patience, deadline: bounds.patience };
            match self.try_pull(&self.replicas, vault, pull, &mut room, 0, shorter).await {
                Ok(outcome) if self.is_enough(vault, &outcome) => return Ok((outcome, room)),
                Ok(_) => {}
                Err(failure) => tracing::warn!(?failure, "a replica does not serve"),
            }
            bounds.patience = bounds.deadline;
        }
        let mut attempt = 0;
        loop {
            let nodes = &self.primaries;
            let tried = self.try_pull(nodes, vault, pull, &mut room, attempt, bounds).await;
            attempt += 1;
            match tried {
                Ok(outcome) => {
                    self.remember_head(vault, &outcome);
                    return Ok((outcome, room));
                }
                // A read does nothing that could be done twice.
                Err(Failure::Transient(_) | Failure::Broken(_))
                    if attempt < ATTEMPTS && Instant::now() < bounds.deadline => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn try_pull(
        &self,
        nodes: &Nodes,
        vault: &Vault,
        pull: &Pull,
        room: &mut impl Room,
        attempt: usize,
        bounds: Bounds,
    ) -> Result<PullOutcome, Failure> {
        room.clear();
        let connection = nodes.connect(vault.id(), attempt, bounds).await?;
        self.gauge();
        let limits = pull::Limits {
            bytes_max: self.options.page_bytes_max,
            deadline: bounds.deadline,
            row_timeout: self.timeout,
        };
        let read = async {
            if self.seems_idle(vault, pull)
                && let Some(outcome) =
                    pull::look(&connection, vault.id(), pull, bounds.deadline).await?
            {
                return Ok(outcome);
            }
            pull::page(&connection, vault.id(), pull, limits, room).await
        };
        let outcome = connection.node().watch(read).await?;
        connection.keep();
        Ok(outcome)
    }

    /// Keeps the head of a vault that has been read to its end: its client asks next whether there is
    /// more.
    fn remember_head(&self, vault: &Vault, outcome: &PullOutcome) {
        if let PullOutcome::Page(page) = outcome
            && let Some(head) = page.head.filter(|_| !page.has_more)
        {
            self.heads.hear(vault.id(), head);
        }
    }

    /// Whether nothing seems to be later than the cursor, by what this process has heard. The database is
    /// asked all the same, only by another statement first.
    fn seems_idle(&self, vault: &Vault, pull: &Pull) -> bool {
        let latest = self.heads.latest(vault.id());
        latest.is_some() && pull.cursor.map(|cursor| cursor.timestamp()) >= latest
    }

    /// Whether what a replica told can be passed on. It may lag: what it does not know yet is no
    /// reason to tell a client that its history is another one, or that this is all there is.
    fn is_enough(&self, vault: &Vault, outcome: &PullOutcome) -> bool {
        match outcome {
            PullOutcome::EpochChanged | PullOutcome::CursorAhead => false,
            PullOutcome::Page(page) => {
                let goes_on = page.has_more && !page.records.is_empty();
                goes_on || page.head >= self.heads.latest(vault.id())
            }
        }
    }

    async fn check(&self) -> Result<(), Failure> {
        let bounds = Bounds::new(self.timeout, 0);
        let nobody = Vault::of("", "").id();
        let connection = self.primaries.connect(nobody, 0, bounds).await?;
        let look = async {
            let looked = connection.send("select from vaults limit 0; select from records limit 0");
            looked.await.map_err(|error| Failure::of(&error))
        };
        connection.node().watch(flight(bounds.deadline, Failure::Broken, look)).await?;
        connection.keep();
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a pool is far smaller than 2^53")]
    fn gauge(&self) {
        let (open, idle) = self.primaries.count();
        metrics::gauge!("vaultsync_store_connections").set(open as f64);
        metrics::gauge!("vaultsync_store_connections_idle").set(idle as f64);
    }
}
