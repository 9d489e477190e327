//! How a stream looks on the wire, and who gets none.

use std::time::Duration;

use reqwest::Method;
use vaultsync_server::{Clock as _, SystemClock};
use vaultsync_testkit::{Backend, Setup, TestServer, backends, operation, send};

use crate::{USER, apply, let_pass, stream::Stream};

backends!(
    it_says_what_it_is_and_that_nobody_may_keep_it,
    an_event_is_its_name_and_one_line_of_json_and_has_no_id,
    a_silent_stream_shows_every_fifteen_seconds_that_it_is_alive,
    only_a_get_opens_one,
    a_token_counts_in_its_header_only_and_while_it_is_good,
    a_page_of_an_origin_that_is_set_may_read_one,
);

const PATH: &str = "/api/sync/events";

async fn it_says_what_it_is_and_that_nobody_may_keep_it(backend: Backend) {
    let server = TestServer::start(backend).await;
    let stream = Stream::open(&server, USER).await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
        ("content-length", ""),
    ] {
        assert_eq!(stream.header(name), value, "{name}");
    }
    assert_ne!(stream.header("x-request-id"), "");
}

async fn an_event_is_its_name_and_one_line_of_json_and_has_no_id(backend: Backend) {
    let server = TestServer::start(backend).await;
    let present = apply(&server, USER, [operation("a", None, b"1")]).await;
    let mut stream = Stream::open(&server, USER).await;
    let part = stream.part().await.expect("an event");
    assert_eq!(part, format!("event: head\ndata: {{\"head\":\"{present}\"}}"));
}

async fn a_silent_stream_shows_every_fifteen_seconds_that_it_is_alive(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut stream = Stream::open(&server, USER).await;
    for _ in 0..5 {
        let_pass(Duration::from_secs(15)).await;
        assert_eq!(stream.part().await.as_deref(), Some(":"));
    }
    let_pass(Duration::from_secs(14)).await;
    let after = apply(&server, USER, [operation("a", None, b"1")]).await;
    assert_eq!(stream.head().await, after, "no comment before its time");
}

async fn only_a_get_opens_one(backend: Backend) {
    let server = TestServer::start(backend).await;
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

async fn a_token_counts_in_its_header_only_and_while_it_is_good(backend: Backend) {
    let server = TestServer::start(backend).await;
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

async fn a_page_of_an_origin_that_is_set_may_read_one(backend: Backend) {
    let origin = "https://app.example";
    let cors_origins = vec![origin];
    let server = TestServer::start_with(Setup { cors_origins, ..Setup::on(backend) }).await;
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
