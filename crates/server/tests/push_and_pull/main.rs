//! Push and pull through a real socket: what `docs/PROTOCOL.md` promises, row by row.
//!
//! Not here: requests that are refused as they stand (`bad_requests`), what users see of each other
//! (`isolation`), sign-in, rates and deadlines.

mod answers;
mod content;
mod cursors;
mod epochs;
mod following;
mod judging;
mod paging;
mod retries;
mod waiting;

use serde_json::{Value, json};
use vaultsync_protocol::Cursor;
use vaultsync_server::Limits;
use vaultsync_testkit::{Backend, Setup, TestServer, push_of};

/// The one user of most tests: each has a server of its own.
const USER: &str = "ada";

/// A server whose pages and lists of conflicts end before they pass that many bytes of ciphertext.
async fn server_with_pages_of(backend: Backend, page_bytes_max: usize) -> TestServer {
    let mut setup = Setup::on(backend);
    setup.limits = Limits { page_bytes_max, ..setup.limits };
    TestServer::start_with(setup).await
}

/// Pushes, and fails the test unless all of it is applied; answers the versions.
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

/// The first record of the user's vault with that id.
async fn record(server: &TestServer, record_id: &str) -> Value {
    let page = page(server, "").await;
    let mut records = page["records"].as_array().expect("records").iter();
    let found = records.find(|record| record["recordId"] == record_id);
    found.unwrap_or_else(|| panic!("no {record_id} in {page}")).clone()
}

/// The ids of a page's records, in its order.
fn ids(page: &Value) -> Vec<&str> {
    let records = page["records"].as_array().expect("records").iter();
    records.map(|record| record["recordId"].as_str().expect("an id")).collect()
}

/// A member that holds a time, in milliseconds; fails the test unless it is printed as JavaScript's
/// `Date` does.
#[track_caller]
fn millis(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_else(|| panic!("no time: {time}"));
    let timestamp = Cursor::parse(text).expect("a cursor").timestamp();
    assert_eq!(timestamp.to_string(), text, "a time that is printed otherwise");
    timestamp.as_millis()
}

/// What a pull answers of a vault to which nothing was ever pushed.
fn nothing() -> Value {
    json!({ "records": [], "nextCursor": null, "hasMore": false, "epoch": null, "head": null })
}
