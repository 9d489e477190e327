//! Streams on the wire, and requests that get none.

use std::time::Duration;

use reqwest::Method;
use tokio::time::timeout;
use vaultsync_server::{Clock as _, SystemClock};
use vaultsync_testkit::{Backend, RawClient, Setup, TestServer, operation, send};

use crate::{SOON, USER, advance, apply, stream::Stream};

const PATH: &str = "/api/sync/events";

#[tokio::test]
async fn a_stream_declares_its_type_and_forbids_caching() {
    let server = TestServer::start(Backend::Sqlite).await;
    let stream = Stream::open(&server, USER).await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
        ("content-length", ""),
    ] {
        assert_eq!(stream.header(name), value, "{name}");
    }
    assert_ne!(stream.header("x-request-id"), "");
}

#[tokio::test]
async fn the_first_bytes_of_a_stream_arrive_at_once_even_if_there_is_no_head() {
    let server = TestServer::start(Backend::Sqlite).await;
    for has_head in [false, true] {
        let mut client = RawClient::connect(&server).await;
        client.get(PATH, Some(&server.token(USER))).await;
        let mut read = Vec::new();
        while !read.windows(3).any(|window| window == b":\n\n") {
            let more = timeout(SOON, client.read_some(4096)).await.expect("bytes at once");
            read.extend(more.expect("the stream is open"));
        }
        let text = String::from_utf8(read).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        // A chunk of three bytes comes first.
        assert!(body.starts_with("3\r\n:\n\n\r\n"), "{has_head}: {body:?}");
        apply(&server, USER, [operation("a", None, b"1")]).await;
    }
}

#[tokio::test]
async fn an_event_has_a_name_one_line_of_json_and_no_id() {
    let server = TestServer::start(Backend::Sqlite).await;
    let current = apply(&server, USER, [operation("a", None, b"1")]).await;
    let mut stream = Stream::open(&server, USER).await;
    let part = stream.part().await.expect("an event");
    let page = server.pull(USER, "").await.json();
    let epoch = page["epoch"].as_str().expect("an epoch");
    let data = format!(r#"{{"head":"{current}","epoch":"{epoch}"}}"#);
    assert_eq!(part, format!("event: head\ndata: {data}"));
}

#[tokio::test]
async fn a_quiet_stream_sends_a_comment_every_15_seconds() {
    let server = TestServer::start(Backend::Sqlite).await;
    let mut stream = Stream::open(&server, USER).await;
    for _ in 0..5 {
        advance(Duration::from_secs(15)).await;
        assert_eq!(stream.part().await.as_deref(), Some(":"));
    }
    advance(Duration::from_secs(14)).await;
    let after = apply(&server, USER, [operation("a", None, b"1")]).await;
    assert_eq!(stream.head().await, after, "no comment before it is due");
}

#[tokio::test]
async fn only_get_opens_a_stream() {
    let server = TestServer::start(Backend::Sqlite).await;
    for method in [Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS] {
        let is_head = method == Method::HEAD;
        let request = server.request(method.clone(), PATH).bearer_auth(server.token(USER));
        let answer = send(request).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET"), "{method}");
        assert_eq!(answer.header("content-type"), "application/json", "{method}");
        if !is_head {
            assert_eq!(answer.json()["code"], "method_not_allowed", "{method}");
        }
    }
}

#[tokio::test]
async fn a_stream_requires_a_valid_token_in_the_header() {
    let server = TestServer::start(Backend::Sqlite).await;
    let token = server.token(USER);
    let none = send(server.request(Method::GET, PATH)).await;
    let in_query = format!("{PATH}?token={token}&access_token={token}");
    let in_query = send(server.request(Method::GET, &in_query)).await;
    let cookie = server.request(Method::GET, PATH).header("cookie", format!("__session={token}"));
    for answer in [none, in_query, send(cookie).await] {
        assert_eq!((answer.status, &answer.json()["code"]), (401, &"unauthorized".into()));
    }
    let hour_ago = SystemClock::start().now().plus_millis(-3_600_000);
    let old = server.key.mint(USER, hour_ago, Duration::from_secs(60)).expect("a token");
    let expired = send(server.request(Method::GET, PATH).bearer_auth(old)).await;
    assert_eq!((expired.status, &expired.json()["code"]), (401, &"token_expired".into()));
}

#[tokio::test]
async fn a_page_of_a_configured_origin_can_read_a_stream() {
    let origin = "https://app.example";
    let cors_origins = vec![origin];
    let server = TestServer::start_with(Setup { cors_origins, ..Setup::on(Backend::Sqlite) }).await;
    let preflight = server
        .request(Method::OPTIONS, PATH)
        .header("origin", origin)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization");
    let preflight = send(preflight).await;
    assert_eq!(preflight.status, 200);
    assert!(preflight.header("access-control-allow-headers").contains("authorization"));
    for (from, allowed) in [(origin, origin), ("https://evil.example", "")] {
        let request = server.request(Method::GET, PATH).header("origin", from);
        let response = request.bearer_auth(server.token(USER)).send().await.expect("an answer");
        let header = response.headers().get("access-control-allow-origin");
        let header = header.map(|value| value.to_str().expect("an origin")).unwrap_or_default();
        assert_eq!((response.status().as_u16(), header), (200, allowed));
    }
}
