//! `GET /api/sync/usage`

use std::time::Duration;

use serde_json::{Value, json};
use vaultsync_testkit::{Backend, TestServer, backends, operation};

use crate::{apply, get, server_with};

backends!(
    a_vault_that_does_not_exist_takes_up_nothing,
    the_usage_counts_records_tombstones_and_bytes,
);

async fn a_vault_that_does_not_exist_takes_up_nothing(backend: Backend) {
    let server = TestServer::start(backend).await;
    let nothing = json!({
        "records": 0,
        "tombstones": 0,
        "bytes": 0,
        "historyBytes": 0,
        "epoch": null,
        "head": null,
    });
    for vault in ["", "vaults/notes/"] {
        let answer = get(&server, &format!("/api/sync/{vault}usage")).await;
        assert_eq!((answer.status, answer.json()), (200, nothing.clone()), "{vault}");
    }
}

async fn the_usage_counts_records_tombstones_and_bytes(backend: Backend) {
    let server =
        server_with(backend, |limits| limits.history_min_age_seconds = Duration::ZERO).await;
    apply(&server, "", [operation("a", None, b"12345"), operation("b", None, b"123")]).await;
    apply(&server, "", [operation("b", Some(1), b""), operation("c", None, b"1")]).await;
    apply(&server, "vaults/notes/", [operation("a", None, b"12")]).await;
    for (vault, records, tombstones, bytes, history) in
        [("", 2, 1, 6, 3), ("vaults/notes/", 1, 0, 2, 0)]
    {
        let usage = get(&server, &format!("/api/sync/{vault}usage")).await.json();
        let page: Value = get(&server, &format!("/api/sync/{vault}pull")).await.json();
        let expected = json!({
            "records": records,
            "tombstones": tombstones,
            "bytes": bytes,
            "historyBytes": history,
            "epoch": page["epoch"],
            "head": page["head"],
        });
        assert_eq!(usage, expected, "{vault}");
    }
}
