//! Responses before the request body is read: the client gets them however long the body is.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};
use vaultsync_testkit::{Backend, TestServer, backends, operation, push_of, send};

backends!(
    #[tokio::test(flavor = "multi_thread")]
    an_early_response_arrives_complete_and_announces_the_close,
    an_early_response_does_not_break_the_next_request_of_a_client,
    a_connection_stays_open_if_its_bodies_are_read,
    a_client_with_an_endless_body_is_disconnected,
);

const BODY_BYTES: usize = 17 * 1024 * 1024;

/// Sends a head and a whole body, like a client that does not read while it sends, and then reads to
/// the end.
async fn exchange(server: &TestServer, head: String, body_bytes: usize) -> String {
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    stream.write_all(head.as_bytes()).await.expect("the head is sent");
    stream.write_all(&vec![b' '; body_bytes]).await.expect("the whole body is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("a response and then the end");
    answer
}

async fn an_early_response_arrives_complete_and_announces_the_close(backend: Backend) {
    let server = TestServer::start(backend).await;
    let token = server.token("ada");
    for (token, content_type, status, code) in [
        ("garbage", "application/json", "401 Unauthorized", "unauthorized"),
        (&token, "application/json", "413 Payload Too Large", "payload_too_large"),
        (&token, "image/png", "415 Unsupported Media Type", "unsupported_media_type"),
    ] {
        for _ in 0..5 {
            let head = format!(
                "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: {content_type}\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
            );
            let answer = exchange(&server, head, BODY_BYTES).await;
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
            assert!(head.contains("\r\nconnection: close"), "{head}");
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(body["code"], json!(code));
        }
    }
}

async fn an_early_response_does_not_break_the_next_request_of_a_client(backend: Backend) {
    let server = TestServer::start(backend).await;
    for bytes in [0, 10, 100_000, 1_000_000, 5_000_000] {
        for _ in 0..20 {
            let request = server.request(Method::POST, "/api/sync/push").bearer_auth("garbage");
            let answer = send(request.body(vec![b' '; bytes])).await;
            assert_eq!(answer.status, 401, "{bytes}");
        }
    }
    let pushed = server.push("ada", &push_of([operation("a", None, b"x")])).await;
    assert_eq!(pushed.status, 200);
}

async fn a_connection_stays_open_if_its_bodies_are_read(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    let token = server.token("ada");
    let body = r#"{"operations":[]}"#;
    let head =
        format!("POST /api/sync/push HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    for framed in [
        format!("Content-Length: {}\r\n\r\n{body}", body.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        "Content-Length: 0\r\n\r\n".to_owned(),
        format!("Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    ] {
        stream.write_all(format!("{head}{framed}").as_bytes()).await.expect("the request is sent");
    }
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.expect("responses and then the end");
    let statuses: Vec<&str> = answers
        .match_indices("HTTP/1.1 ")
        .map(|(at, version)| &answers[at + version.len()..at + version.len() + 3])
        .collect();
    assert_eq!(statuses, ["200", "200", "400", "200"], "{answers}");
}

async fn a_client_with_an_endless_body_is_disconnected(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    let head = "POST /api/sync/push HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("the head is sent");
    let started = Instant::now();
    // Time itself is under test: the server reads input for a while, and no longer.
    while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(started.elapsed() < Duration::from_secs(10), "the server still reads");
    }
    assert!(started.elapsed() > Duration::from_secs(1), "{:?}", started.elapsed());
}
