//! Taking connections, and letting them go.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, header::CONNECTION},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::{address::Peer, app::App, body::GuardedBody, connection::Connection, telemetry::Open};

/// What hyper buffers of a head: more than the limit, so that a head that is somewhat too long gets
/// an answer that says so.
const HEAD_BUFFER_FACTOR: usize = 4;

/// The pause after a failed accept: most often there are no file descriptors left, and the next try
/// would fail as fast.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection that is turned away may take to read why.
const TURN_AWAY_TIMEOUT: Duration = Duration::from_millis(500);

/// How many connections that are turned away are told why at a time: these come on top of the most
/// that may be open. Any others are closed without a word.
const TURNED_AWAY_MAX: usize = 100;

/// How long a connection without a request stays open when the server is told to stop. Its client may be
/// sending one just now, and could not tell whether one that was cut off had been served.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves `router` on `listener` until the app is told to stop; then lets requests in flight finish,
/// for at most the drain time.
///
/// HTTP/1.1 without TLS: HTTP/2 and TLS are a reverse proxy's part.
pub async fn serve(app: App, listener: TcpListener, router: Router) {
    let connections = TaskTracker::new();
    let free = Arc::new(Semaphore::new(app.limits.connections_max));
    let turned_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    let cut = CancellationToken::new();
    let take = |stream: TcpStream, peer: Peer| {
        let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
            return turn_away(stream, &turned_away);
        };
        let (app, router, cut) = (app.clone(), router.clone(), cut.clone());
        let counted = Open::connection();
        connections.spawn(async move {
            // Made here, and not before: a future that is moved into a task has a second place in it,
            // and this one is most of what an idle connection takes beside its buffers.
            if let Err(error) = connection(app, stream, peer, router, cut).await {
                tracing::debug!(%error, "a connection failed");
            }
            drop((permit, counted));
        });
    };
    while let Some(accepted) = app.stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => take(stream, Peer(peer)),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    close(listener, app.limits.connections_max, take);
    connections.close();
    if tokio::time::timeout(app.limits.drain_timeout, connections.wait()).await.is_err() {
        tracing::warn!(
            left = connections.len(),
            "connections were cut at the end of the drain time"
        );
        cut.cancel();
        connections.wait().await;
    }
}

/// Takes the connections that the system has taken already, and no more. Their clients may have sent a
/// request, and would see it cut off: of 30 restarts on a busy machine, 3 did so to somebody.
fn close(listener: TcpListener, connections_max: usize, take: impl Fn(TcpStream, Peer)) {
    // The runtime would not ask the system, but what it was told of the listener when it last asked.
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..connections_max {
        let Ok((stream, peer)) = listener.accept() else { return };
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            take(stream, Peer(peer));
        }
    }
}

/// One connection, from its first byte to its last, or until it is cut after the server was told to stop.
async fn connection(
    app: App,
    stream: TcpStream,
    peer: Peer,
    router: Router,
    cut: CancellationToken,
) -> hyper::Result<()> {
    // Answers are written whole, so waiting for more to send with them only delays.
    let _ = stream.set_nodelay(true);
    let stream = Connection::new(stream, &app.limits);
    let progress = stream.progress();
    let stop = app.stop.clone();
    let stopping = stop.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let serving = progress.serve();
        let mut request = request.map(|body| Body::new(progress.clone().watch(body)));
        request.extensions_mut().insert(peer);
        let answered = router.clone().oneshot(request);
        let (progress, stopping) = (progress.clone(), stopping.clone());
        async move {
            let mut response = answered.await?;
            if progress.ends() || stopping.is_cancelled() {
                // hyper closes then, and only a client that is told so does not send its next
                // request into the void.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| GuardedBody::new(body, serving)))
        }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            // The deadlines are `Connection`'s.
            .header_read_timeout(None)
            .max_buf_size(
                app.limits.header_bytes_max.saturating_mul(HEAD_BUFFER_FACTOR).max(128 * 1024),
            )
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        done = connection.as_mut() => done,
        // In a box, which costs nothing before it is made.
        () = stop.cancelled() => Box::pin(cut.run_until_cancelled(async {
            // Until then hyper would close what has no request at the moment.
            let last = tokio::time::timeout(LAST_REQUEST_TIMEOUT, connection.as_mut()).await;
            if let Ok(done) = last {
                return done;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        })).await.unwrap_or(Ok(())),
    }
}

/// Says that there are too many connections, if that can be said without waiting long.
fn turn_away(mut stream: TcpStream, turned_away: &Arc<Semaphore>) {
    const BODY: &str =
        r#"{"error":"Too many connections.","code":"unavailable","requestId":"unassigned"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nCache-Control: no-store\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
        BODY.len(),
    );
    let Ok(permit) = Arc::clone(turned_away).try_acquire_owned() else { return };
    tokio::spawn(async move {
        let say = async {
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            // To close while a request arrives is to reset the connection, and the reset may
            // overtake the answer.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        };
        let said: Result<io::Result<_>, _> = tokio::time::timeout(TURN_AWAY_TIMEOUT, say).await;
        tracing::warn!(said = said.is_ok(), "a connection was turned away: too many are open");
        drop(permit);
    });
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::Parts;

    #[tokio::test]
    async fn whoever_has_connected_when_the_server_is_told_to_stop_is_answered() {
        let folder = tempfile::tempdir().unwrap();
        let app = App::new(Parts::in_folder(folder.path()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            clients.push(client);
        }
        app.stop.cancel();
        serve(app.clone(), listener, crate::router(app)).await;
        for mut client in clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        }
    }
}
