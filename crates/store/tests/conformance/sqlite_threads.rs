//! SQLite only: on which thread a page is read.

use std::{
    thread::{self, ThreadId},
    time::Duration,
};

use vaultsync_store::{PullOutcome, ReadBudget, Vault};

use crate::{
    dsl::{after, creates, live, open, short, user},
    support::{Backend, TestStore},
};

/// ReadBudget for any page, which notes on which thread it was asked for each record.
struct Noting {
    /// What a record takes.
    time: Duration,
    asked: Vec<ThreadId>,
    cleared: usize,
}

impl ReadBudget for Noting {
    fn take(&mut self, _: usize) -> bool {
        thread::sleep(self.time);
        self.asked.push(thread::current().id());
        true
    }

    fn clear(&mut self) {
        self.asked.clear();
        self.cleared += 1;
    }
}

/// Reads the only page of a vault with three records, each of which takes that long.
async fn read(store: &TestStore, vault: &Vault, time: Duration) -> Noting {
    let room = Noting { time, asked: Vec::new(), cleared: 0 };
    let (outcome, room) = store.store.pull(vault, &after(None, 10), room).await.unwrap();
    let PullOutcome::Page(page) = outcome else { panic!("{outcome:?}") };
    let records: Vec<_> = page.records.iter().map(short).collect();
    assert_eq!(records, [live("r0", 1, "r0 v1"), live("r1", 1, "r1 v1"), live("r2", 1, "r2 v1")]);
    assert_eq!(room.asked.len(), 3, "room for each record of the page, and for no other");
    room
}

#[tokio::test]
async fn a_page_that_takes_long_is_read_where_nobody_waits() {
    let store = open(Backend::Sqlite).await;
    let vault = user();
    store.applied(&vault, &creates("r", 3)).await;
    let here = thread::current().id();
    let slow = read(&store, &vault, Duration::from_millis(1)).await;
    assert_eq!(slow.cleared, 1);
    assert!(!slow.asked.contains(&here), "the thread of the caller waits");
    let mut soon = false;
    // The machine may be busy with something else for a while.
    for _ in 0..1000 {
        let quick = read(&store, &vault, Duration::ZERO).await;
        soon |= quick.cleared == 0 && quick.asked == [here; 3];
    }
    assert!(soon, "a page that takes no time goes by way of another thread");
}
