//! The words that the cases are written in.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use uuid::Uuid;
use vaultsync_protocol::{Cursor, Epoch, Operation, Page, Pull, Record, Timestamp, Written};
use vaultsync_store::{PullOutcome, PushOutcome, Refused, StoreOptions, Vault};

pub(crate) use crate::support::operation;
use crate::support::{Backend, TestStore, batch, known};

/// When a case takes place, where it has nothing to say about time: in 2024, in milliseconds.
pub(crate) const NOW: i64 = 1_705_314_600_000;

pub(crate) const HOUR: i64 = 3_600_000;

/// How long a case may take. The longest takes a second or two.
pub(crate) const CASE_MAX: Duration = Duration::from_mins(1);

/// What a server's page holds unless it is told otherwise.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a store is opened with where a case has nothing to say about it.
pub(crate) fn options() -> StoreOptions {
    let new_epoch = || Epoch::new(Uuid::new_v4());
    StoreOptions { page_bytes_max: PAGE_BYTES_MAX, new_epoch }
}

/// A new store of that kind.
pub(crate) async fn open(backend: Backend) -> TestStore {
    TestStore::open(backend, options()).await
}

/// A user that no other test has.
pub(crate) fn user() -> Vault {
    Vault::of("https://issuer.test", format!("user_{}", Uuid::new_v4()))
}

/// A write by one who knows of no such record.
pub(crate) fn create(id: &str, ciphertext: &str) -> Operation {
    operation(id, None, ciphertext, false)
}

/// A write on top of a version.
pub(crate) fn update(id: &str, base: i64, ciphertext: &str) -> Operation {
    operation(id, Some(base), ciphertext, false)
}

/// A tombstone without ciphertext on top of a version.
pub(crate) fn delete(id: &str, base: i64) -> Operation {
    operation(id, Some(base), "", true)
}

/// `count` creates of `{prefix}0`, `{prefix}1` and so on.
pub(crate) fn creates(prefix: &str, count: usize) -> Vec<Operation> {
    (0..count).map(|n| create(&format!("{prefix}{n}"), &format!("{prefix}{n} v1"))).collect()
}

/// A record in short: id, version, ciphertext, whether it is a tombstone.
pub(crate) type Short = (String, i64, Vec<u8>, bool);

/// What [`Short`] is of a record.
pub(crate) fn short(record: &Record) -> Short {
    (
        record.record_id.as_str().to_owned(),
        record.version.get(),
        record.ciphertext.as_bytes().to_vec(),
        record.deleted,
    )
}

/// A live record as a case expects it.
pub(crate) fn live(id: &str, version: i64, ciphertext: &str) -> Short {
    (id.to_owned(), version, ciphertext.as_bytes().to_vec(), false)
}

/// The conflicts in short, with what they say of time left out.
pub(crate) fn in_the_way(refused: &Refused) -> Vec<Short> {
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

/// A push's answer: what was written to each record, in order.
pub(crate) fn versions(written: &[Written]) -> Vec<(&str, i64)> {
    written.iter().map(|one| (one.record_id.as_str(), one.version.get())).collect()
}

/// Polls a future once; its answer if it is done.
pub(crate) fn poll_once<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// A pull after `cursor`, in milliseconds.
pub(crate) fn after(cursor: Option<i64>, limit: usize) -> Pull {
    let cursor = cursor.map(|millis| Cursor::from(Timestamp::from_millis(millis)));
    Pull { cursor, limit, ..Pull::default() }
}

impl TestStore {
    /// Another new store of the same kind, whose pages and conflict lists hold that much.
    pub(crate) async fn with_page_bytes_max(&self, page_bytes_max: usize) -> Self {
        Self::open(self.backend, StoreOptions { page_bytes_max, ..self.options }).await
    }

    /// Pushes without an epoch, at [`NOW`].
    pub(crate) async fn try_push(&self, vault: &Vault, operations: &[Operation]) -> PushOutcome {
        self.push(vault, batch(operations, None), NOW).await
    }

    /// Pushes what must be applied, and answers the versions.
    pub(crate) async fn applied(&self, vault: &Vault, operations: &[Operation]) -> Vec<Written> {
        self.applied_at(vault, operations, NOW).await
    }

    /// Pushes what must be applied at `now`, and answers the versions.
    pub(crate) async fn applied_at(
        &self,
        vault: &Vault,
        operations: &[Operation],
        now: i64,
    ) -> Vec<Written> {
        match self.push(vault, batch(operations, None), now).await {
            PushOutcome::Applied(written) => written,
            other => panic!("{operations:?} is not applied: {other:?}"),
        }
    }

    /// Pushes what must be refused, and answers what stood in the way.
    pub(crate) async fn refused(&self, vault: &Vault, operations: &[Operation]) -> Refused {
        match self.try_push(vault, operations).await {
            PushOutcome::Refused(refused) => refused,
            other => panic!("{operations:?} is not refused: {other:?}"),
        }
    }

    /// One page.
    pub(crate) async fn page(&self, vault: &Vault, cursor: Option<i64>, limit: usize) -> Page {
        match self.pull(vault, &after(cursor, limit)).await {
            PullOutcome::Page(page) => page,
            other => panic!("no page after {cursor:?}: {other:?}"),
        }
    }

    /// Everything, as a client finds it that follows from the start in pages of `limit`.
    pub(crate) async fn follow(&self, vault: &Vault, limit: usize) -> Vec<Record> {
        let (mut records, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.page(vault, cursor, limit).await;
            assert!(page.records.len() <= limit, "a page is no longer than asked for");
            let last = page.records.last().map(|record| record.updated_at);
            assert_eq!(page.next_cursor, last, "the cursor is the last record's");
            let next = last.map(Timestamp::as_millis);
            assert!(next.is_none() || next > cursor, "a page with records moves the cursor");
            cursor = next.or(cursor);
            records.extend(page.records);
            if !page.has_more {
                return records;
            }
            assert!(last.is_some(), "a page that is not the last one has a record");
        }
    }

    /// Everything in short, by `updated_at`.
    pub(crate) async fn all(&self, vault: &Vault) -> Vec<Short> {
        self.follow(vault, 100).await.iter().map(short).collect()
    }

    /// The vault as it stands, to see that nothing changed: clock, epoch and each record whole.
    pub(crate) async fn state(
        &self,
        vault: &Vault,
    ) -> (Option<Timestamp>, Option<Epoch>, Vec<Record>) {
        let page = self.page(vault, None, 100).await;
        (page.head, page.epoch, self.follow(vault, 100).await)
    }

    /// Where the vault's clock stands.
    pub(crate) async fn head(&self, vault: &Vault) -> i64 {
        self.page(vault, None, 1).await.head.expect("something was pushed").as_millis()
    }

    /// The vault's epoch, as a client sends it.
    pub(crate) async fn epoch(&self, vault: &Vault) -> String {
        self.page(vault, None, 1).await.epoch.expect("something was pushed").to_string()
    }

    /// Pushes at [`NOW`] with the epoch that the client knows.
    pub(crate) async fn push_in(
        &self,
        vault: &Vault,
        epoch: &str,
        operations: &[Operation],
    ) -> PushOutcome {
        self.push(vault, batch(operations, Some(epoch)), NOW).await
    }

    /// Pulls everything with the epoch that the client knows.
    pub(crate) async fn pull_in(
        &self,
        vault: &Vault,
        epoch: Epoch,
        cursor: Option<i64>,
    ) -> PullOutcome {
        self.pull(vault, &Pull { epoch: Some(known(epoch)), ..after(cursor, 100) }).await
    }
}
