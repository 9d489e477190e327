//! Taking connections, and letting them go.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::{address::Peer, app::App, body::Held, connection::Connection};

/// What hyper buffers of a head: more than the limit, so that a head that is somewhat too long gets
/// an answer that says so.
const HEAD_BUFFER_FACTOR: usize = 4;

/// The pause after a failed accept: most often there are no file descriptors left, and the next try
/// would fail as fast.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener` until the app is told to stop; then lets requests in flight finish,
/// for at most the drain time.
///
/// HTTP/1.1 without TLS: HTTP/2 and TLS are a reverse proxy's part.
pub async fn serve(app: App, listener: TcpListener, router: Router) {
    let connections = TaskTracker::new();
    let free = Arc::new(Semaphore::new(app.limits.connections_max));
    while let Some(accepted) = app.stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, Peer(peer)),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
            turn_away(stream);
            continue;
        };
        let connection = connection(app.clone(), stream, peer, router.clone());
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection failed");
            }
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(app.limits.drain_timeout, connections.wait()).await.is_err() {
        tracing::warn!(
            left = connections.len(),
            "connections were cut at the end of the drain time"
        );
    }
}

/// One connection, from its first byte to its last.
async fn connection(app: App, stream: TcpStream, peer: Peer, router: Router) -> hyper::Result<()> {
    // Answers are written whole, so waiting for more to send with them only delays.
    let _ = stream.set_nodelay(true);
    let stream = Connection::new(stream, &app.limits);
    let progress = stream.progress();
    let service = service_fn(move |request: Request<Incoming>| {
        let serving = progress.serve();
        let mut request = request.map(|body| Body::new(progress.clone().watch(body)));
        request.extensions_mut().insert(peer);
        let answered = router.clone().oneshot(request);
        async move { answered.await.map(|response| response.map(|body| Held::new(body, serving))) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The deadlines are `Connection`'s.
        .header_read_timeout(None)
        .max_buf_size(
            app.limits.header_bytes_max.saturating_mul(HEAD_BUFFER_FACTOR).max(128 * 1024),
        )
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        done = connection.as_mut() => done,
        () = app.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// Says that there are too many connections, if that can be said without waiting.
fn turn_away(stream: TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\
        Content-Type: application/json\r\nContent-Length: 77\r\nConnection: close\r\n\r\n\
        {\"error\":\"Too many connections.\",\"code\":\"unavailable\",\"requestId\":\"unassigned\"}";
    tokio::spawn(async move {
        let mut stream = stream;
        let say = async {
            stream.write_all(ANSWER).await?;
            stream.shutdown().await
        };
        let said: Result<io::Result<()>, _> = tokio::time::timeout(ACCEPT_PAUSE, say).await;
        tracing::warn!(said = said.is_ok(), "a connection was turned away: too many are open");
    });
}
