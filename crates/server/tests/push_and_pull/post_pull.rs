//! Pulls by `POST`.

use reqwest::Method;
use serde_json::{Value, json};
use vaultsync_testkit::{Answer, Backend, TestServer, backends, operation, push_of, send};

use crate::{USER, apply, empty_vault_page, ids};

backends!(
    a_pull_by_post_returns_what_a_get_returns,
    a_pull_by_post_waits_for_a_change,
    a_pull_by_post_of_a_named_vault_returns_its_records,
);

async fn post(server: &TestServer, path: &str, body: &Value) -> Answer {
    let request = server.request(Method::POST, path).bearer_auth(server.token(USER));
    send(request.json(body)).await
}

async fn a_pull_by_post_returns_what_a_get_returns(backend: Backend) {
    let server = TestServer::start(backend).await;
    let path = "/api/sync/pull";
    assert_eq!(post(&server, path, &json!({})).await.json(), empty_vault_page());
    apply(&server, ["a", "b", "c"].map(|name| operation(name, None, b"1"))).await;
    let first = server.pull(USER, "?limit=1").await.json();
    let (cursor, epoch) = (&first["nextCursor"], &first["epoch"]);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    for (body, query) in [
        (json!({}), String::new()),
        (json!({ "cursor": null, "epoch": null, "since": null, "unknown": [] }), String::new()),
        (json!({ "limit": 2 }), "?limit=2".to_owned()),
        (
            json!({ "cursor": cursor, "epoch": epoch, "since": cursor, "limit": 1, "wait": 1 }),
            format!("?cursor={}&epoch={}&limit=1", text(cursor), text(epoch)),
        ),
        (json!({ "cursor": "9999-01-01T00:00:00Z" }), "?cursor=9999-01-01T00:00:00Z".to_owned()),
        (json!({ "epoch": "other" }), "?epoch=other".to_owned()),
        (
            json!({ "epoch": epoch, "cursor": "9999-01-01T00:00:00Z" }),
            format!("?epoch={}&cursor=9999-01-01T00:00:00Z", text(epoch)),
        ),
    ] {
        let (posted, got) = (post(&server, path, &body).await, server.pull(USER, &query).await);
        assert_eq!(posted.status, got.status, "{body}");
        let without_id = |answer: &Answer| {
            let mut json = answer.json();
            json["requestId"] = Value::Null;
            json
        };
        assert_eq!(without_id(&posted), without_id(&got), "{body}");
        assert_eq!(posted.header("content-type"), got.header("content-type"));
    }
}

async fn a_pull_by_post_waits_for_a_change(backend: Backend) {
    let server = TestServer::start(backend).await;
    let body = json!({ "wait": 20 });
    let waiting = post(&server, "/api/sync/pull", &body);
    // Whether or not the pull waits already, it returns the record.
    let pushing = apply(&server, [operation("a", None, b"1")]);
    let (answer, _) = tokio::join!(waiting, pushing);
    assert_eq!(ids(&answer.json()), ["a"]);
}

async fn a_pull_by_post_of_a_named_vault_returns_its_records(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"1")]).await;
    let path = "/api/sync/vaults/notes/push";
    let pushed = post(&server, path, &push_of([operation("n", None, b"1")])).await;
    assert_eq!(pushed.status, 200, "{pushed:?}");
    let pulled = post(&server, "/api/sync/vaults/notes/pull", &json!({})).await;
    assert_eq!(ids(&pulled.json()), ["n"]);
}
