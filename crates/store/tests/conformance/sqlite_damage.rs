//! SQLite only: a file that is damaged, at the start and while it is open.

use std::{
    fs::{self, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
};

use rusqlite::Connection;
use vaultsync_protocol::Timestamp;
use vaultsync_store::{OpenError, Store, StoreError, StoreHealth, Unbounded, Vault, verify_sqlite};

use crate::{
    dsl::{NOW, create, live, operation, options, pull_after, user},
    support::{Backend, TestStore, batch},
};

const PAGE_BYTES: u64 = 4096;

/// Records of one page each, so many that the connection that writes cannot have all of them in memory.
async fn fill(store: &TestStore, vault: &Vault) {
    for batch in 0..8 {
        let records: Vec<_> = (0..50)
            .map(|n| operation(&format!("{batch}-{n}"), None, vec![b'x'; 3900], false))
            .collect();
        store.push_applied(vault, &records).await;
    }
}

/// A closed database with two vaults, the second of them at the end of the file.
async fn two_vaults() -> (TestStore, Vault, Vault) {
    let store = crate::dsl::open(Backend::Sqlite).await;
    let (first, second) = (user(), user());
    fill(&store, &first).await;
    fill(&store, &second).await;
    (store.reopen().await, first, second)
}

/// Overwrites fifty pages with zeros, as a disk does that lost them: of the first vault, or of the second.
fn damage(path: &Path, is_first: bool) {
    let pages = fs::metadata(path).unwrap().len() / PAGE_BYTES;
    let page = if is_first { 50 } else { pages - 60 };
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(page * PAGE_BYTES)).unwrap();
    file.write_all(&vec![0; usize::try_from(50 * PAGE_BYTES).unwrap()]).unwrap();
}

async fn try_push(store: &TestStore, vault: &Vault) -> Result<(), StoreError> {
    let push = batch(&[create(&format!("new {}", uuid::Uuid::new_v4()), "v1")], None);
    store.store.push(vault, push, Timestamp::from_millis(NOW), ()).await.map(drop)
}

/// Reads all pages of a vault, or fails at the first one that cannot be read.
async fn try_pull(store: &TestStore, vault: &Vault) -> Result<(), StoreError> {
    let mut cursor = None;
    loop {
        let pull = pull_after(cursor, 20);
        let (outcome, _) = store.store.pull(vault, &pull, Unbounded).await?;
        let vaultsync_store::PullOutcome::Page(page) = outcome else { panic!("{outcome:?}") };
        cursor = page.records.last().map(|record| record.updated_at.as_millis()).or(cursor);
        if !page.has_more {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn damage_that_a_read_finds_stops_pushes_and_no_other_reads() {
    let (store, first, second) = two_vaults().await;
    assert_eq!(store.store.health(), StoreHealth::Working);
    damage(&TestStore::sqlite_path(&store.folder), false);
    let pulled = try_pull(&store, &second).await;
    assert!(matches!(pulled, Err(StoreError::Unavailable(_))), "{pulled:?}");
    assert_eq!(store.store.health(), StoreHealth::Damaged);
    for vault in [&first, &second, &user()] {
        let pushed = try_push(&store, vault).await;
        assert!(matches!(pushed, Err(StoreError::Unavailable(_))), "{pushed:?}");
    }
    try_pull(&store, &first).await.unwrap();
    assert_eq!(store.store.health(), StoreHealth::Damaged, "it does not heal by itself");
}

#[tokio::test]
async fn damage_that_a_push_finds_undoes_its_batch_and_stops_pushes() {
    let (store, first, second) = two_vaults().await;
    damage(&TestStore::sqlite_path(&store.folder), true);
    // Updates of all records read each of their pages.
    let mut failed = None;
    for batch_number in 0..8 {
        let updates: Vec<_> = (0..50)
            .map(|n| operation(&format!("{batch_number}-{n}"), Some(1), "v2", false))
            .collect();
        let push = batch(&updates, None);
        let pushed = store.store.push(&first, push, Timestamp::from_millis(NOW), ()).await;
        failed = failed.or(pushed.err());
    }
    assert!(matches!(failed, Some(StoreError::Unavailable(_))), "{failed:?}");
    assert_eq!(store.store.health(), StoreHealth::Damaged);
    assert!(try_push(&store, &second).await.is_err());
    try_pull(&store, &second).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_refused_at_the_start_and_stays_as_it_is() {
    let (store, ..) = two_vaults().await;
    let path = TestStore::sqlite_path(&store.folder);
    store.store.close().await;
    let TestStore { store, folder: _folder, .. } = store;
    drop(store);
    let files = || fs::read_dir(path.parent().unwrap()).unwrap().count();
    let files_before = files();
    assert_eq!(verify_sqlite(path.clone()).unwrap(), [""; 0]);
    assert_eq!(files(), files_before, "a check leaves no file");
    damage(&path, false);
    let before = fs::read(&path).unwrap();
    for _ in 0..2 {
        match Store::open_sqlite(path.clone(), options()) {
            Err(error @ OpenError::Damaged { .. }) => {
                let message = error.to_string();
                assert!(message.contains(path.to_str().unwrap()), "{message}");
                assert!(message.contains("`vaultsync verify`"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        assert!(fs::read(&path).unwrap() == before, "the file is changed");
    }
    assert!(!verify_sqlite(path).unwrap().is_empty(), "the full check finds it too");
}

#[tokio::test]
async fn a_database_is_verified_while_it_is_open() {
    let (store, first, _) = two_vaults().await;
    assert_eq!(verify_sqlite(TestStore::sqlite_path(&store.folder)).unwrap(), [""; 0]);
    try_push(&store, &first).await.unwrap();
    let foreign = store.folder.path().join("notes.txt");
    fs::write(&foreign, "no database").unwrap();
    assert!(matches!(verify_sqlite(foreign), Err(OpenError::Foreign { .. })));
    let missing = store.folder.path().join("missing.db");
    assert!(matches!(verify_sqlite(missing.clone()), Err(OpenError::Io { .. })));
    assert!(!missing.exists(), "a check creates nothing");
}

/// A file without the row of a vault, as the recovery of a damaged file may leave it.
#[tokio::test]
async fn records_of_a_lost_vault_never_become_those_of_another() {
    let store = crate::dsl::open(Backend::Sqlite).await;
    let (kept, lost) = (user(), user());
    store.push_applied(&kept, &[create("a", "kept")]).await;
    store.push_applied(&lost, &[create("b", "lost"), create("c", "lost")]).await;
    let path = TestStore::sqlite_path(&store.folder);
    assert_eq!(verify_sqlite(path.clone()).unwrap(), [""; 0]);
    store.store.close().await;
    let connection = Connection::open(&path).unwrap();
    let delete = "delete from vaults where vault_key = (select max(vault_key) from vaults)";
    assert_eq!(connection.execute(delete, []).unwrap(), 1);
    drop(connection);
    let problems = verify_sqlite(path.clone()).unwrap();
    assert_eq!(problems, ["2 rows of records belong to no vault in the file (vaults lost: 1)"]);

    let store = store.reopen().await;
    for vault in [user(), lost] {
        store.push_applied(&vault, &[create("c", "new")]).await;
        assert_eq!(store.summaries(&vault).await, [live("c", 1, "new")]);
    }
    assert_eq!(store.summaries(&kept).await, [live("a", 1, "kept")]);
}

/// The same if only a replaced version is left of the vault.
#[tokio::test]
async fn revisions_of_a_lost_vault_never_become_those_of_another() {
    let store = crate::dsl::open(Backend::Sqlite).await;
    store.push_applied(&user(), &[create("a", "v1")]).await;
    let path = TestStore::sqlite_path(&store.folder);
    let connection = Connection::open(&path).unwrap();
    let lost = "insert into revisions values (70, 'a', 1, 0, 1, 2, 3, zeroblob(16), x'')";
    connection.execute_batch(lost).unwrap();
    store.push_applied(&user(), &[create("b", "v1")]).await;
    let newest = "select max(vault_key) from vaults";
    let newest: i64 = connection.query_row(newest, [], |row| row.get(0)).unwrap();
    assert_eq!(newest, 71);
    let problems = verify_sqlite(path).unwrap();
    assert_eq!(problems, ["1 rows of revisions belong to no vault in the file (vaults lost: 1)"]);
}
