//! SQLite only: which files are opened, and by which process.

use std::{fs, path::Path};

use rusqlite::Connection;
use vaultsync_store::{OpenError, Store};

use crate::{
    dsl::{create, live, open, options, user},
    support::{Backend, TestStore},
};

/// Tries to open a file as a store.
fn try_open(path: &Path) -> Result<Store, OpenError> {
    Store::open_sqlite(path.to_owned(), options())
}

/// The file must be rejected as another program's, and not be changed.
fn check_rejected(path: &Path) {
    let before = fs::read(path).unwrap();
    for _ in 0..2 {
        match try_open(path) {
            Err(OpenError::Foreign { path: rejected, .. }) => assert_eq!(rejected, path),
            other => panic!("{} is not rejected: {other:?}", path.display()),
        }
        assert!(fs::read(path).unwrap() == before, "{} is changed", path.display());
    }
}

#[tokio::test]
async fn a_second_open_fails_because_the_file_is_in_use() {
    let store = open(Backend::Sqlite).await;
    let path = TestStore::sqlite_path(&store.folder);
    for _ in 0..3 {
        let second = try_open(&path);
        assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
    }
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    let store = store.reopen().await;
    assert_eq!(store.summaries(&vault).await, [live("a", 1, "v1")]);
}

/// Every open SQLite connection has a shared lock on its file. Without it, another process would consider
/// itself the last one and delete the write-ahead log that this one still writes to.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_second_open_keeps_the_locks_of_the_first() {
    use std::os::unix::fs::MetadataExt as _;

    let store = open(Backend::Sqlite).await;
    store.push_applied(&user(), &[create("a", "v1")]).await;
    let path = TestStore::sqlite_path(&store.folder);
    let inode = format!(":{} ", fs::metadata(&path).unwrap().ino());
    let locks = || {
        let all = fs::read_to_string("/proc/locks").unwrap();
        all.lines().filter(|line| line.contains("POSIX") && line.contains(&inode)).count()
    };
    let before = locks();
    assert!(matches!(try_open(&path), Err(OpenError::InUse(_))));
    assert_eq!(locks(), before);
    assert!(before > 0, "the store has a lock on its file");
}

/// After a clean stop the file alone is the whole database, and an operator may copy it.
#[tokio::test]
async fn closing_a_store_removes_its_log() {
    let store = open(Backend::Sqlite).await;
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    assert_eq!(store.summaries(&vault).await, [live("a", 1, "v1")]);
    let path = TestStore::sqlite_path(&store.folder);
    let log = path.with_extension("db-wal");
    assert!(log.exists(), "an open store has a log");
    store.store.close().await;
    assert!(!log.exists(), "closing writes it back");
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_is_in_use_under_every_name() {
    let store = open(Backend::Sqlite).await;
    let path = TestStore::sqlite_path(&store.folder);
    let link = store.folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(try_open(&link), Err(OpenError::InUse(_))));
    fs::create_dir(store.folder.path().join("sub")).unwrap();
    let detour = store.folder.path().join("sub/../vaultsync.db");
    assert!(matches!(try_open(&detour), Err(OpenError::InUse(_))));
}

#[tokio::test]
async fn a_closed_file_can_be_opened_again() {
    let store = open(Backend::Sqlite).await;
    let vault = user();
    store.push_applied(&vault, &[create("a", "v1")]).await;
    let TestStore { store, folder, .. } = store;
    store.close().await;
    drop(store);
    for _ in 0..3 {
        let again = try_open(&TestStore::sqlite_path(&folder)).unwrap();
        again.close().await;
    }
}

#[test]
fn a_database_of_another_program_is_rejected_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    for (name, schema) in [
        (
            "tables.db",
            "create table notes (id integer primary key, text text);
                       insert into notes (text) values ('mine');",
        ),
        ("ours in name.db", "create table vaults (vault_id blob); create table records (a);"),
        ("marked.db", "pragma application_id = 7;"),
        ("marked with tables.db", "pragma application_id = -1; create table a (b);"),
        ("wal.db", "pragma journal_mode = wal; create table a (b); insert into a values (1);"),
    ] {
        let path = folder.path().join(name);
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(schema).unwrap();
        connection.close().unwrap();
        check_rejected(&path);
    }
}

#[test]
fn a_file_that_is_not_a_database_is_rejected_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let long = "Dear diary,\n".repeat(1000);
    let cut = "SQLite format 3\0 and then something else".repeat(100);
    for (name, content) in [
        ("a letter.txt", "x"),
        ("short.txt", "hello\n"),
        ("99.txt", &long[..99]),
        ("100.txt", &long[..100]),
        ("511.txt", &long[..511]),
        ("long.txt", &long),
        ("nearly.db", &cut),
        ("settings.toml", "[server]\nlisten = \"127.0.0.1:8787\"\n"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        check_rejected(&path);
    }
}

#[tokio::test]
async fn an_empty_file_and_a_new_folder_become_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.db");
    fs::write(&empty, "").unwrap();
    for path in [empty, folder.path().join("a/b/c.db"), folder.path().join("ünï 'q\" %20.db")] {
        let store = try_open(&path).unwrap();
        store.check().await.unwrap();
        store.close().await;
        assert!(fs::metadata(&path).unwrap().len() > 0);
    }
}

#[test]
fn a_folder_is_not_a_database() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(try_open(folder.path()), Err(OpenError::Io { .. })));
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;

    let store = open(Backend::Sqlite).await;
    store.push_applied(&user(), &[create("a", "v1")]).await;
    let mut files = 0;
    for entry in fs::read_dir(store.folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
        files += 1;
    }
    assert_eq!(files, 4, "the database, its log, its index and the lock");
}

#[tokio::test]
async fn a_name_that_looks_like_a_uri_is_a_file_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file:x.db?mode=memory");
    let store = Store::open_sqlite(path.clone(), options()).unwrap();
    assert!(path.is_file() && !folder.path().join("x.db").exists());
    assert!(matches!(try_open(&path), Err(OpenError::InUse(_))));
    drop(store);
}

/// What a start says about a path, if it fails.
fn start_message(path: &Path) -> String {
    try_open(path).expect_err("it cannot be opened").to_string()
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_with_what_to_do() {
    let store = open(Backend::Sqlite).await;
    let path = TestStore::sqlite_path(&store.folder);
    store.store.close().await;
    let TestStore { store, folder: _folder, .. } = store;
    drop(store);
    let newer =
        "insert into refinery_schema_history values (99, 'next', '2026-01-01T00:00:00Z', '1')";
    Connection::open(&path).unwrap().execute_batch(newer).unwrap();
    let message = start_message(&path);
    assert!(message.contains("a newer version of Vaultsync has migrated it"), "{message}");
    assert!(!message.contains("filesystem"), "{message}");
}

#[test]
fn a_path_that_cannot_be_a_database_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    assert!(start_message(folder.path()).ends_with("Name a file in that folder"));
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let message = start_message(&file.join("x.db"));
    assert!(message.ends_with("A part of this path is a file and not a folder"), "{message}");
    #[cfg(unix)]
    {
        let message = start_message(Path::new("/dev/null"));
        assert!(message.contains("a device, a pipe or a socket"), "{message}");
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink(folder.path().join("missing/x.db"), &link).unwrap();
        assert!(start_message(&link).ends_with("create what is missing"), "{link:?}");
    }
}
