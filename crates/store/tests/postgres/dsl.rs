//! Helpers that the tests are written with.

use std::time::Duration;

use uuid::Uuid;
use vaultsync_protocol::{Cursor, Epoch, Page, Pull, Record, Timestamp, Written};
use vaultsync_store::{
    DatabaseUrl, OpenError, PostgresOptions, PullOutcome, PushOutcome, Store, StoreError,
    StoreOptions, Unbounded, Vault,
};
use vaultsync_test_servers::{query, shared_postgres};

use crate::support::{batch, operation, postgres_options};

pub(crate) const NOW: i64 = 1_705_314_600_000;

/// The store's timeout if a test is about it, and how long a response may then take: five times as long,
/// because the machine may be busy.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const RESPONSE_WITHIN: Duration = Duration::from_secs(10);

/// How long a store may take to recover after its database has: five times the target.
pub(crate) const RECOVERY_WITHIN: Duration = Duration::from_secs(25);

pub(crate) fn store_options() -> StoreOptions {
    StoreOptions { page_bytes_max: 8 << 20, ..StoreOptions::new(|| Epoch::new(Uuid::new_v4())) }
}

/// Options for the shared database at these addresses.
pub(crate) fn options_for(primaries: Vec<DatabaseUrl>) -> PostgresOptions {
    PostgresOptions { primaries, ..postgres_options() }
}

pub(crate) async fn try_open(options: PostgresOptions) -> Result<Store, OpenError> {
    Store::open_postgres(options, store_options()).await
}

pub(crate) async fn open(options: PostgresOptions) -> Store {
    try_open(options).await.expect("the database opens")
}

/// A store that connects through a proxy.
pub(crate) async fn open_through(proxy: &crate::proxy::Proxy) -> Store {
    postgres_options();
    open(options_for(vec![proxy.url("vaultsync")])).await
}

/// A new empty database of the shared server.
pub(crate) fn new_database() -> DatabaseUrl {
    let name = format!("d{}", Uuid::new_v4().simple());
    shared_postgres().create_database(&name, None);
    shared_postgres().url(&name).parse().expect("an address")
}

pub(crate) fn user() -> Vault {
    Vault::of("https://issuer.test", format!("user_{}", Uuid::new_v4()))
}

/// Pushes live records, each given by its id, base version and ciphertext.
pub(crate) async fn push(
    store: &Store,
    vault: &Vault,
    writes: &[(&str, Option<i64>, &str)],
) -> Result<PushOutcome, StoreError> {
    let operations: Vec<_> = writes
        .iter()
        .map(|(id, base, ciphertext)| operation(id, *base, *ciphertext, false))
        .collect();
    store.push(vault, batch(&operations, None), Timestamp::from_millis(NOW), ()).await
}

/// Pushes. The push must be applied. Returns the versions.
pub(crate) async fn push_applied(
    store: &Store,
    vault: &Vault,
    writes: &[(&str, Option<i64>, &str)],
) -> Vec<i64> {
    match push(store, vault, writes).await {
        Ok(PushOutcome::Applied { results: written, .. }) => versions(&written),
        other => panic!("{writes:?} is not applied: {other:?}"),
    }
}

pub(crate) fn versions(written: &[Written]) -> Vec<i64> {
    written.iter().map(|one| one.version.get()).collect()
}

pub(crate) async fn try_page(
    store: &Store,
    vault: &Vault,
    cursor: Option<Timestamp>,
    limit: usize,
) -> Result<Page, StoreError> {
    let pull = Pull { cursor: cursor.map(Cursor::from), limit, ..Pull::default() };
    match store.pull(vault, &pull, Unbounded).await?.0 {
        PullOutcome::Page(page) => Ok(page),
        other => panic!("no page: {other:?}"),
    }
}

/// Pulls all records, page by page.
pub(crate) async fn pull_all(store: &Store, vault: &Vault) -> Vec<Record> {
    let (mut records, mut cursor) = (Vec::new(), None);
    loop {
        let page = try_page(store, vault, cursor, 7).await.expect("a page");
        cursor = page.next_cursor.or(cursor);
        records.extend(page.records);
        if !page.has_more {
            return records;
        }
    }
}

/// The id, version and text of all records, by id.
pub(crate) async fn state(store: &Store, vault: &Vault) -> Vec<(String, i64, String)> {
    let records = pull_all(store, vault).await;
    assert!(records.is_sorted_by(|a, b| a.updated_at < b.updated_at), "{records:?}");
    let mut summaries: Vec<_> = records
        .iter()
        .map(|record| {
            let text = String::from_utf8(record.ciphertext.as_bytes().to_vec()).expect("text");
            (record.record_id.to_string(), record.version.get(), text)
        })
        .collect();
    summaries.sort();
    summaries
}

/// Retries until it succeeds, as clients do.
pub(crate) async fn retry_until_ok<T, F: Future<Output = Result<T, StoreError>>>(
    within: Duration,
    mut attempt: impl FnMut() -> F,
) -> T {
    let retrying = async {
        loop {
            match attempt().await {
                Ok(value) => return value,
                Err(StoreError::Internal(cause)) => panic!("a fault, not an outage: {cause}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(within, retrying).await.expect("it succeeds in time")
}

/// Waits until a query of the database at `psql` returns `t`.
pub(crate) async fn until(psql: &str, condition: &str) {
    let holds = async {
        while query(psql, condition).trim() != "t" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(RECOVERY_WITHIN, holds).await.expect(condition);
}
