//! How processes that serve from one database tell each other of changes.
//!
//! A hint is never the truth: it says that a vault has changed, and whoever waits for that then pulls.
//! So all of it may fail: a hint that is lost only delays.
//!
//! Not here: who waits (`heads.rs`).

mod message;
mod nats;
mod notify;

use std::{collections::HashMap, time::Duration};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};
use vaultsync_protocol::Timestamp;

pub use self::nats::NatsUrl;
use crate::{DatabaseUrl, Heads, VaultId};

/// How long changes are gathered before they are told: 5 to 20 ms made NOTIFY cost pushes nothing that
/// could be measured, and nobody notices them.
const GATHER: Duration = Duration::from_millis(10);

/// The way by which processes tell each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HintsVia {
    /// They do not: whoever waits is told of the changes of its own process.
    #[default]
    Nothing,
    /// PostgreSQL's NOTIFY, at this address: the same for all of them, and past any pooler.
    Notify(Box<DatabaseUrl>),
    /// NATS, by whichever of these servers answers.
    Nats(Vec<NatsUrl>),
}

/// The task that tells and hears. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Relay(Option<AbortHandle>);

impl Relay {
    /// The heads of a process that tells others, and the task that does it.
    pub(crate) fn start(via: HintsVia) -> (Heads, Self) {
        if via == HintsVia::Nothing {
            return (Heads::default(), Self(None));
        }
        let (heads, changes) = Heads::shared();
        let task: JoinHandle<()> = match via {
            HintsVia::Nothing => return (heads, Self(None)),
            HintsVia::Notify(url) => tokio::spawn(notify::relay(*url, heads.clone(), changes)),
            HintsVia::Nats(urls) => tokio::spawn(nats::relay(urls, heads.clone(), changes)),
        };
        (heads, Self(Some(task.abort_handle())))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

type Changes = mpsc::Receiver<(VaultId, Timestamp)>;

/// Waits for a change and gathers those that follow; of each vault the last head counts. `None` when
/// there will be no more.
async fn gather(changes: &mut Changes) -> Option<Vec<(VaultId, Timestamp)>> {
    let (vault, head) = changes.recv().await?;
    let mut heads = HashMap::from([(vault, head)]);
    tokio::time::sleep(GATHER).await;
    while let Ok((vault, head)) = changes.try_recv() {
        let last = heads.entry(vault).or_insert(head);
        *last = head.max(*last);
    }
    Some(heads.into_iter().collect())
}

/// Hears what another process, or this one, has told.
fn hear(heads: &Heads, message: &[u8]) {
    let Some(entries) = message::decode(message) else {
        metrics::counter!("vaultsync_hints_malformed_total").increment(1);
        return;
    };
    for (vault, head) in entries {
        metrics::counter!("vaultsync_hints_heard_total").increment(1);
        heads.hear(vault, head);
    }
}

fn count_told(entries: usize) {
    metrics::counter!("vaultsync_hints_told_total").increment(entries as u64);
}
