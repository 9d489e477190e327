//! `kill -9` during an erasure and during an export.

use std::time::Duration;

use serde_json::{Value, json};
use vaultsync_testkit::{Backend, TestDatabase, backends, operation, push_of};

use crate::support::{Server, token};

backends!(
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    an_erasure_that_is_killed_is_finished_by_the_next_server,
    an_export_that_is_killed_has_no_last_line,
);

const PUSHES: usize = 30;

/// A client whose timeout is longer than any response takes.
fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(60)).build().expect("a client")
}

fn start(backend: Backend, database: &TestDatabase, folder: &std::path::Path) -> Server {
    match backend {
        Backend::Sqlite => Server::start(folder, &[]),
        Backend::Postgres => Server::start_on(database, folder, &[]),
    }
}

async fn push(server: &Server, token: &str, body: &Value) -> (u16, Value) {
    let request = client().post(format!("{}/api/sync/push", server.url)).bearer_auth(token);
    let answer = request.json(body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn pull(server: &Server, token: &str) -> Value {
    let request = client().get(format!("{}/api/sync/pull", server.url)).bearer_auth(token);
    request.send().await.expect("an answer").json().await.expect("JSON")
}

/// Fills the vault with records of 4 KiB. Returns its epoch.
async fn fill(server: &Server, token: &str) -> String {
    for part in 0..PUSHES {
        let records = (0..100).map(|n| operation(&format!("{part}-{n}"), None, &[7; 4096]));
        assert_eq!(push(server, token, &push_of(records)).await.0, 200);
    }
    pull(server, token).await["epoch"].as_str().expect("an epoch").to_owned()
}

async fn an_erasure_that_is_killed_is_finished_by_the_next_server(backend: Backend) {
    let (folder, database) = (tempfile::tempdir().unwrap(), TestDatabase::new(backend));
    let server = start(backend, &database, folder.path());
    let token = token(folder.path(), "ada");
    let epoch = fill(&server, &token).await;
    let url = format!("{}/api/sync/vault?confirm={epoch}", server.url);
    let erased = client().delete(url).bearer_auth(&token).send().await.expect("an answer");
    assert_eq!(erased.status(), 200);
    server.signal("KILL");
    drop(server);

    let server = start(backend, &database, folder.path());
    let empty = pull(&server, &token).await;
    assert_eq!((&empty["records"], &empty["epoch"]), (&json!([]), &Value::Null));
    let mut old = push_of([operation("0-0", Some(1), b"back")]);
    old["epoch"] = json!(epoch);
    let (status, answer) = push(&server, &token, &old).await;
    assert_eq!((status, &answer["code"]), (410, &json!("vault_erased")));
    let new = push_of([operation("new", None, b"new")]);
    let accepted = async {
        loop {
            match push(&server, &token, &new).await {
                (503, _) => tokio::time::sleep(Duration::from_millis(50)).await,
                (status, answer) => return assert_eq!(status, 200, "{answer}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), accepted).await.expect("the rows are removed");
    let page = pull(&server, &token).await;
    assert_eq!(page["records"].as_array().map(Vec::len), Some(1), "{page}");
    let usage = client().get(format!("{}/api/sync/usage", server.url)).bearer_auth(&token);
    let usage: Value = usage.send().await.unwrap().json().await.unwrap();
    assert_eq!((&usage["records"], &usage["bytes"]), (&json!(1), &json!(3)));
}

async fn export(server: &Server, token: &str) -> reqwest::Response {
    let request = client().get(format!("{}/api/sync/export", server.url)).bearer_auth(token);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer
}

async fn an_export_that_is_killed_has_no_last_line(backend: Backend) {
    let (folder, database) = (tempfile::tempdir().unwrap(), TestDatabase::new(backend));
    let server = start(backend, &database, folder.path());
    let token = token(folder.path(), "ada");
    fill(&server, &token).await;
    let mut exporting = export(&server, &token).await;
    let first = exporting.chunk().await.expect("a chunk").expect("a chunk");
    assert!(first.starts_with(br#"{"format":"vaultsync-export""#));
    server.signal("KILL");
    let broken = async {
        while exporting.chunk().await?.is_some() {}
        Ok::<_, reqwest::Error>(())
    };
    assert!(broken.await.is_err(), "the client can tell that the export is not complete");
    drop(server);

    let server = start(backend, &database, folder.path());
    let whole = export(&server, &token).await.text().await.expect("a whole export");
    let last: Value = serde_json::from_str(whole.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["records"], json!(PUSHES * 100));
    assert_eq!(last["hasMore"], json!(false));
}
