//! SQLite only: the thread on which a page is read, and the thread that writes.

use std::{
    thread::{self, ThreadId},
    time::Duration,
};

use vaultsync_protocol::Timestamp;
use vaultsync_store::{PullOutcome, ReadBudget, StoreError, Vault};

use crate::{
    dsl::{creates, live, open, poll_once, pull_after, summary, user},
    support::{Backend, TestStore, batch},
};

/// An unlimited budget that records the thread of each call.
struct RecordingBudget {
    /// How long each call takes.
    time: Duration,
    threads: Vec<ThreadId>,
    cleared: usize,
}

impl ReadBudget for RecordingBudget {
    fn take(&mut self, _: usize) -> bool {
        thread::sleep(self.time);
        self.threads.push(thread::current().id());
        true
    }

    fn clear(&mut self) {
        self.threads.clear();
        self.cleared += 1;
    }
}

/// Pulls the only page of a vault with three records, each of which takes `time` to read.
async fn read(store: &TestStore, vault: &Vault, time: Duration) -> RecordingBudget {
    let budget = RecordingBudget { time, threads: Vec::new(), cleared: 0 };
    let (outcome, budget) = store.store.pull(vault, &pull_after(None, 10), budget).await.unwrap();
    let PullOutcome::Page(page) = outcome else { panic!("{outcome:?}") };
    let records: Vec<_> = page.records.iter().map(summary).collect();
    assert_eq!(records, [live("r0", 1, "r0 v1"), live("r1", 1, "r1 v1"), live("r2", 1, "r2 v1")]);
    assert_eq!(budget.threads.len(), 3, "one call for each record of the page");
    budget
}

#[tokio::test]
async fn a_slow_page_is_read_on_a_thread_that_may_block() {
    let store = open(Backend::Sqlite).await;
    let vault = user();
    store.push_applied(&vault, &creates("r", 3)).await;
    let caller = thread::current().id();
    let slow = read(&store, &vault, Duration::from_millis(1)).await;
    assert_eq!(slow.cleared, 1);
    assert!(!slow.threads.contains(&caller), "the thread of the caller blocks");
    let mut was_inline = false;
    // The machine may be busy for a while.
    for _ in 0..1000 {
        let quick = read(&store, &vault, Duration::ZERO).await;
        was_inline |= quick.cleared == 0 && quick.threads == [caller; 3];
    }
    assert!(was_inline, "a quick page is always read on another thread");
}

/// A budget that panics when it is dropped.
struct Panics;

impl ReadBudget for Panics {
    fn take(&mut self, _: usize) -> bool {
        true
    }

    fn clear(&mut self) {}
}

impl Drop for Panics {
    fn drop(&mut self) {
        assert!(thread::panicking(), "a budget that panics");
    }
}

#[tokio::test]
async fn a_writer_thread_that_panics_refuses_pushes_and_is_started_again() {
    let store = open(Backend::Sqlite).await;
    let vault = user();
    let now = Timestamp::from_millis(1);
    let push = |name: &str| batch(&creates(name, 1), None);
    // The first push keeps the thread busy while the second one is queued.
    let other = rusqlite::Connection::open(TestStore::sqlite_path(&store.folder)).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let mut first = Box::pin(store.store.push(&vault, push("first"), now, ()));
    assert!(poll_once(&mut first).is_none());
    // Its caller goes away, so the thread drops it, and the budget panics outside of any batch.
    let mut abandoned = Box::pin(store.store.push(&vault, push("abandoned"), now, Panics));
    assert!(poll_once(&mut abandoned).is_none());
    drop(abandoned);
    other.execute_batch("rollback").unwrap();
    // Unless the thread had not begun it: then it is dropped with the other one.
    let first = first.await;
    assert!(matches!(first, Ok(_) | Err(StoreError::OutcomeUnknown(_))), "{first:?}");
    let is_down = async {
        while store.store.tasks().down() != ["sqlite-writer"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_down).await.unwrap();
    let refused = store.store.push(&vault, push("down"), now, ()).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable(_)), "{refused:?}");
    store.store.check().await.unwrap_err();
    // Repeats the push while it is refused.
    store.push_applied(&vault, &creates("again", 1)).await;
    assert!(store.store.tasks().down().is_empty());
    store.store.check().await.unwrap();
}
