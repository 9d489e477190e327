//! Quotas on the wire.

use serde_json::json;
use vaultsync_server::Limits;
use vaultsync_testkit::{Backend, Setup, TestServer, backends, operation, push_of};

use crate::{USER, apply, page};

backends!(a_push_over_a_quota_says_what_there_is_and_which_operations_grow);

async fn a_push_over_a_quota_says_what_there_is_and_which_operations_grow(backend: Backend) {
    let mut setup = Setup::on(backend);
    setup.limits = Limits { quota_records: 2, quota_bytes: 100, ..setup.limits };
    let server = TestServer::start_with(setup).await;
    apply(&server, [operation("a", None, b"12345"), operation("b", None, b"12345")]).await;
    let before = page(&server, "").await;
    let push = push_of([operation("a", Some(1), b"1"), operation("c", None, b"1")]);
    let answer = server.push(USER, &push).await;
    let mut body = answer.json();
    body["error"] = json!("text");
    body["requestId"] = json!("id");
    let expected = json!({
        "error": "text",
        "code": "quota_exceeded",
        "requestId": "id",
        "usage": { "records": 2, "tombstones": 0, "bytes": 10 },
        "quota": { "records": 2, "bytes": 100 },
        "operations": [1],
    });
    assert_eq!((answer.status, body), (507, expected));
    assert!(!answer.headers.contains_key("retry-after"), "the same push fails again");
    assert_eq!(page(&server, "").await, before, "nothing is written");
}
