//! Guards of a push.

use serde_json::{Value, json};
use vaultsync_testkit::{Backend, TestServer, backends, operation};

use crate::{USER, apply, record};

backends!(
    a_guard_that_does_not_hold_is_returned_before_the_conflicts,
    a_guard_that_holds_is_not_returned,
    null_guards_are_no_guards,
);

fn guarded(operations: &[Value], guards: &Value) -> Value {
    json!({ "operations": operations, "guards": guards })
}

async fn a_guard_that_does_not_hold_is_returned_before_the_conflicts(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("key", None, b"k1"), operation("a", None, b"v1")]).await;
    apply(&server, [operation("key", Some(1), b"k2")]).await;
    let body = guarded(
        &[operation("a", None, b"other")],
        &json!([{ "recordId": "key", "version": 1 }, { "recordId": "none", "version": 2 }]),
    );
    let answer = server.push(USER, &body).await;
    assert_eq!(answer.status, 409, "{answer:?}");
    let (key, a) = (record(&server, "key").await, record(&server, "a").await);
    let expected = json!({
        "success": false,
        "conflicts": [
            { "recordId": "key", "currentVersion": 2, "ciphertext": "azI=", "deleted": false,
              "updated_at": key["updated_at"], "guard": true },
            { "recordId": "none", "currentVersion": 0, "ciphertext": "", "deleted": true,
              "updated_at": null, "guard": true },
            { "recordId": "a", "currentVersion": 1, "ciphertext": "djE=", "deleted": false,
              "updated_at": a["updated_at"] },
        ],
    });
    assert_eq!(answer.json(), expected);
}

async fn a_guard_that_holds_is_not_returned(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("key", None, b"k1")]).await;
    let guards = json!([{ "recordId": "key", "version": 1 }, { "recordId": "new", "version": 0 }]);
    let answer = server.push(USER, &guarded(&[operation("a", None, b"v1")], &guards)).await;
    assert_eq!(answer.json()["results"], json!([{ "recordId": "a", "version": 1 }]));
}

async fn null_guards_are_no_guards(backend: Backend) {
    let server = TestServer::start(backend).await;
    for (id, guards) in [("a", json!(null)), ("b", json!([]))] {
        let answer = server.push(USER, &guarded(&[operation(id, None, b"v1")], &guards)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}
