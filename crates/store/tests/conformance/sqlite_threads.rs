//! SQLite only: the thread on which a page is read.

use std::{
    thread::{self, ThreadId},
    time::Duration,
};

use vaultsync_store::{PullOutcome, ReadBudget, Vault};

use crate::{
    dsl::{creates, live, open, pull_after, summary, user},
    support::{Backend, TestStore},
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
