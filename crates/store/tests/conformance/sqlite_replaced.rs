//! SQLite only: files that are deleted, replaced or mixed up behind the server's back.

#![cfg(unix)]

use std::{
    fs::{self, File, FileTimes},
    path::{Path, PathBuf},
};

use rusqlite::Connection;
use vaultsync_protocol::Timestamp;
use vaultsync_store::{OpenError, Store, StoreError, StoreHealth, Vault};

use crate::{
    dsl::{NOW, create, live, open, options, user},
    support::{Backend, TestStore, batch},
};

async fn try_push(store: &TestStore, vault: &Vault, id: &str) -> Result<(), StoreError> {
    let push = batch(&[create(id, "v1")], None);
    store.store.push(vault, push, Timestamp::from_millis(NOW), ()).await.map(drop)
}

/// The path of a file beside the database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// A backup, as `sqlite3 FILE ".backup BACKUP"` makes it.
fn back_up(path: &Path, backup: &Path) {
    let mut statement = format!("vacuum into '{}'", backup.display());
    statement.push(';');
    Connection::open(path).unwrap().execute_batch(&statement).unwrap();
}

/// Changes the files under an open store. No push may be acknowledged after that, and reads go on.
async fn check_stops_pushes(what: &str, change: impl FnOnce(&Path, &Path)) {
    let store = open(Backend::Sqlite).await;
    let path = TestStore::sqlite_path(&store.folder);
    let vault = user();
    try_push(&store, &vault, "a").await.unwrap();
    let backup = store.folder.path().join("backup.db");
    back_up(&path, &backup);
    // So many pushes that the file has grown since the backup, and the log is written back.
    let store = store.reopen().await;
    try_push(&store, &vault, "b").await.unwrap();
    change(&path, &backup);
    // The open file has the first push, so it is not known what becomes of it.
    let pushed = try_push(&store, &vault, "c").await;
    let is_refused =
        matches!(pushed, Err(StoreError::OutcomeUnknown(_) | StoreError::Unavailable(_)));
    assert!(is_refused, "{what}: {pushed:?}");
    let pushed = try_push(&store, &vault, "d").await;
    assert!(matches!(pushed, Err(StoreError::Unavailable(_))), "{what}: {pushed:?}");
    assert_eq!(store.store.health(), StoreHealth::Replaced, "{what}");
    if !what.contains("copied") {
        // On every connection, of which some have not read before.
        for _ in 0..20 {
            let found = store.summaries(&vault).await;
            assert_eq!(found[..2], [live("a", 1, "v1"), live("b", 1, "v1")], "{what}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_deleted_or_replaced_takes_no_pushes() {
    check_stops_pushes("deleted", |path, _| fs::remove_file(path).unwrap()).await;
    check_stops_pushes("moved", |path, _| fs::rename(path, beside(path, ".old")).unwrap()).await;
    check_stops_pushes("a backup moved over it", |path, backup| fs::rename(backup, path).unwrap())
        .await;
    check_stops_pushes("a backup copied over it", |path, backup| {
        // Into the same file, as `cp` does it.
        let mut file = File::options().write(true).truncate(true).open(path).unwrap();
        std::io::copy(&mut File::open(backup).unwrap(), &mut file).unwrap();
        // For the test's own sake: closing the file would release SQLite's locks.
        std::mem::forget(file);
    })
    .await;
}

#[tokio::test]
async fn a_log_that_is_deleted_is_not_lost_if_the_server_stops_cleanly() {
    for suffix in ["-wal", "-shm"] {
        let store = open(Backend::Sqlite).await;
        let path = TestStore::sqlite_path(&store.folder);
        let vault = user();
        try_push(&store, &vault, "a").await.unwrap();
        fs::remove_file(beside(&path, suffix)).unwrap();
        // The index is looked at once a second.
        let mut pushes = vec!["a".to_owned()];
        while store.store.health() == StoreHealth::Working {
            let id = format!("b{}", pushes.len());
            match try_push(&store, &vault, &id).await {
                Ok(()) | Err(StoreError::OutcomeUnknown(_)) => pushes.push(id),
                Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}"),
            }
        }
        assert!(try_push(&store, &vault, "c").await.is_err(), "{suffix}");
        let store = store.reopen().await;
        let expected: Vec<_> = pushes.iter().map(|id| live(id, 1, "v1")).collect();
        assert_eq!(store.summaries(&vault).await, expected, "{suffix}");
        try_push(&store, &vault, "c").await.unwrap();
    }
}

#[tokio::test]
async fn a_file_with_a_second_name_is_refused() {
    let store = open(Backend::Sqlite).await;
    let path = TestStore::sqlite_path(&store.folder);
    let link = store.folder.path().join("link.db");
    fs::hard_link(&path, &link).unwrap();
    let opened = Store::open_sqlite(link.clone(), options());
    assert!(matches!(opened, Err(OpenError::HardLinks { names: 2, .. })), "{opened:?}");
    store.store.close().await;
    let TestStore { store, folder: _folder, .. } = store;
    drop(store);
    let opened = Store::open_sqlite(path.clone(), options());
    let message = opened.unwrap_err().to_string();
    assert!(message.contains("has 2 names"), "{message}");
    fs::remove_file(link).unwrap();
    Store::open_sqlite(path, options()).unwrap();
}

/// The files of a server that was killed: the database, its log and its lock file, with their times.
fn copy_as_after_a_crash(path: &Path, folder: &Path) -> PathBuf {
    fs::create_dir(folder).unwrap();
    let copy = folder.join("vaultsync.db");
    for suffix in ["", "-wal", ".lock"] {
        let (from, to) = (beside(path, suffix), beside(&copy, suffix));
        fs::copy(&from, &to).unwrap();
        let times = FileTimes::new().set_modified(fs::metadata(from).unwrap().modified().unwrap());
        File::options().write(true).open(to).unwrap().set_times(times).unwrap();
    }
    copy
}

#[tokio::test]
async fn a_backup_beside_the_log_of_another_file_is_refused() {
    let store = open(Backend::Sqlite).await;
    let path = TestStore::sqlite_path(&store.folder);
    let vault = user();
    try_push(&store, &vault, "a").await.unwrap();
    let backup = store.folder.path().join("backup.db");
    back_up(&path, &backup);
    try_push(&store, &vault, "b").await.unwrap();
    let moved = copy_as_after_a_crash(&path, &store.folder.path().join("moved"));
    let restored = copy_as_after_a_crash(&path, &store.folder.path().join("restored"));
    let copied = copy_as_after_a_crash(&path, &store.folder.path().join("copied"));

    let whole = Store::open_sqlite(moved, options()).expect("the folder may be moved");
    assert_eq!(records(&whole, &vault).await, 2);

    fs::rename(&backup, &restored).unwrap();
    fs::copy(&restored, &copied).unwrap();
    for path in [restored, copied] {
        for _ in 0..2 {
            let opened = Store::open_sqlite(path.clone(), options());
            assert!(matches!(opened, Err(OpenError::StaleLog { .. })), "{opened:?}");
        }
        // What the message says.
        fs::remove_file(beside(&path, "-wal")).unwrap();
        let opened = Store::open_sqlite(path, options()).unwrap();
        assert_eq!(records(&opened, &vault).await, 1, "the backup, and nothing of the log");
    }
}

async fn records(store: &Store, vault: &Vault) -> usize {
    let pull = crate::dsl::pull_after(None, 100);
    let (outcome, ()) = store.pull(vault, &pull, ()).await.unwrap();
    match outcome {
        vaultsync_store::PullOutcome::Page(page) => page.records.len(),
        other => panic!("{other:?}"),
    }
}
