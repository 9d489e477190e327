//! How processes that serve from one database tell each other of changes.
//!
//! A hint is never the truth: it says that a vault has changed, and whoever waits for that then pulls.
//! So all of it may fail: a hint that is lost only delays.
//!
//! Not here: who waits (`heads.rs`).

mod link_status;
mod message;
mod nats;
mod notify;
mod outbox;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub use self::nats::NatsUrl;
use self::{link_status::LinkStatus, message::Entry, outbox::Outbox};
use crate::{ChangeNotifier, DatabaseUrl};

/// How long the last hints may take when the store closes.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// How long a greeting may take to come back, before somebody is told that none does.
const ECHO_MAX: Duration = Duration::from_secs(5);

/// The way by which processes tell each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PubsubBackend {
    /// They do not: whoever waits is told of the changes of its own process.
    #[default]
    None,
    /// PostgreSQL's NOTIFY, at this address: the same for all of them, and past any pooler.
    Notify(Box<DatabaseUrl>),
    /// NATS, by whichever of these servers answers. They must be of one cluster.
    Nats(Vec<NatsUrl>),
}

/// The task that tells and hears. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    task: Option<AbortHandle>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Relay {
    /// The heads of a process that tells others, and the task that does it.
    pub(crate) fn start(via: PubsubBackend) -> (ChangeNotifier, Self) {
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        if via == PubsubBackend::None {
            return (ChangeNotifier::default(), Self { task: None, tasks, closing });
        }
        let (notifier, receiver) = ChangeNotifier::shared();
        let changes = Outbox { receiver, closing: closing.clone() };
        let task = tasks.spawn(relay(via, notifier.clone(), changes)).abort_handle();
        (notifier, Self { task: Some(task), tasks, closing })
    }

    /// Tells what is still to be told, and ends.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        if timeout(FAREWELL_MAX, self.tasks.wait()).await.is_err() {
            self.task.iter().for_each(AbortHandle::abort);
            self.tasks.wait().await;
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.iter().for_each(AbortHandle::abort);
    }
}

/// Tells and hears until the store closes, however often that is interrupted.
async fn relay(via: PubsubBackend, notifier: ChangeNotifier, mut changes: Outbox) {
    let status = Arc::new(LinkStatus::new(via.told()));
    let mut pauses = link_status::pauses();
    loop {
        // A new name each time, so that a late greeting of the last session is not taken for this one's.
        let inbox = Inbox { own: Uuid::new_v4(), notifier: notifier.clone(), echo: Arc::default() };
        let session = match &via {
            PubsubBackend::None => Ok(()),
            PubsubBackend::Notify(url) => notify::session(url, &inbox, &mut changes, &status).await,
            PubsubBackend::Nats(urls) => nats::session(urls, &inbox, &mut changes, &status).await,
        };
        let Err(error) = session else { return };
        if status.begins(&error) {
            pauses = link_status::pauses();
        }
        tokio::select! {
            () = sleep(pauses.next().unwrap_or(ECHO_MAX)) => {}
            () = changes.closing.cancelled() => return,
        }
    }
}

impl PubsubBackend {
    /// In words, without secrets.
    fn told(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Notify(url) => format!("NOTIFY at {url}"),
            Self::Nats(urls) => urls.iter().fold("NATS at".to_owned(), |mut told, url| {
                let _ = write!(told, " {url}");
                told
            }),
        }
    }
}

/// Where what was told arrives.
#[derive(Clone, Debug)]
struct Inbox {
    /// Who sends the messages that this process need not hear.
    own: Uuid,
    notifier: ChangeNotifier,
    /// The own greeting came back.
    echo: Arc<Notify>,
}

impl Inbox {
    /// Hears what another process, or this one, has told.
    fn receive(&self, message: &[u8]) {
        let Some((sender, entries)) = message::decode(message) else {
            metrics::counter!("vaultsync_hints_malformed_total").increment(1);
            return;
        };
        if sender != self.own {
            metrics::counter!("vaultsync_hints_received_total").increment(entries.len() as u64);
            for (vault, head) in entries {
                self.notifier.receive(vault, head);
            }
        } else if entries.is_empty() {
            // From now on nothing is missed, but what was told before may have been.
            self.notifier.notify_all();
            self.echo.notify_one();
        }
    }

    /// Waits for one's own greeting, and says so where it does not come.
    async fn expect_echo(&self, advice: &str) {
        if timeout(ECHO_MAX, self.echo.notified()).await.is_err() {
            tracing::warn!("hints sent do not come back, so none may arrive: {advice}");
        }
    }

    fn greeting(&self) -> Vec<u8> {
        message::encode(self.own, &[])
    }

    /// As many messages as it takes.
    fn messages(&self, entries: &[Entry]) -> impl Iterator<Item = Vec<u8>> {
        entries.chunks(message::ENTRIES_MAX).map(|entries| message::encode(self.own, entries))
    }
}

fn count_told(entries: &[Entry]) {
    metrics::counter!("vaultsync_hints_published_total").increment(entries.len() as u64);
}
