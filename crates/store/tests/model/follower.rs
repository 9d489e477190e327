//! A client that follows a vault by its cursor.
//!
//! One kind does all that docs/PROTOCOL.md asks of a client, with `epoch` and `since`; the other sends only its
//! cursor, as the first version of the protocol has it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    record::RecordView,
    reference::{EpochName, Page, PullAnswer, PullRequest, VaultModel},
};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Kind {
    #[default]
    WithSince,
    CursorOnly,
}

/// The local state of a client.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    kind: Kind,
    records: BTreeMap<String, RecordView>,
    cursor: Option<i64>,
    epoch: Option<usize>,
    since: Option<i64>,
    /// The lowest head of the pages of a pull that goes on.
    lowest_head: Option<i64>,
    /// After `cursor_expired`, the local records that the pull from the start has not returned yet.
    unconfirmed: Option<BTreeSet<String>>,
}

impl Follower {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// The next pull. A pull from the start is sent without `since`.
    pub(crate) fn request(&self, limit: usize) -> PullRequest {
        let only_cursor = PullRequest { cursor: self.cursor, limit, epoch: None, since: None };
        match self.kind {
            Kind::CursorOnly => only_cursor,
            Kind::WithSince => PullRequest {
                epoch: self.epoch.map(EpochName::Own),
                since: self.since.filter(|_| self.cursor.is_some()),
                ..only_cursor
            },
        }
    }

    /// Takes the answer to its last request. Returns whether there is more to read.
    pub(crate) fn take(&mut self, answer: PullAnswer) -> bool {
        match answer {
            PullAnswer::Page(page) => self.take_page(page),
            PullAnswer::CursorExpired => {
                (self.cursor, self.since, self.lowest_head) = (None, None, None);
                self.unconfirmed = Some(self.records.keys().cloned().collect());
                true
            }
            PullAnswer::VaultErased => {
                *self = Self::new(self.kind);
                true
            }
            PullAnswer::EpochChanged | PullAnswer::CursorAhead => {
                panic!("no database was put back: {answer:?}")
            }
        }
    }

    fn take_page(&mut self, page: Page) -> bool {
        let advances = page.next_cursor.is_none() || page.next_cursor > self.cursor;
        assert!(advances, "a page with records advances the cursor");
        assert!(!page.has_more || page.next_cursor.is_some(), "an empty page is the last one");
        if self.cursor.is_none() {
            self.since = page.head;
        }
        self.lowest_head = match self.lowest_head {
            Some(lowest) => page.head.map(|head| head.min(lowest)),
            None => page.head,
        };
        for (id, record) in page.records {
            if let Some(unconfirmed) = &mut self.unconfirmed {
                unconfirmed.remove(&id);
            }
            if self.accepts(&id, &record) {
                self.records.insert(id, record);
            }
        }
        self.cursor = page.next_cursor.or(self.cursor);
        self.epoch = page.epoch.or(self.epoch);
        if !page.has_more {
            self.since = self.lowest_head.take();
            for gone in self.unconfirmed.take().into_iter().flatten() {
                self.records.remove(&gone);
            }
        }
        page.has_more
    }

    /// A record of a page replaces a local one if its version is higher, the local one is a tombstone, or the client
    /// starts over. A client that knows only the cursor takes every record.
    fn accepts(&self, id: &str, record: &RecordView) -> bool {
        let starts_over = self.kind == Kind::CursorOnly || self.unconfirmed.is_some();
        let local = self.records.get(id);
        starts_over || local.is_none_or(|local| local.deleted || local.version < record.version)
    }

    /// Checks that a client which has read to the end has exactly the vault's records, and besides them at most
    /// tombstones that were purged. One that sends no `since` lacks no record, but may keep others if any were
    /// removed.
    pub(crate) fn check(&self, vault: &VaultModel) {
        let expected: BTreeMap<_, _> =
            vault.records.iter().map(|(id, record)| (id.clone(), record.view())).collect();
        let may_keep = |record: &RecordView| {
            vault.has_removed && (record.deleted || self.kind == Kind::CursorOnly)
        };
        let records = self.records.iter();
        let records: BTreeMap<_, _> = records
            .filter(|(id, record)| expected.contains_key(*id) || !may_keep(record))
            .map(|(id, record)| (id.clone(), record.clone()))
            .collect();
        assert_eq!(records, expected);
    }
}
