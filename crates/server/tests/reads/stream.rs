//! Streamed pulls: `GET /api/sync/pull` with `Accept: application/x-ndjson`.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{Method, Response};
use serde_json::{Value, json};
use vaultsync_testkit::{Answer, Backend, RawClient, TestServer, backends, operation, send};

use crate::{USER, apply, get, pulled, server_with};

backends!(
    a_stream_has_the_records_of_a_pull_one_a_line,
    a_stream_of_an_empty_vault_has_two_lines,
    a_stream_begins_after_its_cursor,
    a_client_that_does_not_name_the_type_gets_a_page,
    a_stream_checks_the_epoch_before_it_begins,
    a_vault_far_larger_than_the_memory_of_its_user_is_streamed,
    records_that_change_while_a_stream_is_read_are_not_lost,
    a_stopping_server_breaks_a_stream_off,
    a_client_that_reads_nothing_is_closed_and_its_memory_freed,
    a_slow_client_gets_the_whole_stream,
    a_head_opens_no_stream,
);

const NDJSON: &str = "application/x-ndjson";

const KIB: usize = 1024;

fn request(server: &TestServer, path: &str) -> reqwest::RequestBuilder {
    let request = server.request(Method::GET, path).bearer_auth(server.token(USER));
    request.header("accept", NDJSON)
}

async fn stream(server: &TestServer, path: &str) -> Answer {
    let answer = send(request(server, path)).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, NDJSON), "{answer:?}");
    answer
}

/// The lines of a complete stream: the first one, the records, and the last one.
fn lines(text: &str) -> (Value, Vec<Value>, Value) {
    assert!(text.ends_with('\n'), "each line ends");
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let last = lines.pop().expect("a last line");
    let first = lines.remove(0);
    assert!(last.get("hasMore").is_some() && last.get("nextCursor").is_some(), "{last}");
    assert!(first.get("head").is_some() && first.get("epoch").is_some(), "{first}");
    (first, lines, last)
}

async fn a_stream_has_the_records_of_a_pull_one_a_line(backend: Backend) {
    let server = TestServer::start(backend).await;
    for vault in ["", "vaults/notes/"] {
        for batch in 0..3 {
            let id = |n| format!("{batch} {n}\n\"{{").replace('\n', "\u{2028}");
            apply(&server, vault, (0..70).map(|n| operation(&id(n), None, b"hello"))).await;
        }
        apply(&server, vault, [operation("gone", None, b"")]).await;
        let answer = stream(&server, &format!("/api/sync/{vault}pull")).await;
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-accel-buffering"), "no");
        let (first, records, last) = lines(&answer.text);
        let page = get(&server, &format!("/api/sync/{vault}pull?limit=1")).await.json();
        assert_eq!(first, json!({ "epoch": page["epoch"], "head": page["head"] }));
        let times: Vec<&str> =
            records.iter().map(|record| record["updated_at"].as_str().expect("a time")).collect();
        assert!(times.is_sorted_by(|one, next| one < next), "in the order of a pull");
        assert_eq!(last, json!({ "nextCursor": page["head"], "hasMore": false }));
        let mut by_id = records.clone();
        by_id.sort_by_key(|record| record["recordId"].as_str().map(str::to_owned));
        assert_eq!(by_id, pulled(&server, vault).await);
    }
}

async fn a_stream_of_an_empty_vault_has_two_lines(backend: Backend) {
    let server = TestServer::start(backend).await;
    let text = "{\"epoch\":null,\"head\":null}\n{\"nextCursor\":null,\"hasMore\":false}\n";
    assert_eq!(stream(&server, "/api/sync/pull").await.text, text);
    assert_eq!(stream(&server, "/api/sync/pull?cursor=2024-01-15T10:30:00Z").await.text, text);
}

async fn a_stream_begins_after_its_cursor(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, "", ["a", "b", "c"].map(|id| operation(id, None, b"1"))).await;
    let page = get(&server, "/api/sync/pull?limit=2").await.json();
    let cursor = page["nextCursor"].as_str().expect("a cursor");
    let epoch = page["epoch"].as_str().expect("an epoch");
    let path = format!("/api/sync/pull?cursor={cursor}&epoch={epoch}&since={cursor}&x=1");
    let (first, records, last) = lines(&stream(&server, &path).await.text);
    assert_eq!((&first["epoch"], &first["head"]), (&page["epoch"], &page["head"]));
    assert_eq!((records.len(), &records[0]["recordId"]), (1, &json!("c")));
    assert_eq!(last, json!({ "nextCursor": page["head"], "hasMore": false }));
    let head = page["head"].as_str().expect("a head");
    let (_, records, last) =
        lines(&stream(&server, &format!("/api/sync/pull?cursor={head}")).await.text);
    assert_eq!((records, last), (vec![], json!({ "nextCursor": null, "hasMore": false })));
}

async fn a_client_that_does_not_name_the_type_gets_a_page(backend: Backend) {
    let server = TestServer::start(backend).await;
    for (accept, is_stream) in [
        ("*/*", false),
        ("application/json, application/x-ndjson", false),
        ("application/x-ndjson;q=0", false),
        ("text/event-stream", false),
        ("application/x-ndjson, */*;q=0.1", true),
    ] {
        let request = server.request(Method::GET, "/api/sync/pull").header("accept", accept);
        let answer = send(request.bearer_auth(server.token(USER))).await;
        let expected = if is_stream { NDJSON } else { "application/json" };
        assert_eq!((answer.status, answer.header("content-type")), (200, expected), "{accept}");
    }
    // Only a pull by GET is streamed.
    let request = server.request(Method::POST, "/api/sync/pull").header("accept", NDJSON);
    let answer = send(request.bearer_auth(server.token(USER)).body("{}")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
}

async fn a_stream_checks_the_epoch_before_it_begins(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, "", [operation("a", None, b"1")]).await;
    let epoch = get(&server, "/api/sync/pull").await.json()["epoch"].clone();
    let ahead = format!("epoch={}&cursor=9999-01-01T00:00:00Z", epoch.as_str().expect("an epoch"));
    for (query, code) in [("epoch=other", "epoch_changed"), (&ahead, "cursor_ahead")] {
        let answer = send(request(&server, &format!("/api/sync/pull?{query}"))).await;
        assert_eq!((answer.status, &answer.json()["code"]), (410, &json!(code)));
        assert_eq!(answer.header("content-type"), "application/json");
    }
}

/// A server whose user may have one MiB in memory, and a vault of 12 MiB, which no socket holds.
async fn large_vault(backend: Backend) -> TestServer {
    let server = server_with(backend, |limits| {
        limits.page_bytes_max = 192 * KIB;
        limits.memory_bytes_per_user_max = 1024 * KIB;
    })
    .await;
    let record = |number| operation(&format!("r{number}"), None, &vec![7; 64 * KIB]);
    for first in (0..LARGE_RECORDS).step_by(8) {
        apply(&server, "", (first..first + 8).map(record)).await;
    }
    server
}

const LARGE_RECORDS: usize = 192;

async fn a_vault_far_larger_than_the_memory_of_its_user_is_streamed(backend: Backend) {
    let server = large_vault(backend).await;
    let (_, records, last) = lines(&stream(&server, "/api/sync/pull").await.text);
    let ids: Vec<_> = records.iter().map(|record| record["recordId"].clone()).collect();
    let expected: Vec<_> = (0..LARGE_RECORDS).map(|number| json!(format!("r{number}"))).collect();
    assert_eq!((ids, &last["hasMore"]), (expected, &json!(false)));
}

/// Reads the rest of a stream.
///
/// # Errors
///
/// If the connection breaks before its end.
async fn rest(mut response: Response) -> Result<String, String> {
    let mut text = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => text.extend_from_slice(&chunk),
            Ok(None) => return Ok(String::from_utf8(text).expect("UTF-8")),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Id and version of each record.
fn versions<'a>(records: impl IntoIterator<Item = &'a Value>) -> BTreeMap<String, u64> {
    let version = |record: &Value| {
        let id = record["recordId"].as_str().expect("an id").to_owned();
        (id, record["version"].as_u64().expect("a version"))
    };
    records.into_iter().map(version).collect()
}

async fn records_that_change_while_a_stream_is_read_are_not_lost(backend: Backend) {
    let server = large_vault(backend).await;
    // The client has not read enough for the server to go on beyond what sockets hold.
    let mut response = request(&server, "/api/sync/pull").send().await.expect("a stream");
    let beginning = response.chunk().await.expect("a connection").expect("bytes");
    for number in [0, 1, LARGE_RECORDS - 2, LARGE_RECORDS - 1] {
        apply(&server, "", [operation(&format!("r{number}"), Some(1), b"changed")]).await;
    }
    apply(&server, "", [operation(&format!("r{}", LARGE_RECORDS - 3), Some(1), b"")]).await;
    apply(&server, "", [operation("new", None, b"new")]).await;
    let rest = rest(response).await.expect("the end of the stream");
    let text = String::from_utf8(beginning.to_vec()).expect("UTF-8") + &rest;
    let (first, records, last) = lines(&text);
    let head = first["head"].as_str().expect("a head");
    assert!(records.iter().all(|record| record["updated_at"].as_str() <= Some(head)));
    assert_eq!(versions(&records).len(), records.len(), "no record twice");
    assert_eq!(records.len(), LARGE_RECORDS - 3, "what has moved beyond the head is not in it");
    assert_eq!(last["nextCursor"], records[records.len() - 1]["updated_at"]);
    assert_eq!(last["hasMore"], true);
    let cursor = last["nextCursor"].as_str().expect("a cursor");
    let page = get(&server, &format!("/api/sync/pull?cursor={cursor}")).await.json();
    assert_eq!(page["hasMore"], false);
    let mut known = versions(&records);
    known.extend(versions(page["records"].as_array().expect("records")));
    assert_eq!(known, versions(&pulled(&server, "").await));
}

async fn a_stopping_server_breaks_a_stream_off(backend: Backend) {
    let server = large_vault(backend).await;
    let mut response = request(&server, "/api/sync/pull").send().await.expect("a stream");
    response.chunk().await.expect("a connection").expect("bytes");
    server.begin_stop();
    let broken = rest(response).await;
    assert!(broken.is_err(), "the client must not take the beginning for the whole");
    server.stop().await;
}

async fn a_client_that_reads_nothing_is_closed_and_its_memory_freed(backend: Backend) {
    let server = {
        let mut setup = vaultsync_testkit::Setup::on(backend);
        setup.limits.write_stall_seconds = Duration::from_secs(1);
        setup.limits.memory_bytes_per_user_max = 1200 * KIB;
        setup.send_buffer_bytes = Some(4096);
        TestServer::start_with(setup).await
    };
    apply(&server, "", (0..4).map(|n| operation(&n.to_string(), None, &vec![7; 100 * KIB]))).await;
    let mut client = RawClient::connect_narrow(&server).await;
    client.send(raw_request(&server)).await;
    assert!(client.read_some(16).await.is_some(), "the response has begun");
    // A page needs 950 KiB, and the one that is not read has 550 of the 1200.
    let freed = async {
        loop {
            let page = get(&server, "/api/sync/pull").await.json();
            if page["records"].as_array().map_or(0, Vec::len) == 4 {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), freed).await.expect("the memory is freed");
    // The bytes in flight arrive, and then the connection ends.
    client.closed().await;
}

/// A request for a stream, as text.
fn raw_request(server: &TestServer) -> String {
    let token = server.token(USER);
    format!(
        "GET /api/sync/pull HTTP/1.1\r\nHost: x\r\nAccept: {NDJSON}\r\nConnection: close\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    )
}

async fn a_slow_client_gets_the_whole_stream(backend: Backend) {
    let server = {
        let mut setup = vaultsync_testkit::Setup::on(backend);
        setup.limits.page_bytes_max = 16 * KIB;
        setup.limits.memory_bytes_per_user_max = 64 * KIB;
        setup.send_buffer_bytes = Some(4096);
        TestServer::start_with(setup).await
    };
    for number in 0..20 {
        apply(&server, "", [operation(&format!("r{number}"), None, &vec![7; 8 * KIB])]).await;
    }
    let mut client = RawClient::connect_narrow(&server).await;
    client.send(raw_request(&server)).await;
    let mut text = Vec::new();
    while let Some(bytes) = client.read_some(1024).await {
        text.extend(bytes);
        tokio::task::yield_now().await;
    }
    let text = String::from_utf8(text).expect("UTF-8");
    assert!(text.ends_with("\r\n0\r\n\r\n"), "the end of a chunked body");
    assert_eq!(text.matches("\"recordId\"").count(), 20);
    assert_eq!(text.matches("\"hasMore\":false").count(), 1);
}

async fn a_head_opens_no_stream(backend: Backend) {
    let server = server_with(backend, |limits| limits.memory_bytes_per_user_max = 512 * KIB).await;
    apply(&server, "", (0..4).map(|n| operation(&n.to_string(), None, &vec![7; 40 * KIB]))).await;
    for _ in 0..3 {
        let head = server.request(Method::HEAD, "/api/sync/pull").header("accept", NDJSON);
        let answer = send(head.bearer_auth(server.token(USER))).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, NDJSON));
        assert_eq!(answer.text, "");
    }
    // A page needs 380 of the 512 KiB.
    let (_, records, _) = lines(&stream(&server, "/api/sync/pull").await.text);
    assert_eq!(records.len(), 4);
}
