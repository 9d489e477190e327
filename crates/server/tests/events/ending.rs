//! Lifetime of a stream and how it ends.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use vaultsync_server::{Clock as _, Limits, SystemClock};
use vaultsync_testkit::{
    Backend, ManualClock, RawClient, Setup, TestServer, backends, operation, push_of, send,
};

use crate::{SOON, USER, stream::Stream};

backends!(
    a_stream_ends_five_minutes_after_its_token_expires,
    a_stream_with_a_cached_token_ends_five_minutes_after_it_expires,
    a_stream_ends_without_a_change,
    a_stopping_server_ends_streams_at_once,
    a_stream_outlives_every_other_deadline,
    a_client_that_never_reads_is_disconnected,
);

/// A deadline that a test wants to be missed.
const SHORT: Duration = Duration::from_millis(300);

async fn server(backend: Backend, limits: Limits) -> TestServer {
    let limits = Limits { rate_limit: 0, ..limits };
    TestServer::start_with(Setup { limits, ..Setup::on(backend) }).await
}

/// A server with a manual clock, and that clock.
async fn server_with_clock(backend: Backend) -> (TestServer, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(SystemClock::start().now()));
    let setup = Setup { clock: Some(clock.clone()), ..Setup::on(backend) };
    (TestServer::start_with(setup).await, clock)
}

/// A token that is valid for one minute from now.
fn one_minute_token(server: &TestServer, clock: &ManualClock) -> String {
    server.key.mint(USER, clock.now(), Duration::from_secs(60)).expect("a token")
}

/// Makes a change with a new token.
async fn change(server: &TestServer, clock: &ManualClock, record_id: &str) {
    let push = push_of([operation(record_id, None, b"1")]);
    let request = server.request(reqwest::Method::POST, "/api/sync/push").json(&push);
    let answer = send(request.bearer_auth(one_minute_token(server, clock))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn a_stream_ends_five_minutes_after_its_token_expires(backend: Backend) {
    let (server, clock) = server_with_clock(backend).await;
    // The times in a token are whole seconds, so the clock is set to the start of a second.
    clock.step(-(clock.now().as_millis() % 1000));
    let mut stream = Stream::open_with(&server, &one_minute_token(&server, &clock)).await;
    clock.advance(Duration::from_millis(360_000 - 1));
    change(&server, &clock, "a").await;
    stream.head().await;
    clock.advance(Duration::from_millis(1));
    change(&server, &clock, "b").await;
    assert_eq!(stream.part().await, None);
}

async fn a_stream_with_a_cached_token_ends_five_minutes_after_it_expires(backend: Backend) {
    let (server, clock) = server_with_clock(backend).await;
    clock.step(-(clock.now().as_millis() % 1000));
    let token = one_minute_token(&server, &clock);
    let pull = server.request(reqwest::Method::GET, "/api/sync/pull").bearer_auth(&token);
    assert_eq!(send(pull).await.status, 200);
    clock.advance(Duration::from_secs(50));
    let mut stream = Stream::open_with(&server, &token).await;
    clock.advance(Duration::from_millis(310_000 - 1));
    change(&server, &clock, "a").await;
    stream.head().await;
    clock.advance(Duration::from_millis(1));
    change(&server, &clock, "b").await;
    assert_eq!(stream.part().await, None);
}

async fn a_stream_ends_without_a_change(backend: Backend) {
    let server = server(
        backend,
        Limits { stream_grace_seconds: Duration::from_secs(2), ..Limits::default() },
    )
    .await;
    let now = SystemClock::start().now();
    let token = server.key.mint(USER, now, Duration::from_secs(1)).expect("a token");
    let began = Instant::now();
    let mut stream = Stream::open_with(&server, &token).await;
    assert_eq!(stream.part().await, None);
    // The second in which the token was made may have been almost over.
    assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
}

async fn a_stopping_server_ends_streams_at_once(backend: Backend) {
    let server = server(backend, Limits::default()).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(Stream::open(&server, USER).await);
    }
    server.begin_stop();
    for stream in &mut streams {
        assert_eq!(stream.part().await, None);
    }
    timeout(SOON / 2, server.stop()).await.expect("the server does not wait for the drain timeout");
}

async fn a_stream_outlives_every_other_deadline(backend: Backend) {
    let limits = Limits {
        first_byte_seconds: SHORT,
        header_seconds: SHORT,
        body_seconds: SHORT,
        handler_seconds: Duration::from_secs(1),
        write_stall_seconds: SHORT,
        idle_seconds: SHORT,
        ..Limits::default()
    };
    let server = server(backend, limits).await;
    let mut stream = Stream::open(&server, USER).await;
    for record in ["a", "b"] {
        sleep(Duration::from_secs(2)).await;
        let push = push_of([operation(record, None, b"1")]);
        assert_eq!(server.push(USER, &push).await.status, 200);
        stream.head().await;
    }
}

async fn a_client_that_never_reads_is_disconnected(backend: Backend) {
    let limits = Limits {
        rate_limit: 0,
        waits_per_user_max: 1,
        write_stall_seconds: SHORT,
        ..Limits::default()
    };
    let send_buffer_bytes = Some(4096);
    let server =
        TestServer::start_with(Setup { limits, send_buffer_bytes, ..Setup::on(backend) }).await;
    let token = server.token(USER);
    let mut client = RawClient::connect_narrow(&server).await;
    client.get("/api/sync/events", Some(&token)).await;
    assert!(client.read_some(16).await.is_some(), "the stream has begun");
    assert_eq!(
        Stream::try_open(&server, &token).await.err(),
        Some(429),
        "it counts against the limit"
    );
    let disconnected = async {
        for number in 0.. {
            let push = push_of([operation(&format!("r{number}"), None, b"1")]);
            assert_eq!(server.push(USER, &push).await.status, 200);
            if Stream::try_open(&server, &token).await.is_ok() {
                break;
            }
        }
    };
    timeout(SOON, disconnected).await.expect("it no longer counts");
    client.closed().await;
}
