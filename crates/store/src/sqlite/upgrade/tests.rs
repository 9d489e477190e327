//! The batches of the upgrade, and what an interruption leaves. A whole file of version 0.2 is upgraded by
//! `tests/conformance/sqlite_upgrade.rs`.

use std::{
    cell::{Cell, RefCell},
    path::PathBuf,
};

use refinery_core::Target;
use rusqlite::params;
use tempfile::TempDir;

use super::*;
use crate::migrations;

/// A file of version 0.2 in a temporary folder.
struct OldFile {
    folder: TempDir,
    connection: Connection,
}

impl OldFile {
    /// An old file with these records of `vaults` vaults in turn, each given by its rowid and the length of
    /// its ciphertext. Each third one is deleted, and each second one has version 2.
    fn new(vaults: u8, records: impl IntoIterator<Item = (i64, usize)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = Connection::open(path(&folder)).unwrap();
        connection.pragma_update(None, "journal_mode", "wal").unwrap();
        migrations::sqlite().set_target(Target::Version(2)).run(&mut connection).unwrap();
        let transaction = connection.transaction().unwrap();
        for vault in 0..vaults {
            let insert = "insert into vaults (vault_id, clock, epoch, issuer, subject)
                 values (?1, 0, ?1, 'issuer', ?2)";
            transaction.execute(insert, params![[vault; 16], vault]).unwrap();
        }
        let insert = "insert into records
               (rowid, vault_id, record_id, version, deleted, updated_at, ciphertext)
             values (?1, ?2, ?3, ?4, ?5, ?1, ?6)";
        for (index, (rowid, bytes)) in (0..=u8::MAX).cycle().zip(records) {
            let (vault, ciphertext) = ([index % vaults; 16], vec![index; bytes]);
            let (version, deleted) = (1 + index % 2, index % 3 == 2);
            let id = format!("record {rowid}");
            let values = params![rowid, vault, id, version, deleted, ciphertext];
            transaction.execute(insert, values).unwrap();
        }
        transaction.commit().unwrap();
        Self { folder, connection }
    }

    /// Applies the migrations, which leave the records in the old table.
    fn migrated(mut self) -> Self {
        migrations::sqlite().run(&mut self.connection).unwrap();
        add_digest_function(&self.connection).unwrap();
        self
    }

    fn move_batch(&mut self, limits: BatchLimits) -> Option<usize> {
        move_batch(&mut self.connection, limits).unwrap()
    }

    /// Opens the file again, as after a process that was killed.
    fn interrupted(self) -> Self {
        let connection = Connection::open(path(&self.folder)).unwrap();
        Self { connection, ..self }
    }

    fn count(&self, query: &str) -> i64 {
        self.connection.query_row(query, [], |row| row.get(0)).unwrap()
    }

    /// Checks that the counters of each vault are those of the records that have been moved.
    fn check_counters(&self, moved: usize) {
        let wrong = "select count(*) from vaults v where (live_records, record_rows, bytes) <> (
               select coalesce(sum(deleted = 0), 0), count(*), coalesce(sum(length(ciphertext)), 0)
               from records r where r.vault_key = v.vault_key)";
        assert_eq!(self.count(wrong), 0, "counters after {moved} records");
        let rows = self.count("select sum(record_rows) from vaults");
        assert_eq!(rows, i64::try_from(moved).unwrap());
    }

    /// Checks that the upgrade is complete.
    fn check_complete(&self, records: usize) {
        self.check_counters(records);
        assert!(!has_old_table(&self.connection).unwrap());
        add_digest_function(&self.connection).unwrap();
        let wrong = "select count(*) from records where digest <> record_digest(ciphertext)
             or created_at is not case when version = 1 then updated_at end
             or record_id <> 'record ' || updated_at";
        assert_eq!(self.count(wrong), 0);
    }
}

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("old.sqlite3")
}

const SMALL: BatchLimits = BatchLimits { rows: 3, bytes: 100 };

#[test]
fn the_counters_are_right_after_each_batch() {
    let mut file = OldFile::new(3, (1..=20).map(|rowid| (rowid, 10))).migrated();
    let mut moved = 0;
    file.check_counters(moved);
    while let Some(batch) = file.move_batch(SMALL) {
        moved += batch;
        file.check_counters(moved);
    }
    file.check_complete(20);
}

#[test]
fn a_batch_ends_before_it_has_too_many_bytes_but_has_one_record() {
    let lengths = [40, 60, 1, 101, 99, 2, 0, 0, 0, 0];
    let mut file = OldFile::new(2, (1..).zip(lengths)).migrated();
    let mut batches = Vec::new();
    while let Some(batch) = file.move_batch(SMALL) {
        batches.push(batch);
    }
    assert_eq!(batches, [2, 1, 1, 1, 3, 2]);
    file.check_complete(lengths.len());
}

#[test]
fn rowids_may_have_gaps() {
    let rowids = [i64::MIN, -7, 1, 2, 50, 1000, 1_000_000, i64::MAX];
    let mut file = OldFile::new(2, rowids.map(|rowid| (rowid, 1))).migrated();
    let batches: Vec<_> = std::iter::from_fn(|| file.move_batch(SMALL)).collect();
    assert_eq!(batches, [3, 3, 2]);
    file.check_complete(rowids.len());
}

#[test]
fn an_upgrade_that_was_interrupted_goes_on() {
    for batches in 0..=7 {
        let mut file = OldFile::new(3, (1..=20).map(|rowid| (rowid, 10))).migrated();
        for _ in 0..batches {
            file.move_batch(SMALL).unwrap();
        }
        let mut file = file.interrupted();
        move_records(&mut file.connection).unwrap();
        file.check_complete(20);
    }
}

/// With the limits of a server: more records than a batch may have, and more bytes.
#[test]
fn records_of_several_full_batches_are_moved() {
    let small = (1..=15_000).map(|rowid| (rowid, 20));
    let large = (20_000..20_040).map(|rowid| (rowid, 1024 * 1024));
    let mut file = OldFile::new(5, small.chain(large)).migrated();
    let batches: Vec<_> = std::iter::from_fn(|| file.move_batch(BATCH)).collect();
    assert_eq!(batches, [10_000, 5_000 + 31, 9]);
    file.check_complete(15_040);
}

thread_local! {
    /// A connection with an open transaction.
    static OTHER: RefCell<Option<Connection>> = const { RefCell::new(None) };
    /// How often a connection would have waited for another one.
    static WAITS: Cell<u32> = const { Cell::new(0) };
}

/// A command of an operator may write to the file meanwhile.
#[test]
fn a_batch_waits_for_a_writer_of_another_process() {
    let mut file = OldFile::new(1, [(1, 10)]).migrated();
    let other = Connection::open(path(&file.folder)).unwrap();
    other.execute_batch("begin immediate; update vaults set clock = 7").unwrap();
    OTHER.set(Some(other));
    // Called when the file is locked.
    let commit = |_| {
        OTHER.with_borrow(|other| other.as_ref().unwrap().execute_batch("commit").unwrap());
        true
    };
    file.connection.busy_handler(Some(commit)).unwrap();
    assert_eq!(file.move_batch(BATCH), Some(1));
    file.check_counters(1);
    assert_eq!(file.count("select clock from vaults"), 7);
}

#[test]
fn the_log_does_not_grow_with_the_file() {
    let records = (1..=100).map(|rowid| (rowid, 100_000));
    let mut file = OldFile::new(1, records).migrated();
    file.connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    file.connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(())).unwrap();
    while move_and_write_back(&mut file.connection, SMALL).unwrap().is_some() {}
    let log = path(&file.folder).with_extension("sqlite3-wal").metadata().unwrap().len();
    assert!(log < 1_000_000, "{log} bytes for 10 MB in batches of 100 KB");
}

/// A backup, for example, reads the file for longer than the upgrade takes.
#[test]
fn the_upgrade_waits_for_no_reader() {
    let mut file = OldFile::new(2, (1..=20).map(|rowid| (rowid, 10))).migrated();
    let reader = Connection::open(path(&file.folder)).unwrap();
    reader.execute_batch("begin; select count(*) from vaults").unwrap();
    let wait = |_| {
        WAITS.set(WAITS.get() + 1);
        false
    };
    file.connection.busy_handler(Some(wait)).unwrap();
    while move_and_write_back(&mut file.connection, SMALL).unwrap().is_some() {}
    file.check_complete(20);
    assert_eq!(WAITS.get(), 0);
}
