//! Retries: a push is sent again because its response was lost.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use vaultsync_store::RECEIPTS_MAX;
use vaultsync_testkit::{Backend, TestServer, backends, operation, push_of};

use crate::{USER, apply, page, record};

backends!(
    a_retry_gets_the_same_results,
    a_retry_after_another_devices_write_gets_the_same_results,
    a_retry_may_add_the_epoch,
    a_retry_may_be_formatted_differently,
    a_different_batch_is_not_a_retry,
    a_refused_push_is_decided_anew,
    an_operation_that_is_already_applied_is_not_written_again,
    only_the_latest_pushes_have_receipts,
    concurrent_copies_of_a_push_are_applied_once,
    one_of_several_concurrent_edits_of_a_version_wins,
);

/// Sends `body` again, and checks that the response is 200 with the results of `first`, without heads, and that
/// nothing is written.
async fn check_retry(server: &TestServer, body: &Value, first: &Value) {
    let before = page(server, "").await;
    let answer = server.push(USER, body).await;
    assert_eq!((answer.status, answer.json()), (200, retry_of(first)), "{body}");
    assert_eq!(page(server, "").await, before, "a retry writes nothing");
}

/// The response to a retry of a push with this response.
fn retry_of(first: &Value) -> Value {
    json!({ "success": true, "results": first["results"] })
}

async fn a_retry_gets_the_same_results(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("b", None, b"1"), operation("c", None, b"1")]).await;
    let body = push_of([
        operation("a", None, b"1"),
        operation("b", Some(1), b"2"),
        operation("c", Some(1), b""),
        operation("d", Some(7), b"1"),
    ]);
    let first = server.push(USER, &body).await.json();
    assert_eq!(first["results"][3], json!({ "recordId": "d", "version": 1 }));
    for _ in 0..3 {
        check_retry(&server, &body, &first).await;
    }
}

async fn a_retry_after_another_devices_write_gets_the_same_results(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("b", None, b"1")]).await;
    let body = push_of([operation("a", None, b"1"), operation("b", Some(1), b"2")]);
    let first = server.push(USER, &body).await.json();
    apply(&server, [operation("a", Some(1), b"theirs"), operation("b", Some(2), b"")]).await;
    check_retry(&server, &body, &first).await;
    assert_eq!(record(&server, "a").await["version"], 2);
    apply(&server, [operation("b", Some(3), b"back")]).await;
    check_retry(&server, &body, &first).await;
}

async fn a_retry_may_add_the_epoch(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut body = push_of([operation("a", Some(5), b"1")]);
    let first = server.push(USER, &body).await.json();
    body["epoch"] = page(&server, "").await["epoch"].clone();
    check_retry(&server, &body, &first).await;
}

async fn a_retry_may_be_formatted_differently(backend: Backend) {
    let server = TestServer::start(backend).await;
    let first = server.push(USER, &push_of([operation("a", None, b"hello")])).await.json();
    apply(&server, [operation("a", Some(1), b"theirs")]).await;
    let text = r#" { "x" : [ ] , "operations" : [ { "deleted" : false , "ciphertext" :
        "aGVsbG8\u003d" , "baseVersion" : null , "recordId" : "\u0061" , "y" : { } } ] } "#;
    let body: Value = serde_json::from_str(text).expect("JSON");
    check_retry(&server, &body, &first).await;
    let request = server.request(reqwest::Method::POST, "/api/sync/push");
    let answer = vaultsync_testkit::send(request.bearer_auth(server.token(USER)).body(text)).await;
    assert_eq!((answer.status, answer.json()), (200, retry_of(&first)));
}

async fn a_different_batch_is_not_a_retry(backend: Backend) {
    let server = TestServer::start(backend).await;
    let (a, b) = (operation("a", None, b"1"), operation("b", None, b"1"));
    apply(&server, [a.clone(), b.clone()]).await;
    apply(&server, [operation("a", Some(1), b"2")]).await;
    let mut changed = a.clone();
    changed["ciphertext"] = json!("dHdv");
    let mut deleted = a.clone();
    deleted["deleted"] = json!(true);
    for batch in [
        vec![b.clone(), a.clone()],
        vec![a.clone()],
        vec![a.clone(), b.clone(), operation("c", None, b"1")],
        vec![changed, b.clone()],
        vec![deleted, b],
    ] {
        let answer = server.push(USER, &push_of(batch.clone())).await;
        assert_eq!(answer.status, 409, "{batch:?} {answer:?}");
        assert_eq!(answer.json()["conflicts"][0]["recordId"], "a");
    }
}

async fn a_refused_push_is_decided_anew(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"1")]).await;
    let body = push_of([operation("a", Some(2), b"3")]);
    assert_eq!(server.push(USER, &body).await.status, 409);
    apply(&server, [operation("a", Some(1), b"2")]).await;
    let answer = server.push(USER, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["results"][0]["version"], 3);
}

async fn an_operation_that_is_already_applied_is_not_written_again(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"1")]).await;
    let before = record(&server, "a").await;
    let batch = [operation("b", None, b"1"), operation("a", None, b"1")];
    assert_eq!(apply(&server, batch).await, [1, 1]);
    assert_eq!(record(&server, "a").await, before);
    assert_eq!(record(&server, "b").await["version"], 1);
}

async fn only_the_latest_pushes_have_receipts(backend: Backend) {
    let server = TestServer::start(backend).await;
    let body = push_of([operation("a", None, b"1")]);
    let first = server.push(USER, &body).await.json();
    apply(&server, [operation("a", Some(1), b"theirs")]).await;
    for n in 2..RECEIPTS_MAX {
        apply(&server, [operation(&format!("other-{n}"), None, b"1")]).await;
    }
    check_retry(&server, &body, &first).await;
    apply(&server, [operation("one too many", None, b"1")]).await;
    let answer = server.push(USER, &body).await;
    assert_eq!(answer.status, 409, "the receipt has aged out: {answer:?}");
}

async fn concurrent_copies_of_a_push_are_applied_once(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("b", None, b"1")]).await;
    let body = push_of([operation("a", None, b"1"), operation("b", Some(1), b"2")]);
    let server = Arc::new(server);
    let mut sent = JoinSet::new();
    for _ in 0..16 {
        let (server, body) = (Arc::clone(&server), body.clone());
        sent.spawn(async move { server.push(USER, &body).await });
    }
    for answer in sent.join_all().await {
        assert_eq!(answer.status, 200, "{answer:?}");
        let versions = json!([
            { "recordId": "a", "version": 1 },
            { "recordId": "b", "version": 2 },
        ]);
        assert_eq!(answer.json()["results"], versions);
    }
    let page = page(&server, "").await;
    assert_eq!(page["records"].as_array().map(Vec::len), Some(2));
    assert_eq!(page["records"][1]["version"], 2);
}

async fn one_of_several_concurrent_edits_of_a_version_wins(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"0")]).await;
    let edit = |device: u8| {
        let body = push_of([operation("a", Some(1), &[device])]);
        let server = &server;
        async move { server.push(USER, &body).await }
    };
    let (a, b, c, d) = tokio::join!(edit(1), edit(2), edit(3), edit(4));
    let mut statuses = [a.status, b.status, c.status, d.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409]);
    assert_eq!(record(&server, "a").await["version"], 2);
}
