//! Finds rows that contradict each other in a database that was changed by hand.

use rusqlite::Connection;
use uuid::Uuid;
use vaultsync_protocol::{Epoch, Push, Timestamp};
use vaultsync_store::{HistoryOptions, PushOutcome, Quotas, Store, StoreOptions, Vault};
use vaultsync_test_servers::query;
use vaultsync_testkit::{Backend, TestDatabase, backends, inconsistencies, operation, push_of};

backends!(each_contradiction_is_found);

const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;

async fn push(store: &Store, user: &str, base: Option<u64>, ciphertext: &[u8], now: i64) {
    let body = push_of([operation("a", base, ciphertext)]).to_string();
    let push = Push::from_json(body.as_bytes(), usize::MAX).expect("a valid body");
    let vault = Vault::of("https://issuer", user);
    let outcome = store.push(&vault, push, Timestamp::from_millis(now), ()).await;
    assert!(matches!(outcome, Ok(PushOutcome::Applied { .. })), "{outcome:?}");
}

fn execute(url: &str, statement: &str) {
    match url.strip_prefix("sqlite:") {
        Some(path) => {
            let connection = Connection::open(path).expect("the file opens");
            connection.execute_batch(statement).expect(statement);
        }
        None => drop(query(url, statement)),
    }
}

async fn each_contradiction_is_found(backend: Backend) {
    let database = TestDatabase::new(backend);
    let options = StoreOptions {
        page_bytes_max: 1 << 20,
        vaults_per_user_max: 1,
        history: HistoryOptions::default(),
        quotas: Quotas::default(),
        new_epoch: || Epoch::new(Uuid::new_v4()),
    };
    let store = database.open(options).await;
    push(&store, "ada", None, b"v1", NOW).await;
    push(&store, "ada", Some(1), b"version 2", NOW + HOUR).await;
    push(&store, "ada", Some(2), b"", NOW + 2 * HOUR).await;
    push(&store, "ben", None, b"v1", NOW).await;
    store.close().await;
    drop(store);
    let url = database.url();
    assert_eq!(inconsistencies(&url), [""; 0]);
    let (digest, bytes) = match backend {
        Backend::Sqlite => ("zeroblob(16)", "x'6162'"),
        Backend::Postgres => (r"'\x00000000000000000000000000000000'::bytea", "'ab'::bytea"),
    };
    for counter in ["live_records", "record_rows", "bytes", "history_bytes"] {
        execute(&url, &format!("update vaults set {counter} = {counter} + 1"));
        let found = inconsistencies(&url);
        assert!(found.len() == 2 && found.iter().all(|one| one.contains("counters")), "{found:?}");
        execute(&url, &format!("update vaults set {counter} = {counter} - 1"));
    }
    assert_eq!(inconsistencies(&url), [""; 0]);
    // Each of these stays, so what is found grows.
    let mut found_before = 0;
    for (change, expected) in [
        (format!("update records set digest = {digest} where version = 3"), "digest"),
        (format!("update revisions set ciphertext = {bytes} where version = 1"), "digest"),
        ("update records set created_at = 1 where version = 1".to_owned(), "created_at"),
        (
            "update revisions set version = 3 where version = 2".to_owned(),
            "does not come before the record",
        ),
        ("update vaults set subject = 'bob' where subject = 'ben'".to_owned(), "is not vault"),
    ] {
        execute(&url, &change);
        let found = inconsistencies(&url);
        assert!(found.iter().any(|one| one.contains(expected)), "{change}: {found:?}");
        assert!(found.len() > found_before, "{change}: {found:?}");
        found_before = found.len();
    }
    execute(&url, "delete from vaults where subject = 'bob'");
    let found = inconsistencies(&url);
    assert!(found.iter().any(|one| one.contains("is in no vault")), "{found:?}");
}
