//! Helpers that the cases are written with.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use uuid::Uuid;
use vaultsync_protocol::{Cursor, Epoch, Operation, Page, Pull, Record, Timestamp, Written};
use vaultsync_store::{PullOutcome, PushOutcome, Refused, StoreOptions, Vault};

pub(crate) use crate::support::operation;
use crate::support::{Backend, TestStore, batch, known_epoch};

/// The time of a push if the case is not about time: in 2024, in milliseconds.
pub(crate) const NOW: i64 = 1_705_314_600_000;

pub(crate) const HOUR: i64 = 3_600_000;

/// The time limit of a case. The longest takes a second or two.
pub(crate) const CASE_MAX: Duration = Duration::from_mins(1);

/// The server's default.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Options of a store if the case is not about them.
pub(crate) fn options() -> StoreOptions {
    let new_epoch = || Epoch::new(Uuid::new_v4());
    StoreOptions { page_bytes_max: PAGE_BYTES_MAX, ..StoreOptions::new(new_epoch) }
}

/// A new store with default options.
pub(crate) async fn open(backend: Backend) -> TestStore {
    TestStore::open(backend, options()).await
}

/// The vault of a new user.
pub(crate) fn user() -> Vault {
    Vault::of("https://issuer.test", format!("user_{}", Uuid::new_v4()))
}

/// An operation that creates a record.
pub(crate) fn create(id: &str, ciphertext: &str) -> Operation {
    operation(id, None, ciphertext, false)
}

/// An operation that updates a record at a version.
pub(crate) fn update(id: &str, base: i64, ciphertext: &str) -> Operation {
    operation(id, Some(base), ciphertext, false)
}

/// An operation that makes a record at a version a tombstone without ciphertext.
pub(crate) fn delete(id: &str, base: i64) -> Operation {
    operation(id, Some(base), "", true)
}

/// Operations that create `{prefix}0`, `{prefix}1` and so on.
pub(crate) fn creates(prefix: &str, count: usize) -> Vec<Operation> {
    (0..count).map(|n| create(&format!("{prefix}{n}"), &format!("{prefix}{n} v1"))).collect()
}

/// Summary of a record: id, version, ciphertext, whether it is a tombstone.
pub(crate) type Summary = (String, i64, Vec<u8>, bool);

/// The summary of a record.
pub(crate) fn summary(record: &Record) -> Summary {
    (
        record.record_id.as_str().to_owned(),
        record.version.get(),
        record.ciphertext.as_bytes().to_vec(),
        record.deleted,
    )
}

/// The summary of a live record.
pub(crate) fn live(id: &str, version: i64, ciphertext: &str) -> Summary {
    (id.to_owned(), version, ciphertext.as_bytes().to_vec(), false)
}

/// The summaries of the conflicting records.
pub(crate) fn conflicts(refused: &Refused) -> Vec<Summary> {
    let conflicts = refused.conflicts.iter().map(|conflict| {
        (
            conflict.record_id.as_str().to_owned(),
            conflict.current_version.get(),
            conflict.ciphertext.as_bytes().to_vec(),
            conflict.deleted,
        )
    });
    conflicts.collect()
}

/// The id and version of each written record, in order.
pub(crate) fn versions(written: &[Written]) -> Vec<(&str, i64)> {
    written.iter().map(|one| (one.record_id.as_str(), one.version.get())).collect()
}

/// Polls a future once. Its output, if it is ready.
pub(crate) fn poll_once<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A pull of the changes after `cursor`, in milliseconds.
pub(crate) fn pull_after(cursor: Option<i64>, limit: usize) -> Pull {
    let cursor = cursor.map(|millis| Cursor::from(Timestamp::from_millis(millis)));
    Pull { cursor, limit, ..Pull::default() }
}

impl TestStore {
    /// A new store of the same backend with another limit for pages and conflict lists.
    pub(crate) async fn with_page_bytes_max(&self, page_bytes_max: usize) -> Self {
        Self::open(self.backend, StoreOptions { page_bytes_max, ..self.options }).await
    }

    /// Pushes without an epoch, at [`NOW`].
    pub(crate) async fn try_push(&self, vault: &Vault, operations: &[Operation]) -> PushOutcome {
        self.push(vault, batch(operations, None), NOW).await
    }

    /// Pushes at [`NOW`]. The push must be applied.
    pub(crate) async fn push_applied(
        &self,
        vault: &Vault,
        operations: &[Operation],
    ) -> Vec<Written> {
        self.push_applied_at(vault, operations, NOW).await
    }

    /// Pushes at `now`. The push must be applied.
    pub(crate) async fn push_applied_at(
        &self,
        vault: &Vault,
        operations: &[Operation],
        now: i64,
    ) -> Vec<Written> {
        match self.push(vault, batch(operations, None), now).await {
            PushOutcome::Applied { results: written, .. } => written,
            other => panic!("{operations:?} is not applied: {other:?}"),
        }
    }

    /// Pushes at [`NOW`]. The push must be refused.
    pub(crate) async fn push_refused(&self, vault: &Vault, operations: &[Operation]) -> Refused {
        match self.try_push(vault, operations).await {
            PushOutcome::Refused(refused) => refused,
            other => panic!("{operations:?} is not refused: {other:?}"),
        }
    }

    /// Pulls one page.
    pub(crate) async fn page(&self, vault: &Vault, cursor: Option<i64>, limit: usize) -> Page {
        match self.pull(vault, &pull_after(cursor, limit)).await {
            PullOutcome::Page(page) => page,
            other => panic!("no page after {cursor:?}: {other:?}"),
        }
    }

    /// Pulls all records in pages of `limit`, as a client does that follows the cursor from the start.
    pub(crate) async fn pull_all(&self, vault: &Vault, limit: usize) -> Vec<Record> {
        let (mut records, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.page(vault, cursor, limit).await;
            assert!(page.records.len() <= limit, "a page has at most `limit` records");
            let last = page.records.last().map(|record| record.updated_at);
            assert_eq!(page.next_cursor, last, "the cursor is that of the last record");
            let next = last.map(Timestamp::as_millis);
            assert!(next.is_none() || next > cursor, "a page with records advances the cursor");
            cursor = next.or(cursor);
            records.extend(page.records);
            if !page.has_more {
                return records;
            }
            assert!(last.is_some(), "a page that is not the last one has records");
        }
    }

    /// The summaries of all records, by `updated_at`.
    pub(crate) async fn summaries(&self, vault: &Vault) -> Vec<Summary> {
        self.pull_all(vault, 100).await.iter().map(summary).collect()
    }

    /// The whole state of the vault, to compare it later: head, epoch and records.
    pub(crate) async fn state(
        &self,
        vault: &Vault,
    ) -> (Option<Timestamp>, Option<Epoch>, Vec<Record>) {
        let page = self.page(vault, None, 100).await;
        (page.head, page.epoch, self.pull_all(vault, 100).await)
    }

    /// The vault's head.
    pub(crate) async fn head(&self, vault: &Vault) -> i64 {
        self.page(vault, None, 1).await.head.expect("the vault exists").as_millis()
    }

    /// The vault's epoch, as a client sends it.
    pub(crate) async fn epoch(&self, vault: &Vault) -> String {
        self.page(vault, None, 1).await.epoch.expect("the vault exists").to_string()
    }

    /// Pushes at [`NOW`] as a client that knows an epoch.
    pub(crate) async fn push_with_epoch(
        &self,
        vault: &Vault,
        epoch: &str,
        operations: &[Operation],
    ) -> PushOutcome {
        self.push(vault, batch(operations, Some(epoch)), NOW).await
    }

    /// Pulls a page as a client that knows an epoch.
    pub(crate) async fn pull_with_epoch(
        &self,
        vault: &Vault,
        epoch: Epoch,
        cursor: Option<i64>,
    ) -> PullOutcome {
        self.pull(vault, &Pull { epoch: Some(known_epoch(epoch)), ..pull_after(cursor, 100) }).await
    }
}
