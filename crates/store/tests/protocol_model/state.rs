//! A state of the model: the database, the writers and their pushes, the reader.
//!
//! Not here: the steps of a push (`push.rs`).

use std::collections::BTreeSet;

pub(crate) const WRITERS: usize = 2;
pub(crate) const RECORDS: usize = 2;

/// A stored record. The writer and the number of its push stand for the ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) version: i64,
    pub(crate) writer: usize,
    pub(crate) push: u8,
    pub(crate) at: i64,
}

/// The durable state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Vault {
    pub(crate) rows: [Option<Row>; RECORDS],
    pub(crate) head: i64,
    /// How often each record was written. No database stores this; an invariant needs it.
    pub(crate) writes: [i64; RECORDS],
}

/// The decision on a push: what it writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Decided {
    pub(crate) rows: [Option<Row>; RECORDS],
    pub(crate) head: i64,
    /// The version in the response, for each record of the push.
    pub(crate) versions: [i64; RECORDS],
}

/// The stage of a push.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Not sent yet, or to be sent again.
    Idle,
    /// It has the lock, if the protocol has one.
    Locked,
    /// It has read the vault.
    Read(Vault),
    /// It is decided, and not committed yet.
    Written(Decided),
    /// It is committed, and its writer has no response yet.
    Committed(Decided),
    /// Its writer has the response, and it is not committed yet: a mistake.
    Acknowledged(Decided),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    pub(crate) stage: Stage,
    /// The number of acknowledged pushes.
    pub(crate) done: u8,
    /// The versions that it knows, and sends as base versions.
    pub(crate) known: [i64; RECORDS],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Reader {
    pub(crate) cursor: i64,
    pub(crate) rows: [Option<Row>; RECORDS],
}

/// An acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Acknowledged {
    pub(crate) record: usize,
    pub(crate) version: i64,
    pub(crate) writer: usize,
    pub(crate) push: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) vault: Vault,
    pub(crate) locked: bool,
    pub(crate) now: i64,
    pub(crate) crashes: u8,
    pub(crate) responses_lost: u8,
    pub(crate) writers: [Writer; WRITERS],
    pub(crate) reader: Reader,
    pub(crate) acknowledged: BTreeSet<Acknowledged>,
}

/// The records of a writer's pushes: both for writer 0, only the second one for writer 1.
pub(crate) fn records_of(writer: usize) -> std::ops::Range<usize> {
    writer..RECORDS
}

impl State {
    pub(crate) fn commit(&mut self, decided: &Decided) {
        for (record, row) in decided.rows.iter().enumerate() {
            if row.is_some() {
                self.vault.rows[record] = *row;
                self.vault.writes[record] += 1;
            }
        }
        self.vault.head = decided.head;
        self.locked = false;
    }

    pub(crate) fn acknowledge(&mut self, number: usize, decided: &Decided) {
        let writer = &mut self.writers[number];
        for record in records_of(number) {
            let version = decided.versions[record];
            writer.known[record] = version;
            let (writer, push) = (number, writer.done);
            self.acknowledged.insert(Acknowledged { record, version, writer, push });
        }
        writer.done += 1;
    }

    /// Aborts every running push. Its writer sends it again.
    pub(crate) fn crash(&mut self) {
        self.crashes += 1;
        self.locked = false;
        for writer in &mut self.writers {
            writer.stage = Stage::Idle;
        }
    }

    /// Pulls one page. `None` if it is empty.
    pub(crate) fn pull(&mut self) -> Option<()> {
        let later = |row: &Row| row.at > self.reader.cursor;
        let rows = self.vault.rows.iter().enumerate();
        let rows = rows.filter_map(|(record, row)| row.filter(later).map(|row| (record, row)));
        // A page has one record, so every push of two records spans two pages.
        let (record, row) = rows.min_by_key(|(_, row)| row.at)?;
        self.reader.rows[record] = Some(row);
        self.reader.cursor = row.at;
        Some(())
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.writers.iter().all(|writer| writer.stage == Stage::Idle)
    }
}
