//! Limit on concurrent waiting pulls and streams of one user.

use std::time::Duration;

use tokio::time::timeout;
use vaultsync_server::Limits;
use vaultsync_testkit::{Backend, RawClient, Setup, TestServer, backends, send};

use crate::{SOON, USER, stream::Stream};

backends!(
    the_eleventh_stream_is_refused_until_another_closes,
    waiting_pulls_and_streams_share_one_limit,
    a_refused_stream_does_not_count,
);

async fn server_with_wait_limit(backend: Backend, waits_per_user_max: usize) -> TestServer {
    let limits = Limits { rate_limit: 0, waits_per_user_max, ..Limits::default() };
    TestServer::start_with(Setup { limits, ..Setup::on(backend) }).await
}

/// Opens a stream as soon as the limit allows it.
async fn open_when_possible(server: &TestServer, user: &str) -> Stream {
    let token = server.token(user);
    let opened = async {
        loop {
            if let Ok(stream) = Stream::try_open(server, &token).await {
                break stream;
            }
        }
    };
    timeout(SOON, opened).await.expect("a stream")
}

/// Sends a pull with the longest wait.
async fn begin_wait(server: &TestServer, token: &str) -> RawClient {
    let mut client = RawClient::connect(server).await;
    client.get("/api/sync/pull?wait=55", Some(token)).await;
    client
}

async fn the_eleventh_stream_is_refused_until_another_closes(backend: Backend) {
    let server = TestServer::start(backend).await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(Stream::open(&server, USER).await);
    }
    let request = server.request(reqwest::Method::GET, "/api/sync/events");
    let refused = timeout(SOON, send(request.bearer_auth(server.token(USER)))).await;
    let refused = refused.expect("a response that ends");
    assert_eq!((refused.status, &refused.json()["code"]), (429, &"rate_limited".into()));
    assert_eq!(refused.header("retry-after"), "1");
    Stream::open(&server, "bob").await;
    for _ in 0..3 {
        streams.pop();
        streams.push(open_when_possible(&server, USER).await);
    }
    let token = server.token(USER);
    assert_eq!(Stream::try_open(&server, &token).await.err(), Some(429), "there are ten again");
}

async fn waiting_pulls_and_streams_share_one_limit(backend: Backend) {
    let server = server_with_wait_limit(backend, 2).await;
    let stream = Stream::open(&server, USER).await;
    let token = server.token(USER);
    let mut waiting = begin_wait(&server, &token).await;
    let until_it_waits = async {
        while server.pull(USER, "?wait=1").await.status != 429 {
            // The pull above may have been served first. Then `waiting` was refused: send it again.
            if timeout(Duration::from_millis(100), waiting.answer()).await.is_ok() {
                waiting = begin_wait(&server, &token).await;
            }
        }
    };
    timeout(SOON, until_it_waits).await.expect("a third wait is refused");
    assert_eq!(Stream::try_open(&server, &token).await.err(), Some(429));
    drop(stream);
    let stream = open_when_possible(&server, USER).await;
    assert_eq!(server.pull(USER, "?wait=1").await.status, 429);
    drop(waiting);
    open_when_possible(&server, USER).await;
    drop(stream);
}

async fn a_refused_stream_does_not_count(backend: Backend) {
    let server = server_with_wait_limit(backend, 1).await;
    for method in [reqwest::Method::HEAD, reqwest::Method::POST] {
        let request = server.request(method, "/api/sync/events").bearer_auth(server.token(USER));
        assert_eq!(send(request).await.status, 405);
    }
    Stream::open(&server, USER).await;
}
