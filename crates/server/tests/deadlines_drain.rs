//! Draining after the signal to stop: which requests are answered, which connections close, and when
//! the server ends.

use std::time::Duration;

use vaultsync_server::Limits;
use vaultsync_testkit::{Backend, RawClient, Setup, TestServer, backends, operation, push_of};

backends!(
    a_push_in_flight_is_answered,
    a_waiting_pull_is_answered_at_once,
    no_new_connection_is_accepted,
    connections_without_a_request_are_closed_soon,
    a_request_sent_while_the_server_stops_is_answered,
    an_endless_request_is_aborted_at_the_drain_timeout,
    unfinished_headers_and_unread_responses_end_at_the_drain_timeout,
);

/// Longer than a stop takes, and shorter than every deadline that would close a connection.
const SOON: Duration = Duration::from_secs(8);

async fn server(backend: Backend, limits: Limits) -> TestServer {
    let limits = Limits { rate_limit: 0, ..limits };
    TestServer::start_with(Setup { limits, ..Setup::on(backend) }).await
}

async fn stops_soon(server: TestServer) {
    tokio::time::timeout(SOON, server.stop()).await.expect("the server stops");
}

/// A push of `ada` as sent on the wire: its head and its body.
fn push(server: &TestServer) -> (String, String) {
    let body = push_of([operation("a", None, b"hello")]).to_string();
    let head = format!(
        "POST /api/sync/push HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\n\
         Content-Length: {}\r\n\r\n",
        server.token("ada"),
        body.len()
    );
    (head, body)
}

/// A connection that has served one request and stays open.
async fn idle(server: &TestServer) -> RawClient {
    let mut client = RawClient::connect(server).await;
    client.get("/healthz", None).await;
    assert_eq!(client.answer().await.status, 200);
    client
}

async fn a_push_in_flight_is_answered(backend: Backend) {
    let server = server(backend, Limits::default()).await;
    let (head, body) = push(&server);
    let (first, rest) = body.split_at(body.len() / 2);
    let mut client = RawClient::connect(&server).await;
    client.send(head).await;
    client.send(first).await;
    // The response to a second connection shows that the first one has been accepted.
    idle(&server).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.begin_stop();
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.send(rest).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    client.closed().await;
    stops_soon(server).await;
}

async fn a_waiting_pull_is_answered_at_once(backend: Backend) {
    let server = server(backend, Limits::default()).await;
    let token = server.token("ada");
    let mut client = RawClient::connect(&server).await;
    client.get("/api/sync/pull?wait=55", Some(&token)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.begin_stop();
    let answer = tokio::time::timeout(SOON, client.answer()).await.expect("an answer at once");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["records"], serde_json::json!([]));
    client.closed().await;
    stops_soon(server).await;
}

async fn no_new_connection_is_accepted(backend: Backend) {
    let server = server(backend, Limits::default()).await;
    // An unfinished request, so that the server does not end.
    let mut client = RawClient::connect(&server).await;
    client.send(push(&server).0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.begin_stop();
    let refused = async {
        while RawClient::try_connect(server.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, refused).await.expect("connections are refused");
}

async fn connections_without_a_request_are_closed_soon(backend: Backend) {
    let server = server(backend, Limits::default()).await;
    let open = idle(&server).await;
    let silent = RawClient::connect(&server).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.begin_stop();
    let both = async { tokio::join!(open.closed(), silent.closed()) };
    tokio::time::timeout(SOON, both).await.expect("both are closed");
    stops_soon(server).await;
}

async fn a_request_sent_while_the_server_stops_is_answered(backend: Backend) {
    let server = server(backend, Limits::default()).await;
    let mut open = idle(&server).await;
    server.begin_stop();
    // Refused connections show that the server has begun to stop.
    while RawClient::try_connect(server.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Enough time for a server that would close idle connections at once.
    tokio::time::sleep(Duration::from_millis(50)).await;
    open.get("/healthz", None).await;
    let answer = tokio::time::timeout(SOON, open.answer()).await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("connection"), "close", "{answer:?}");
    open.closed().await;
    stops_soon(server).await;
}

async fn an_endless_request_is_aborted_at_the_drain_timeout(backend: Backend) {
    let drain_seconds = Duration::from_millis(500);
    let server = server(backend, Limits { drain_seconds, ..Limits::default() }).await;
    let mut client = RawClient::connect(&server).await;
    client.send(push(&server).0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = tokio::time::Instant::now();
    server.begin_stop();
    stops_soon(server).await;
    assert!(began.elapsed() >= drain_seconds / 2, "{:?}", began.elapsed());
    tokio::time::timeout(SOON, client.closed()).await.expect("the connection is closed");
}

async fn unfinished_headers_and_unread_responses_end_at_the_drain_timeout(backend: Backend) {
    let mib = 1024 * 1024;
    let drain_seconds = Duration::from_millis(500);
    let server = server(backend, Limits { drain_seconds, ..Limits::default() }).await;
    for number in 0..6 {
        let push = push_of([operation(&format!("r{number}"), None, &vec![7; mib])]);
        assert_eq!(server.push("ada", &push).await.status, 200);
    }
    let mut unread = RawClient::connect_narrow(&server).await;
    unread.get("/api/sync/pull", Some(&server.token("ada"))).await;
    assert!(unread.read_some(16).await.is_some(), "the response has begun");
    let mut half = RawClient::connect(&server).await;
    half.send("GET /heal").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.begin_stop();
    stops_soon(server).await;
    let both = async { tokio::join!(unread.closed(), half.closed()) };
    tokio::time::timeout(SOON, both).await.expect("both are closed");
}
