//! Push and pull through a real socket: what `docs/PROTOCOL.md` promises, row by row.

use serde_json::json;
use vaultsync_testkit::{TestServer, operation, push_of};

#[tokio::test]
async fn what_was_pushed_is_pulled() {
    let server = TestServer::start().await;
    let pushed = server.push("ada", &push_of([operation("a", None, b"hello")])).await;
    assert_eq!(pushed.status, 200, "{pushed:?}");
    assert_eq!(
        pushed.json(),
        json!({ "success": true, "results": [{ "recordId": "a", "version": 1 }] })
    );
    let pulled = server.pull("ada", "").await;
    assert_eq!(pulled.status, 200, "{pulled:?}");
    let page = pulled.json();
    let updated_at = page["records"][0]["updated_at"].clone();
    assert_eq!(
        page,
        json!({
            "records": [{
                "recordId": "a",
                "ciphertext": "aGVsbG8=",
                "version": 1,
                "deleted": false,
                "updated_at": updated_at,
            }],
            "nextCursor": updated_at,
            "hasMore": false,
            "epoch": page["epoch"],
            "head": updated_at,
        })
    );
    server.stop().await;
}
