//! Pulls that wait for a change.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};
use vaultsync_testkit::{Backend, Setup, TestServer, backends, operation};

use crate::{USER, apply, ids, millis, page};

backends!(
    a_wait_ends_at_once_if_there_are_records,
    a_wait_ends_with_an_empty_page_when_its_time_is_up,
    a_pull_can_wait_for_a_vault_that_does_not_exist_yet,
    a_wait_returns_the_push_of_another_device,
    a_push_ends_every_wait_of_its_user,
    a_push_that_writes_nothing_does_not_end_a_wait,
    a_wait_behind_a_later_cursor_continues,
    a_stopping_server_answers_waiting_pulls,
    an_erasure_ends_the_wait,
    a_disconnected_wait_no_longer_counts,
);

/// Longer than anything that does not wait, and much shorter than the waits below.
const SOON: Duration = Duration::from_secs(20);

/// Sends a pull on its own connection, and returns once the server has answered later requests on other
/// connections: by then it is serving the pull.
async fn begin_pull(server: &TestServer, query: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    let head = format!(
        "GET /api/sync/pull{query} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
         Connection: close\r\n\r\n",
        server.address,
        server.token(USER),
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    for _ in 0..5 {
        page(server, "?limit=1").await;
    }
    stream
}

/// The page in the response to a pull that was sent before.
async fn end_pull(stream: TcpStream) -> Value {
    let answer = read_answer(stream).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    serde_json::from_str(body).expect("JSON")
}

async fn read_answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    let read = timeout(SOON, stream.read_to_string(&mut answer)).await;
    read.expect("an answer in time").expect("an answer");
    answer
}

async fn a_wait_ends_at_once_if_there_are_records(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"1")]).await;
    let started = Instant::now();
    let found = page(&server, "?wait=55").await;
    assert!(started.elapsed() < SOON);
    assert_eq!(found, page(&server, "").await);
}

async fn a_wait_ends_with_an_empty_page_when_its_time_is_up(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"1")]).await;
    let all = page(&server, "").await;
    let cursor = all["head"].as_str().expect("a head");
    let started = Instant::now();
    let empty = page(&server, &format!("?wait=1&cursor={cursor}")).await;
    let took = started.elapsed();
    assert!((Duration::from_secs(1)..SOON).contains(&took), "{took:?}");
    assert_eq!(
        empty,
        json!({
            "records": [],
            "nextCursor": null,
            "hasMore": false,
            "epoch": all["epoch"],
            "head": cursor,
        })
    );
}

async fn a_pull_can_wait_for_a_vault_that_does_not_exist_yet(backend: Backend) {
    let server = TestServer::start(backend).await;
    let pull = begin_pull(&server, "?wait=55").await;
    apply(&server, [operation("a", None, b"1")]).await;
    let found = end_pull(pull).await;
    assert_eq!(found, page(&server, "").await);
}

async fn a_wait_returns_the_push_of_another_device(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut cursor = String::new();
    for round in 0..10 {
        let pull = begin_pull(&server, &format!("?wait=55&cursor={cursor}")).await;
        let names = [format!("{round}-a"), format!("{round}-b")];
        apply(&server, names.each_ref().map(|name| operation(name, None, b"1"))).await;
        let found = end_pull(pull).await;
        assert_eq!(ids(&found), names, "both, since they were committed together");
        assert_eq!(found["nextCursor"], found["head"]);
        found["nextCursor"].as_str().expect("a cursor").clone_into(&mut cursor);
    }
}

async fn a_push_ends_every_wait_of_its_user(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut pulls = Vec::new();
    for _ in 0..5 {
        pulls.push(begin_pull(&server, "?wait=55").await);
    }
    apply(&server, [operation("a", None, b"1")]).await;
    for pull in pulls {
        assert_eq!(ids(&end_pull(pull).await), ["a"]);
    }
}

async fn a_push_that_writes_nothing_does_not_end_a_wait(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"1")]).await;
    let all = page(&server, "").await;
    let cursor = all["head"].as_str().expect("a head").to_owned();
    let started = Instant::now();
    let pull = begin_pull(&server, &format!("?wait=1&cursor={cursor}")).await;
    // A retry, a conflict and an empty push.
    apply(&server, [operation("a", None, b"1")]).await;
    let refused = vaultsync_testkit::push_of([operation("a", None, b"2")]);
    assert_eq!(server.push(USER, &refused).await.status, 409);
    apply(&server, []).await;
    assert_eq!(end_pull(pull).await["records"], json!([]));
    assert!(started.elapsed() >= Duration::from_secs(1));
}

async fn a_wait_behind_a_later_cursor_continues(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"1")]).await;
    let head = millis(&page(&server, "").await["head"]);
    let far = vaultsync_protocol::Timestamp::from_millis(head + 3_600_000);
    let pull = begin_pull(&server, &format!("?wait=1&cursor={far}")).await;
    apply(&server, [operation("b", None, b"1")]).await;
    assert_eq!(end_pull(pull).await["records"], json!([]));
}

async fn a_stopping_server_answers_waiting_pulls(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"1")]).await;
    let all = page(&server, "").await;
    let cursor = all["head"].as_str().expect("a head");
    let pull = begin_pull(&server, &format!("?wait=55&cursor={cursor}")).await;
    let started = Instant::now();
    server.stop().await;
    let empty = end_pull(pull).await;
    assert!(started.elapsed() < SOON);
    assert_eq!((&empty["records"], &empty["head"]), (&json!([]), &all["head"]));
}

async fn an_erasure_ends_the_wait(backend: Backend) {
    let server = TestServer::start(backend).await;
    apply(&server, [operation("a", None, b"1")]).await;
    let all = page(&server, "").await;
    let (epoch, head) = (all["epoch"].as_str().unwrap(), all["head"].as_str().unwrap());
    let pull = begin_pull(&server, &format!("?wait=55&epoch={epoch}&cursor={head}")).await;
    let path = format!("/api/sync/vault?confirm={epoch}");
    let request = server.request(reqwest::Method::DELETE, &path).bearer_auth(server.token(USER));
    assert_eq!(vaultsync_testkit::send(request).await.status, 200);
    let answer = read_answer(pull).await;
    assert!(answer.starts_with("HTTP/1.1 410 "), "{answer}");
    assert!(answer.contains(r#""code":"vault_erased""#), "{answer}");
}

async fn a_disconnected_wait_no_longer_counts(backend: Backend) {
    let mut setup = Setup::on(backend);
    setup.limits.waits_per_user_max = 1;
    let server = Arc::new(TestServer::start_with(setup).await);
    let gone = begin_pull(&server, "?wait=55").await;
    assert_eq!(server.pull(USER, "?wait=55").await.status, 429, "the limit is reached");
    drop(gone);
    let free = async {
        while server.pull(USER, "?wait=1").await.status == 429 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, free).await.expect("it no longer counts");
}
