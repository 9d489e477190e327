//! `GET /api/sync/export`

use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use vaultsync_protocol::{Cursor, RecordDigest};
use vaultsync_server::Limits;
use vaultsync_testkit::{Answer, Backend, TestServer, backends, operation};

use crate::{apply, get, pulled, server_with};

backends!(
    an_export_has_every_record_with_its_digest,
    an_export_of_an_empty_vault_counts_nothing,
    the_last_line_has_the_sha_256_of_the_others,
    an_export_is_a_file_with_the_name_of_the_vault,
    an_export_larger_than_the_memory_of_its_user_is_streamed,
    an_export_with_history_has_every_kept_version_after_the_records,
    a_history_larger_than_the_memory_of_its_user_is_streamed,
    an_export_asks_for_history_with_true,
);

async fn export(server: &TestServer, vault: &str) -> Answer {
    let answer = get(server, &format!("/api/sync/{vault}export")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"));
    answer
}

fn lines(answer: &Answer) -> Vec<Value> {
    answer.text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

async fn an_export_has_every_record_with_its_digest(backend: Backend) {
    let server = TestServer::start(backend).await;
    for (vault, name) in [("", json!(null)), ("vaults/notes/", json!("notes"))] {
        for batch in 0..2 {
            let record = |n| operation(&format!("{batch} {n}"), None, b"hello");
            apply(&server, vault, (0..70).map(record)).await;
        }
        let changes = [operation("0 0", Some(1), b""), operation("0 1", Some(1), b"hello world")];
        apply(&server, vault, changes).await;
        let answer = export(&server, vault).await;
        let exported = lines(&answer);
        let page = get(&server, &format!("/api/sync/{vault}pull?limit=1")).await.json();
        let mut first = exported[0].clone();
        let exported_at = first.as_object_mut().expect("an object").remove("exportedAt");
        let exported_at = exported_at.expect("a time");
        assert!(Cursor::parse(exported_at.as_str().expect("a text")).is_ok(), "{exported_at}");
        let expected = json!({
            "format": "vaultsync-export",
            "version": 1,
            "vault": name,
            "epoch": page["epoch"],
            "head": page["head"],
        });
        assert_eq!(first, expected);
        let mut records = exported[1..exported.len() - 1].to_vec();
        records.sort_by_key(|record| record["recordId"].as_str().map(str::to_owned));
        let pulled = pulled(&server, vault).await;
        assert_eq!(records.len(), pulled.len());
        for (record, mut pulled) in records.into_iter().zip(pulled) {
            let ciphertext = pulled["ciphertext"].as_str().expect("base64");
            let ciphertext = base64_simd::STANDARD.decode_to_vec(ciphertext).expect("base64");
            pulled["digest"] = json!(RecordDigest::of(&ciphertext));
            assert_eq!(record, pulled);
        }
        let last = &exported[exported.len() - 1];
        let counts = (&last["records"], &last["tombstones"], &last["bytes"], &last["hasMore"]);
        assert_eq!(counts, (&json!(139), &json!(1), &json!(138 * 5 + 11), &json!(false)));
        let usage = get(&server, &format!("/api/sync/{vault}usage")).await.json();
        for member in ["records", "tombstones", "bytes"] {
            assert_eq!(last[member], usage[member]);
        }
    }
}

async fn an_export_of_an_empty_vault_counts_nothing(backend: Backend) {
    let server = TestServer::start(backend).await;
    let exported = lines(&export(&server, "").await);
    assert_eq!(exported.len(), 2);
    assert_eq!((&exported[0]["epoch"], &exported[0]["head"]), (&Value::Null, &Value::Null));
    let counts = [&exported[1]["records"], &exported[1]["tombstones"], &exported[1]["bytes"]];
    assert_eq!(counts, [0, 0, 0]);
}

async fn the_last_line_has_the_sha_256_of_the_others(backend: Backend) {
    let server = TestServer::start(backend).await;
    for batch in 0..3 {
        apply(&server, "", (0..60).map(|n| operation(&format!("{batch} {n}"), None, b"x"))).await;
    }
    let text = export(&server, "").await.text;
    let last = text.trim_end().rfind('\n').expect("several lines") + 1;
    let (before, last) = text.split_at(last);
    let last: Value = serde_json::from_str(last).expect("JSON");
    let sha256: Vec<_> = Sha256::digest(before).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(last["sha256"], sha256.concat());
}

async fn an_export_is_a_file_with_the_name_of_the_vault(backend: Backend) {
    let server = TestServer::start(backend).await;
    for (vault, name) in [("", ""), ("vaults/app.notes_1/", "app.notes_1-")] {
        let answer = export(&server, vault).await;
        let exported_at = lines(&answer)[0]["exportedAt"].as_str().expect("a time").to_owned();
        let file = format!("vaultsync-{name}{}.ndjson", &exported_at[..10]);
        let expected = format!("attachment; filename=\"{file}\"");
        assert_eq!(answer.header("content-disposition"), expected);
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

async fn an_export_larger_than_the_memory_of_its_user_is_streamed(backend: Backend) {
    let server = server_with(backend, |limits| {
        limits.page_bytes_max = 64 * 1024;
        limits.memory_bytes_per_user_max = 256 * 1024;
    })
    .await;
    for number in 0..20 {
        apply(&server, "", [operation(&number.to_string(), None, &vec![7; 40 * 1024])]).await;
    }
    let exported = lines(&export(&server, "").await);
    assert_eq!((exported.len(), &exported[21]["records"]), (22, &json!(20)));
    assert_eq!(exported[21]["bytes"], 20 * 40 * 1024);
}

/// A server that keeps every version that is replaced.
async fn keeping_server(backend: Backend, change: impl FnOnce(&mut Limits)) -> TestServer {
    server_with(backend, |limits| {
        limits.history_min_age_seconds = Duration::ZERO;
        change(limits);
    })
    .await
}

async fn an_export_with_history_has_every_kept_version_after_the_records(backend: Backend) {
    let server = keeping_server(backend, |_| {}).await;
    for vault in ["", "vaults/notes/"] {
        apply(&server, vault, [operation("b", None, b"b1"), operation("a", None, b"a1")]).await;
        apply(&server, vault, [operation("b", Some(1), b"b2")]).await;
        apply(&server, vault, [operation("b", Some(2), b""), operation("a", Some(1), b"a2")]).await;
        let plain = lines(&export(&server, vault).await);
        let answer = get(&server, &format!("/api/sync/{vault}export?history=true")).await;
        let exported = lines(&answer);
        assert_eq!((exported.len(), &exported[0]["history"]), (7, &json!(true)));
        assert_eq!(exported[1..3], plain[1..3]);
        for (line, (id, version)) in exported[3..6].iter().zip([("a", 1), ("b", 1), ("b", 2)]) {
            let query = format!("recordId={id}&version={version}");
            let found = get(&server, &format!("/api/sync/{vault}history?{query}")).await.json();
            assert_eq!(*line, found["record"]);
            assert!(line["replaced_at"].is_string(), "{line}");
        }
        let last = &exported[6];
        assert_eq!((&last["versions"], &last["historyBytes"]), (&json!(3), &json!(6)));
        let usage = get(&server, &format!("/api/sync/{vault}usage")).await.json();
        assert_eq!(last["historyBytes"], usage["historyBytes"]);
        let before = answer.text.trim_end().rfind('\n').expect("several lines") + 1;
        let sha256 = Sha256::digest(&answer.text[..before]);
        let sha256: Vec<_> = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(last["sha256"], sha256.concat());
    }
}

async fn a_history_larger_than_the_memory_of_its_user_is_streamed(backend: Backend) {
    let server = keeping_server(backend, |limits| {
        limits.page_bytes_max = 64 * 1024;
        limits.memory_bytes_per_user_max = 256 * 1024;
    })
    .await;
    apply(&server, "", [operation("a", None, b"first")]).await;
    for base in 1..=20 {
        apply(&server, "", [operation("a", Some(base), &vec![7; 40 * 1024])]).await;
    }
    let exported = lines(&get(&server, "/api/sync/export?history=true").await);
    assert_eq!((exported.len(), &exported[22]["versions"]), (23, &json!(20)));
    assert_eq!(exported[22]["historyBytes"], 5 + 19 * 40 * 1024);
}

async fn an_export_asks_for_history_with_true(backend: Backend) {
    let server = TestServer::start(backend).await;
    let answer = get(&server, "/api/sync/export?history=1").await;
    assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("invalid_request")));
}
