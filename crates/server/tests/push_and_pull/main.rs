//! Push and pull over a real socket, as described row by row in `docs/PROTOCOL.md`.
//!
//! Not here: invalid requests (`bad_requests`), isolation of users (`isolation`), sign-in, rates and
//! deadlines.

mod content;
mod cursors;
mod decisions;
mod epochs;
mod erase;
mod following;
mod guards;
mod named_vaults;
mod paging;
mod post_pull;
mod quotas;
mod removed_tombstones;
mod responses;
mod retries;
mod waiting;

use serde_json::{Value, json};
use vaultsync_protocol::Cursor;
use vaultsync_server::Limits;
use vaultsync_testkit::{Backend, Setup, TestServer, push_of};

/// The user of most tests. Each test has its own server.
const USER: &str = "ada";

/// A server whose pages and lists of conflicts have at most that many bytes of ciphertext.
async fn server_with_pages_of(backend: Backend, page_bytes_max: usize) -> TestServer {
    let mut setup = Setup::on(backend);
    setup.limits = Limits { page_bytes_max, ..setup.limits };
    TestServer::start_with(setup).await
}

/// Pushes, checks that the push is applied, and returns the versions.
async fn apply(server: &TestServer, operations: impl IntoIterator<Item = Value>) -> Vec<u64> {
    let body = push_of(operations);
    let answer = server.push(USER, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let results = answer["results"].as_array().expect("results").iter();
    results.map(|result| result["version"].as_u64().expect("a version")).collect()
}

/// A page of the user's vault.
async fn page(server: &TestServer, query: &str) -> Value {
    let answer = server.pull(USER, query).await;
    assert_eq!(answer.status, 200, "{query} {answer:?}");
    answer.json()
}

/// The record of the user's vault with that id.
async fn record(server: &TestServer, record_id: &str) -> Value {
    let page = page(server, "").await;
    let mut records = page["records"].as_array().expect("records").iter();
    let found = records.find(|record| record["recordId"] == record_id);
    found.unwrap_or_else(|| panic!("no {record_id} in {page}")).clone()
}

/// The ids of a page's records, in order.
fn ids(page: &Value) -> Vec<&str> {
    let records = page["records"].as_array().expect("records").iter();
    records.map(|record| record["recordId"].as_str().expect("an id")).collect()
}

/// A time in milliseconds. Fails the test unless it is formatted as JavaScript's `Date` does.
#[track_caller]
fn millis(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_else(|| panic!("not a time: {time}"));
    let timestamp = Cursor::parse(text).expect("a cursor").timestamp();
    assert_eq!(timestamp.to_string(), text, "formatted differently");
    timestamp.as_millis()
}

/// The page of a vault to which nothing was ever pushed.
fn empty_vault_page() -> Value {
    json!({ "records": [], "nextCursor": null, "hasMore": false, "epoch": null, "head": null })
}
