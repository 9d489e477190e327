//! How long a stream lasts, and how it ends.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use vaultsync_server::{Clock as _, Limits, SystemClock};
use vaultsync_testkit::{
    Backend, ManualClock, RawClient, Setup, TestServer, backends, operation, push_of, send,
};

use crate::{SOON, USER, stream::Stream};

backends!(
    a_stream_outlives_its_token_by_five_minutes_and_no_more,
    so_does_a_stream_whose_token_is_remembered,
    its_end_waits_for_no_change,
    a_server_that_stops_ends_it_at_once,
    it_outlives_every_other_deadline,
    a_client_that_never_reads_is_cut,
);

/// What a test sets a deadline to that it wants to see missed.
const SHORT: Duration = Duration::from_millis(300);

async fn server(backend: Backend, limits: Limits) -> TestServer {
    let limits = Limits { rate_per_user: 0, ..limits };
    TestServer::start_with(Setup { limits, ..Setup::on(backend) }).await
}

/// A server whose time stands still, and its clock.
async fn server_with_clock(backend: Backend) -> (TestServer, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(SystemClock::start().now()));
    let setup = Setup { clock: Some(clock.clone()), ..Setup::on(backend) };
    (TestServer::start_with(setup).await, clock)
}

/// A token that is good for a minute from now.
fn token_of_a_minute(server: &TestServer, clock: &ManualClock) -> String {
    server.key.mint(USER, clock.now(), Duration::from_secs(60)).expect("a token")
}

/// Makes a change, by a token of its own.
async fn change(server: &TestServer, clock: &ManualClock, record_id: &str) {
    let push = push_of([operation(record_id, None, b"1")]);
    let request = server.request(reqwest::Method::POST, "/api/sync/push").json(&push);
    let answer = send(request.bearer_auth(token_of_a_minute(server, clock))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn a_stream_outlives_its_token_by_five_minutes_and_no_more(backend: Backend) {
    let (server, clock) = server_with_clock(backend).await;
    // The token's times are whole seconds: the clock stands at the beginning of one.
    clock.step(-(clock.now().as_millis() % 1000));
    let mut stream = Stream::open_with(&server, &token_of_a_minute(&server, &clock)).await;
    clock.advance(Duration::from_millis(360_000 - 1));
    change(&server, &clock, "a").await;
    stream.head().await;
    clock.advance(Duration::from_millis(1));
    change(&server, &clock, "b").await;
    assert_eq!(stream.part().await, None);
}

async fn so_does_a_stream_whose_token_is_remembered(backend: Backend) {
    let (server, clock) = server_with_clock(backend).await;
    clock.step(-(clock.now().as_millis() % 1000));
    let token = token_of_a_minute(&server, &clock);
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

async fn its_end_waits_for_no_change(backend: Backend) {
    let server =
        server(backend, Limits { stream_grace: Duration::from_secs(2), ..Limits::default() }).await;
    let now = SystemClock::start().now();
    let token = server.key.mint(USER, now, Duration::from_secs(1)).expect("a token");
    let began = Instant::now();
    let mut stream = Stream::open_with(&server, &token).await;
    assert_eq!(stream.part().await, None);
    // The token's second may have been almost over when it was made.
    assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
}

async fn a_server_that_stops_ends_it_at_once(backend: Backend) {
    let server = server(backend, Limits::default()).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(Stream::open(&server, USER).await);
    }
    server.begin_stop();
    for stream in &mut streams {
        assert_eq!(stream.part().await, None);
    }
    timeout(SOON / 2, server.stop()).await.expect("the server does not wait for its drain time");
}

async fn it_outlives_every_other_deadline(backend: Backend) {
    let limits = Limits {
        first_byte_timeout: SHORT,
        header_timeout: SHORT,
        body_timeout: SHORT,
        handler_timeout: Duration::from_secs(1),
        write_stall_timeout: SHORT,
        idle_timeout: SHORT,
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

async fn a_client_that_never_reads_is_cut(backend: Backend) {
    let limits = Limits {
        rate_per_user: 0,
        waits_per_user_max: 1,
        write_stall_timeout: SHORT,
        ..Limits::default()
    };
    let send_buffer_bytes = Some(4096);
    let server =
        TestServer::start_with(Setup { limits, send_buffer_bytes, ..Setup::on(backend) }).await;
    let token = server.token(USER);
    let mut client = RawClient::connect_narrow(&server).await;
    client.get("/api/sync/events", Some(&token)).await;
    assert!(client.read_some(16).await.is_some(), "the stream has begun");
    assert_eq!(Stream::try_open(&server, &token).await.err(), Some(429), "it has its place");
    let cut = async {
        for number in 0.. {
            let push = push_of([operation(&format!("r{number}"), None, b"1")]);
            assert_eq!(server.push(USER, &push).await.status, 200);
            if Stream::try_open(&server, &token).await.is_ok() {
                break;
            }
        }
    };
    timeout(SOON, cut).await.expect("its place is free");
    client.closed().await;
}
