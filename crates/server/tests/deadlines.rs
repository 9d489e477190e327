//! Deadlines: slow clients cannot keep connections or memory. Each deadline is met and missed.

use std::time::Duration;

use serde_json::Value;
use vaultsync_server::Limits;
use vaultsync_testkit::{Backend, RawClient, Setup, TestServer, backends, operation, push_of};

backends!(
    a_silent_connection_is_closed,
    an_unfinished_request_line_is_closed,
    an_unfinished_header_is_closed,
    headers_without_the_final_line_are_closed,
    single_bytes_do_not_extend_the_header_deadline,
    headers_in_pieces_are_accepted_within_the_deadline,
    a_stalled_body_gets_a_408_and_is_closed,
    a_body_sent_byte_by_byte_is_closed,
    a_stalled_chunked_body_gets_a_408_and_is_closed,
    a_client_that_does_not_read_is_closed_and_its_memory_freed,
    a_slow_reader_gets_the_whole_response,
    an_idle_connection_is_closed,
    an_idle_connection_after_a_push_is_closed,
    a_connection_may_be_idle_for_longer_than_the_header_deadline,
    each_request_on_a_connection_has_its_own_deadlines,
    an_unfinished_header_after_a_request_is_closed_as_early,
    pipelined_requests_are_all_answered,
    a_wait_may_exceed_every_deadline,
    a_connection_above_the_limit_gets_a_503_until_another_closes,
    five_hundred_silent_connections_block_no_request,
    silent_connections_end_within_15_seconds_by_default,
    a_refusal_reaches_a_client_that_still_sends,
    a_client_that_never_stops_sending_after_a_refusal_is_closed,
);

const MIB: usize = 1024 * 1024;

/// A deadline that a test wants to be missed.
const SHORT: Duration = Duration::from_millis(300);

/// Longest time until a short deadline takes effect on a busy machine.
const SOON: Duration = Duration::from_secs(8);

/// Limits whose deadlines no test reaches.
fn long_deadlines() -> Limits {
    let long = Duration::from_secs(600);
    Limits {
        rate_limit: 0,
        first_byte_seconds: long,
        header_seconds: long,
        body_seconds: long,
        write_stall_seconds: long,
        idle_seconds: long,
        ..Limits::default()
    }
}

async fn server(backend: Backend, limits: Limits) -> TestServer {
    TestServer::start_with(Setup { limits, ..Setup::on(backend) }).await
}

async fn assert_serves(server: &TestServer) {
    assert_eq!(server.pull("someone-else", "").await.status, 200);
}

#[track_caller]
fn assert_between(took: Duration, least: Duration, most: Duration) {
    assert!((least..most).contains(&took), "{took:?} is not between {least:?} and {most:?}");
}

/// Pushes `count` records of `bytes` each, as `ada`.
async fn fill(server: &TestServer, count: usize, bytes: usize) {
    for number in 0..count {
        let push = push_of([operation(&format!("r{number}"), None, &vec![7; bytes])]);
        assert_eq!(server.push("ada", &push).await.status, 200);
    }
}

async fn a_silent_connection_is_closed(backend: Backend) {
    let server = server(backend, Limits { first_byte_seconds: SHORT, ..long_deadlines() }).await;
    let client = RawClient::connect(&server).await;
    assert_between(client.closed().await, SHORT / 2, SOON);
    assert_serves(&server).await;
}

async fn an_unfinished_request_line_is_closed(backend: Backend) {
    let server = server(backend, Limits { header_seconds: SHORT, ..long_deadlines() }).await;
    let mut client = RawClient::connect(&server).await;
    client.send("GET /heal").await;
    assert_between(client.closed().await, SHORT / 2, SOON);
    assert_serves(&server).await;
}

async fn an_unfinished_header_is_closed(backend: Backend) {
    let server = server(backend, Limits { header_seconds: SHORT, ..long_deadlines() }).await;
    let mut client = RawClient::connect(&server).await;
    client.send("GET /healthz HTTP/1.1\r\nHost: te").await;
    assert_between(client.closed().await, SHORT / 2, SOON);
    assert_serves(&server).await;
}

async fn headers_without_the_final_line_are_closed(backend: Backend) {
    let server = server(backend, Limits { header_seconds: SHORT, ..long_deadlines() }).await;
    let mut client = RawClient::connect(&server).await;
    client.send("GET /healthz HTTP/1.1\r\nHost: test\r\n").await;
    assert_between(client.closed().await, SHORT / 2, SOON);
}

async fn single_bytes_do_not_extend_the_header_deadline(backend: Backend) {
    let server = server(backend, Limits { header_seconds: SHORT, ..long_deadlines() }).await;
    let mut client = RawClient::connect(&server).await;
    let head = format!("GET /healthz HTTP/1.1\r\nHost: test\r\nX-Slow: {}", "z".repeat(10_000));
    let began = tokio::time::Instant::now();
    for byte in head.as_bytes() {
        if client.try_send([*byte]).await.is_err() {
            break;
        }
        assert!(began.elapsed() < SOON, "still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.closed().await;
    assert_between(began.elapsed(), SHORT / 2, SOON);
}

async fn headers_in_pieces_are_accepted_within_the_deadline(backend: Backend) {
    let server = server(backend, long_deadlines()).await;
    let mut client = RawClient::connect(&server).await;
    for piece in ["GE", "T /healthz HT", "TP/1.1\r", "\nHost: te", "st\r\n", "\r\n"] {
        client.send(piece).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.answer().await.status, 200);
}

fn push_head(server: &TestServer, length: usize) -> String {
    let token = server.token("ada");
    format!(
        "POST /api/sync/push HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

async fn a_stalled_body_gets_a_408_and_is_closed(backend: Backend) {
    let server = server(backend, Limits { body_seconds: SHORT, ..long_deadlines() }).await;
    let mut client = RawClient::connect(&server).await;
    client.send(push_head(&server, 100)).await;
    client.send("{\"operations\"").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.json()["code"]), (408, &"request_timeout".into()));
    assert_between(client.closed().await, Duration::ZERO, SOON);
    assert_serves(&server).await;
}

async fn a_body_sent_byte_by_byte_is_closed(backend: Backend) {
    let server = server(backend, Limits { body_seconds: SHORT, ..long_deadlines() }).await;
    let mut client = RawClient::connect(&server).await;
    client.send(push_head(&server, 10_000)).await;
    let began = tokio::time::Instant::now();
    while client.try_send(" ").await.is_ok() {
        assert!(began.elapsed() < SOON, "still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_serves(&server).await;
}

async fn a_stalled_chunked_body_gets_a_408_and_is_closed(backend: Backend) {
    let server = server(backend, Limits { body_seconds: SHORT, ..long_deadlines() }).await;
    let mut client = RawClient::connect(&server).await;
    let head = push_head(&server, 0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    client.send(head).await;
    client.send("5\r\n{\"ope\r\n4").await;
    assert_eq!(client.answer().await.status, 408);
    client.closed().await;
}

async fn a_client_that_does_not_read_is_closed_and_its_memory_freed(backend: Backend) {
    let limits = Limits {
        page_bytes_max: 6 * MIB,
        memory_bytes_max: 15 * MIB,
        write_stall_seconds: Duration::from_secs(3),
        ..long_deadlines()
    };
    let server = server(backend, limits).await;
    fill(&server, 6, MIB - 1024).await;

    let mut client = RawClient::connect_narrow(&server).await;
    client.get("/api/sync/pull", Some(&server.token("ada"))).await;
    assert!(client.read_some(16).await.is_some(), "the response has begun");
    // A full page needs 14 MiB, and the unread response has reserved 8 of the 15 MiB.
    let records = async || {
        let page = server.pull("ada", "").await.json();
        (page["records"].as_array().map_or(0, Vec::len), page["hasMore"] == true)
    };
    let (count, has_more) = records().await;
    assert!(count < 6 && has_more, "{count} records");

    let freed = async {
        while records().await != (6, false) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), freed).await.expect("the memory is freed");
    // The bytes in flight arrive, and then the connection ends.
    client.closed().await;
}

async fn a_slow_reader_gets_the_whole_response(backend: Backend) {
    let limits = Limits { idle_seconds: SHORT * 3, header_seconds: SHORT * 3, ..long_deadlines() };
    let server = server(backend, limits).await;
    fill(&server, 6, MIB - 1024).await;
    let mut client = RawClient::connect_narrow(&server).await;
    client.get("/api/sync/pull", Some(&server.token("ada"))).await;
    let began = tokio::time::Instant::now();
    let mut answer = Vec::new();
    while let Some(more) = client.read_some(64 * 1024).await {
        answer.extend(more);
        if began.elapsed() < SHORT * 7 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let at = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let page: Value = serde_json::from_slice(&answer[at + 4..]).expect("a whole page");
    assert_eq!(page["records"].as_array().map(Vec::len), Some(6));
}

async fn an_idle_connection_is_closed(backend: Backend) {
    let server = server(backend, Limits { idle_seconds: SHORT, ..long_deadlines() }).await;
    let mut client = RawClient::connect(&server).await;
    client.get("/healthz", None).await;
    assert_eq!(client.answer().await.status, 200);
    assert_between(client.closed().await, SHORT / 2, SOON);
}

async fn an_idle_connection_after_a_push_is_closed(backend: Backend) {
    let server = server(backend, Limits { idle_seconds: SHORT, ..long_deadlines() }).await;
    let mut client = RawClient::connect(&server).await;
    let body = push_of([operation("a", None, b"hello")]).to_string();
    client.send(push_head(&server, body.len())).await;
    client.send(body).await;
    assert_eq!(client.answer().await.status, 200);
    assert_between(client.closed().await, SHORT / 2, SOON);
}

async fn a_connection_may_be_idle_for_longer_than_the_header_deadline(backend: Backend) {
    let limits = Limits { first_byte_seconds: SHORT, header_seconds: SHORT, ..long_deadlines() };
    let server = server(backend, limits).await;
    let mut client = RawClient::connect(&server).await;
    let body = push_of([operation("a", None, b"hello")]).to_string();
    for _ in 0..3 {
        client.send(push_head(&server, body.len()) + &body).await;
        assert_eq!(client.answer().await.status, 200);
        tokio::time::sleep(SHORT * 2).await;
        client.get("/healthz", None).await;
        assert_eq!(client.answer().await.status, 200);
        tokio::time::sleep(SHORT * 2).await;
    }
}

async fn each_request_on_a_connection_has_its_own_deadlines(backend: Backend) {
    let limits = Limits { idle_seconds: Duration::from_secs(3), ..long_deadlines() };
    let server = server(backend, limits).await;
    let mut client = RawClient::connect(&server).await;
    // If the first deadline applied to all requests, the connection would end before the last one.
    for _ in 0..4 {
        client.get("/healthz", None).await;
        assert_eq!(client.answer().await.status, 200);
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }
    assert_between(client.closed().await, Duration::ZERO, SOON);
}

async fn an_unfinished_header_after_a_request_is_closed_as_early(backend: Backend) {
    let server = server(backend, Limits { header_seconds: SHORT, ..long_deadlines() }).await;
    let mut together = RawClient::connect(&server).await;
    together.send("GET /healthz HTTP/1.1\r\nHost: test\r\n\r\nGET /heal").await;
    assert_eq!(together.answer().await.status, 200);
    assert_between(together.closed().await, SHORT / 2, SOON);

    let mut after_a_push = RawClient::connect(&server).await;
    let body = push_of([operation("a", None, b"hello")]).to_string();
    after_a_push.send(push_head(&server, body.len()) + &body + "GET /heal").await;
    assert_eq!(after_a_push.answer().await.status, 200);
    assert_between(after_a_push.closed().await, SHORT / 2, SOON);

    let mut later = RawClient::connect(&server).await;
    later.get("/healthz", None).await;
    assert_eq!(later.answer().await.status, 200);
    later.send("GET /heal").await;
    assert_between(later.closed().await, SHORT / 2, SOON);
}

async fn pipelined_requests_are_all_answered(backend: Backend) {
    let server = server(backend, long_deadlines()).await;
    let mut client = RawClient::connect(&server).await;
    let body = push_of([operation("a", None, b"hello")]).to_string();
    let push = push_head(&server, body.len()) + &body;
    let get = "GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n";
    client.send([get, &push, get, get, &push, get].concat()).await;
    for _ in 0..6 {
        assert_eq!(client.answer().await.status, 200);
    }
}

async fn a_wait_may_exceed_every_deadline(backend: Backend) {
    let limits = Limits {
        first_byte_seconds: SHORT,
        header_seconds: SHORT,
        body_seconds: SHORT,
        handler_seconds: Duration::from_secs(5),
        write_stall_seconds: SHORT,
        idle_seconds: SHORT,
        ..long_deadlines()
    };
    let server = server(backend, limits).await;
    let began = tokio::time::Instant::now();
    let page = server.pull("ada", "?wait=2").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(began.elapsed() >= Duration::from_secs(2));
}

async fn a_connection_above_the_limit_gets_a_503_until_another_closes(backend: Backend) {
    let server = server(backend, Limits { connections_max: 2, ..long_deadlines() }).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = RawClient::connect(&server).await;
        client.get("/healthz", None).await;
        assert_eq!(client.answer().await.status, 200);
        open.push(client);
    }

    let mut refused = RawClient::connect(&server).await;
    refused.get("/healthz", None).await;
    let mut answer = Vec::new();
    while let Some(more) = refused.read_some(4096).await {
        answer.extend(more);
    }
    let answer = String::from_utf8(answer).expect("an answer in UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}\n{body}");
    assert!(head.contains("Retry-After: 1\r\n"), "{head}");
    let body: Value = serde_json::from_str(body).expect("a body in JSON");
    assert_eq!(body["code"], "unavailable");

    open.pop();
    let until_free = async {
        loop {
            let mut client = RawClient::connect(&server).await;
            client.get("/healthz", None).await;
            if client.try_answer().await.is_some_and(|answer| answer.status == 200) {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, until_free).await.expect("another connection is accepted");
}

async fn five_hundred_silent_connections_block_no_request(backend: Backend) {
    let server = server(backend, long_deadlines()).await;
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(RawClient::connect(&server).await);
    }
    for number in 0..20 {
        let push = push_of([operation(&format!("r{number}"), None, b"hello")]);
        assert_eq!(server.push("ada", &push).await.status, 200);
    }
    assert_eq!(server.pull("ada", "").await.json()["records"].as_array().map(Vec::len), Some(20));
    drop(silent);
}

async fn silent_connections_end_within_15_seconds_by_default(backend: Backend) {
    let server = TestServer::start(backend).await;
    let silent = RawClient::connect(&server).await;
    let mut half = RawClient::connect(&server).await;
    half.send("GET /healthz HTTP/1.1\r\nHo").await;
    let (silent, half) = tokio::join!(silent.closed(), half.closed());
    let (least, most) = (Duration::from_secs(8), Duration::from_secs(15));
    assert_between(silent, least, most);
    assert_between(half, least, most);
}

async fn a_refusal_reaches_a_client_that_still_sends(backend: Backend) {
    let server = server(backend, long_deadlines()).await;
    for number in 0..20 {
        let mut client = RawClient::connect(&server).await;
        client
            .send(
                "POST /api/sync/push HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer expired\r\n\
                 Content-Length: 8000000\r\n\r\n",
            )
            .await;
        for _ in 0..1000 {
            client.send(" ".repeat(8000)).await;
        }
        let answer = client.answer().await;
        assert_eq!(answer.status, 401, "number {number}");
    }
}

async fn a_client_that_never_stops_sending_after_a_refusal_is_closed(backend: Backend) {
    let server = server(backend, long_deadlines()).await;
    let mut client = RawClient::connect(&server).await;
    client
        .send("POST /api/sync/push HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let began = tokio::time::Instant::now();
    while client.try_send("4\r\nzzzz\r\n").await.is_ok() {
        assert!(began.elapsed() < SOON, "still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
