//! A SQLite file of an earlier version is upgraded when it is opened.

use std::{fs, path::Path};

use rusqlite::Connection;
use vaultsync_store::Store;

use crate::{
    dsl::options,
    upgrade::{check_counters, check_records},
};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vaultsync-0.2.sqlite3");

/// The number of rows of a query.
fn count(path: &Path, query: &str) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.query_row(query, [], |row| row.get(0)).unwrap()
}

fn open(path: &Path) -> Store {
    Store::open_sqlite(path.to_owned(), options()).expect("the database opens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_version_0_2_is_upgraded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vaultsync.sqlite3");
    fs::copy(FIXTURE, &path).unwrap();
    let store = open(&path);
    check_records(&store).await;
    check_counters(&store).await;
    store.close().await;
    drop(store);
    let old = "select count(*) from sqlite_schema where name like '%before%'";
    assert_eq!(count(&path, old), 0, "the old table is gone");
    let created =
        "select count(*) from records where record_id in ('kept', 'large') and version = 1
         and created_at = updated_at";
    assert_eq!(count(&path, created), 1, "ben's; ada's were written again");
    let unknown = "select count(*) from records where record_id = 'edited' and created_at is null";
    assert_eq!(count(&path, unknown), 1);
}

/// A start that was interrupted after some records had been moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_upgrade_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vaultsync.sqlite3");
    fs::copy(FIXTURE, &path).unwrap();
    let store = open(&path);
    store.close().await;
    drop(store);
    // As the migration leaves the tables, with two rows that were moved back.
    let connection = Connection::open(&path).unwrap();
    let back = "create table records_before_digests (
           vault_id blob not null, record_id text not null, version integer not null,
           deleted integer not null, updated_at integer not null, ciphertext blob not null,
           primary key (vault_id, record_id)
         ) strict;
         insert into records_before_digests
           select vault_id, record_id, version, deleted, updated_at, ciphertext
           from records join vaults using (vault_key) where record_id in ('edited', 'large');
         delete from records where record_id in ('edited', 'large')";
    connection.execute_batch(back).unwrap();
    drop(connection);
    let store = open(&path);
    check_records(&store).await;
    check_counters(&store).await;
    store.close().await;
}
