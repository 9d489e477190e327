//! The task that publishes this process's changes and receives those of others.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use vaultsync_tasks::{Task, Tasks};

use super::{
    inbox::Inbox,
    link_status::{self, LinkStatus},
    nats::{self, NatsUrl},
    notify,
    outbox::Outbox,
};
use crate::{ChangeNotifier, DatabaseUrl};

/// How long publishing the last changes may take when the store closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How processes notify each other of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PubsubBackend {
    /// Not at all: waiters are notified only of changes of their own process.
    #[default]
    None,
    /// PostgreSQL's NOTIFY, at this address: the same for all processes, and not of a pooler.
    Notify(Box<DatabaseUrl>),
    /// NATS, with any of these servers. They must be of one cluster.
    Nats(Vec<NatsUrl>),
}

/// The backend and its addresses, without secrets.
impl fmt::Display for PubsubBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Notify(url) => write!(f, "NOTIFY at {url}"),
            Self::Nats(urls) => {
                f.write_str("NATS at")?;
                urls.iter().try_for_each(|url| write!(f, " {url}"))
            }
        }
    }
}

/// The relay task of a store. It is aborted when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    task: Option<Task>,
    closing: CancellationToken,
}

impl Relay {
    /// Starts the task, and returns the notifier that it serves.
    pub(crate) fn start(backend: PubsubBackend, tasks: &Tasks) -> (ChangeNotifier, Self) {
        let closing = CancellationToken::new();
        if backend == PubsubBackend::None {
            return (ChangeNotifier::default(), Self { task: None, closing });
        }
        let (notifier, receiver) = ChangeNotifier::shared();
        // Shared by the runs of the task: changes that wait in it survive a panic.
        let outbox = Arc::new(Mutex::new(Outbox { receiver, closing: closing.clone() }));
        let published = notifier.clone();
        let task = tasks.spawn("notifications", move || {
            let (backend, notifier) = (backend.clone(), published.clone());
            let outbox = Arc::clone(&outbox);
            async move { run(&backend, &notifier, &mut *outbox.lock().await).await }
        });
        (notifier, Self { task: Some(task), closing })
    }

    /// Publishes the remaining changes, and ends the task.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        let Some(task) = &self.task else { return };
        if timeout(CLOSE_TIMEOUT, task.ended()).await.is_err() {
            task.abort();
            task.ended().await;
        }
    }
}

/// Runs one session after the other until the store closes.
async fn run(backend: &PubsubBackend, notifier: &ChangeNotifier, outbox: &mut Outbox) {
    let status = Arc::new(LinkStatus::new(backend.to_string()));
    let mut delays = link_status::retry_delays();
    loop {
        let inbox = Inbox::new(notifier.clone());
        let session = match backend {
            PubsubBackend::None => Ok(()),
            PubsubBackend::Notify(url) => notify::session(url, &inbox, outbox, &status).await,
            PubsubBackend::Nats(urls) => nats::session(urls, &inbox, outbox, &status).await,
        };
        let Err(error) = session else { return };
        if status.mark_down(&error) {
            delays = link_status::retry_delays();
        }
        tokio::select! {
            () = sleep(delays.next().unwrap_or(link_status::RETRY_DELAY_MAX)) => {}
            () = outbox.closing.cancelled() => return,
        }
    }
}
