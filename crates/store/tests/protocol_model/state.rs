//! What there is at one moment: the database, the writers and their pushes, the reader.
//!
//! Not here: what a push does next.

use std::collections::BTreeSet;

pub(crate) const WRITERS: usize = 2;
pub(crate) const RECORDS: usize = 2;

/// A record as the database has it. What it holds is told by who wrote it, and as which push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) version: i64,
    pub(crate) writer: usize,
    pub(crate) push: u8,
    pub(crate) at: i64,
}

/// What is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Vault {
    pub(crate) rows: [Option<Row>; RECORDS],
    pub(crate) clock: i64,
    /// How often each record was written, which no database knows.
    pub(crate) writes: [i64; RECORDS],
}

/// What a push does, once it was judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Judged {
    pub(crate) rows: [Option<Row>; RECORDS],
    pub(crate) clock: i64,
    /// What it is answered, for each record that it has.
    pub(crate) versions: [i64; RECORDS],
}

/// Where a push stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// It is to be sent, or sent again.
    Idle,
    /// It has the lock, where there is one.
    Locked,
    /// It has read these rows, and the clock.
    Read(Vault),
    /// It was judged, and is to be committed.
    Written(Judged),
    /// It is committed, and its writer does not know yet.
    Committed(Judged),
    /// Its writer was told of a success, and it is to be committed: the mistake.
    Answered(Judged),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    pub(crate) stage: Stage,
    /// Pushes that were acknowledged.
    pub(crate) done: u8,
    /// The versions that it knows of, and edits.
    pub(crate) known: [i64; RECORDS],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Reader {
    pub(crate) cursor: i64,
    pub(crate) held: [Option<Row>; RECORDS],
}

/// A write that was acknowledged.
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
    pub(crate) answers_lost: u8,
    pub(crate) writers: [Writer; WRITERS],
    pub(crate) reader: Reader,
    pub(crate) acknowledged: BTreeSet<Acknowledged>,
}

/// Writer 0 writes both records in each push, writer 1 the second one only.
pub(crate) fn records_of(writer: usize) -> std::ops::Range<usize> {
    writer..RECORDS
}

impl State {
    pub(crate) fn commit(&mut self, judged: &Judged) {
        for (record, row) in judged.rows.iter().enumerate() {
            if row.is_some() {
                self.vault.rows[record] = *row;
                self.vault.writes[record] += 1;
            }
        }
        self.vault.clock = judged.clock;
        self.locked = false;
    }

    pub(crate) fn acknowledge(&mut self, number: usize, judged: &Judged) {
        let writer = &mut self.writers[number];
        for record in records_of(number) {
            let version = judged.versions[record];
            writer.known[record] = version;
            let (writer, push) = (number, writer.done);
            self.acknowledged.insert(Acknowledged { record, version, writer, push });
        }
        writer.done += 1;
    }

    /// Every push that was under way is cut off; its writer sends it again.
    pub(crate) fn crash(&mut self) {
        self.crashes += 1;
        self.locked = false;
        for writer in &mut self.writers {
            writer.stage = Stage::Idle;
        }
    }

    /// One page; `None` where it is empty.
    pub(crate) fn pull(&mut self) -> Option<()> {
        let later = |row: &Row| row.at > self.reader.cursor;
        let rows = self.vault.rows.iter().enumerate();
        let rows = rows.filter_map(|(record, row)| row.filter(later).map(|row| (record, row)));
        // A page holds one record, so that every push of two is cut by its end.
        let (record, row) = rows.min_by_key(|(_, row)| row.at)?;
        self.reader.held[record] = Some(row);
        self.reader.cursor = row.at;
        Some(())
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.writers.iter().all(|writer| writer.stage == Stage::Idle)
    }
}
