//! Epochs: a client that sends the epoch it knows is notified if the history has changed.

use serde_json::{Value, json};
use vaultsync_testkit::{Answer, Backend, TestServer, backends, operation, push_of};

use crate::{USER, apply, empty_vault_page, millis, page};

backends!(
    the_current_epoch_is_accepted,
    another_epoch_gets_a_410,
    a_missing_vault_has_no_epoch,
    a_null_or_empty_epoch_is_no_epoch,
    a_cursor_ahead_of_the_head_gets_a_410_if_the_epoch_is_sent,
    a_changed_epoch_takes_precedence_over_a_cursor_ahead,
);

#[track_caller]
fn check_gone(answer: &Answer, code: &str) {
    assert_eq!(answer.status, 410, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["code"], code);
    assert_eq!(body["requestId"], answer.header("x-request-id"));
    let members: Vec<&String> = body.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["code", "error", "requestId"]);
}

fn with_epoch(mut body: Value, epoch: &Value) -> Value {
    body["epoch"] = epoch.clone();
    body
}

async fn the_current_epoch_is_accepted(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"1")]).await;
    let all = page(&server, "").await;
    let epoch = all["epoch"].as_str().expect("an epoch");
    assert_eq!(page(&server, &format!("?epoch={epoch}")).await, all);
    let body = with_epoch(push_of([operation("a", Some(1), b"2")]), &all["epoch"]);
    let answer = server.push(USER, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(page(&server, "").await["epoch"], epoch, "the epoch stays the same");
}

async fn another_epoch_gets_a_410(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"1")]).await;
    let before = page(&server, "").await;
    let epoch = before["epoch"].as_str().expect("an epoch");
    let in_capitals = epoch.to_uppercase();
    let long = "e".repeat(64);
    for other in [
        "8a0f6c3e-1d1b-4c55-9a1e-3f0e2b7c9d10",
        "x",
        in_capitals.as_str(),
        &epoch[1..],
        long.as_str(),
    ] {
        check_gone(&server.pull(USER, &format!("?epoch={other}")).await, "epoch_changed");
        // At once, whatever the wait.
        check_gone(&server.pull(USER, &format!("?wait=55&epoch={other}")).await, "epoch_changed");
        // Also if the batch is applied already, conflicts, or is empty.
        for batch in [
            vec![operation("b", None, b"1")],
            vec![operation("a", None, b"1")],
            vec![operation("a", None, b"2")],
            vec![],
        ] {
            let body = with_epoch(push_of(batch), &json!(other));
            check_gone(&server.push(USER, &body).await, "epoch_changed");
        }
    }
    assert_eq!(page(&server, "").await, before);
}

async fn a_missing_vault_has_no_epoch(backend: Backend) {
    let server = TestServer::start(backend).await;
    let epoch = "8a0f6c3e-1d1b-4c55-9a1e-3f0e2b7c9d10";
    check_gone(&server.pull(USER, &format!("?epoch={epoch}")).await, "epoch_changed");
    let body = with_epoch(push_of([operation("a", None, b"1")]), &json!(epoch));
    check_gone(&server.push(USER, &body).await, "epoch_changed");
    check_gone(&server.push(USER, &with_epoch(push_of([]), &json!(epoch))).await, "epoch_changed");
    assert_eq!(page(&server, "").await, empty_vault_page());
}

async fn a_null_or_empty_epoch_is_no_epoch(backend: Backend) {
    let server = TestServer::start(backend).await;
    let body = with_epoch(push_of([operation("a", Some(3), b"1")]), &Value::Null);
    let answer = server.push(USER, &body).await;
    assert_eq!(answer.status, 200, "an insert with an unknown base: {answer:?}");
    assert_eq!(page(&server, "?epoch=").await, page(&server, "").await);
}

async fn a_cursor_ahead_of_the_head_gets_a_410_if_the_epoch_is_sent(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"1")]).await;
    let all = page(&server, "").await;
    let (head, epoch) = (&all["head"], all["epoch"].as_str().expect("an epoch"));
    let at =
        |offset: i64| vaultsync_protocol::Timestamp::from_millis(millis(head) + offset).to_string();
    for (cursor, ahead) in
        [(at(-1), false), (at(0), false), (at(1), true), ("9999-12-31T23:59:59.999Z".into(), true)]
    {
        let answer = server.pull(USER, &format!("?epoch={epoch}&cursor={cursor}")).await;
        if ahead {
            check_gone(&answer, "cursor_ahead");
        } else {
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        let without = server.pull(USER, &format!("?cursor={cursor}")).await;
        assert_eq!(without.status, 200, "{without:?}");
    }
    let empty = page(&server, &format!("?cursor={}", at(1))).await;
    assert_eq!((&empty["records"], &empty["nextCursor"]), (&json!([]), &Value::Null));
}

async fn a_changed_epoch_takes_precedence_over_a_cursor_ahead(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"1")]).await;
    let answer = server.pull(USER, "?epoch=other&cursor=9999-12-31T23:59:59.999Z").await;
    check_gone(&answer, "epoch_changed");
}
