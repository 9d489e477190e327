//! A SQLite file of an earlier version is upgraded when it is opened.

use std::{fs, path::Path};

use rusqlite::Connection;
use vaultsync_store::Store;

use crate::{
    dsl::options,
    upgrade::{check_counters, check_history, check_records},
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
    check_history(&store).await;
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
         delete from records where record_id in ('edited', 'large');
         update vaults set (live_records, record_rows, bytes) = (
           select sum(deleted = 0), count(*), sum(length(ciphertext)) from records r
           where r.vault_key = vaults.vault_key)";
    connection.execute_batch(back).unwrap();
    drop(connection);
    let store = open(&path);
    check_records(&store).await;
    check_counters(&store).await;
    store.close().await;
}

/// A file that was recovered from damage, for example.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_without_a_vault_ends_the_upgrade_until_it_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vaultsync.sqlite3");
    fs::copy(FIXTURE, &path).unwrap();
    let run = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    run("insert into records (vault_id, record_id, version, deleted, updated_at, ciphertext)
         values (x'00112233445566778899aabbccddeeff', 'lost', 1, 0, 1, x'')");
    let problems = || vaultsync_store::verify_sqlite(path.clone()).unwrap();
    assert_eq!(problems(), ["1 rows of records belong to no vault in the file (vaults lost: 1)"]);
    for _ in 0..2 {
        let refused = Store::open_sqlite(path.clone(), options()).expect_err("it cannot be moved");
        assert!(refused.to_string().contains("records without a vault"), "{refused}");
    }
    let table = "records_before_digests";
    assert_eq!(
        problems(),
        [format!("1 rows of {table} belong to no vault in the file (vaults lost: 1)")]
    );
    run(&format!("delete from {table} where vault_id not in (select vault_id from vaults)"));
    let store = open(&path);
    check_records(&store).await;
    check_counters(&store).await;
    store.close().await;
}
