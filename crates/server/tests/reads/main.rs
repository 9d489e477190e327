//! Reads beside the pull, over a real socket, as described in `docs/PROTOCOL.md`.
//!
//! Not here: invalid requests (`bad_requests`) and isolation of users (`isolation`).

mod export;
mod history;
mod manifest;
mod records;
mod stream;
mod usage;

use reqwest::Method;
use serde_json::Value;
use vaultsync_server::Limits;
use vaultsync_testkit::{Answer, Backend, Setup, TestServer, push_of, send};

/// The user of most tests. Each test has its own server.
const USER: &str = "ada";

/// A server with other limits.
async fn server_with(backend: Backend, change: impl FnOnce(&mut Limits)) -> TestServer {
    let mut setup = Setup::on(backend);
    change(&mut setup.limits);
    TestServer::start_with(setup).await
}

/// Pushes to a vault, given by the part of the path before `push`, and checks that the push is applied.
async fn apply(server: &TestServer, vault: &str, operations: impl IntoIterator<Item = Value>) {
    let body = push_of(operations);
    let answer = post(server, &format!("/api/sync/{vault}push"), &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn post(server: &TestServer, path: &str, body: &Value) -> Answer {
    let request = server.request(Method::POST, path).bearer_auth(server.token(USER));
    send(request.json(body)).await
}

async fn get(server: &TestServer, path: &str) -> Answer {
    send(server.request(Method::GET, path).bearer_auth(server.token(USER))).await
}

/// The records of a vault, as a pull returns them, by id.
async fn pulled(server: &TestServer, vault: &str) -> Vec<Value> {
    let mut records = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = get(server, &format!("/api/sync/{vault}pull?cursor={cursor}")).await.json();
        records.extend(page["records"].as_array().expect("records").iter().cloned());
        if page["hasMore"] == false {
            records.sort_by_key(|record| record["recordId"].as_str().map(str::to_owned));
            return records;
        }
        page["nextCursor"].as_str().expect("a cursor").clone_into(&mut cursor);
    }
}
