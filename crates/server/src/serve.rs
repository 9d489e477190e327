//! Accepting connections, serving them, and draining them at the end.

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

use crate::{
    address::Peer, app::App, connection::Connection, guarded_body::GuardedBody,
    overload::ActiveConnection, telemetry::OpenGauge,
};

/// Buffer of hyper for a request's headers, as a multiple of their limit. Headers that are somewhat
/// too long then still get a response that says so.
const HEAD_BUFFER_FACTOR: usize = 4;

/// Pause after a failed accept. Usually the process has no file descriptors left, and the next accept
/// would fail as quickly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time in which a refused connection can read its response.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// Refused connections that get a response at the same time, in addition to the limit of open
/// connections. Others are closed without a response.
const REFUSALS_MAX: usize = 100;

/// Time for which a connection without a request stays open after the signal to stop. Its client may
/// be sending a request at that moment, and would not know whether a request that was cut off had
/// been served.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves `router` on `listener` until the app stops, then waits until requests in flight are
/// finished, for at most the drain timeout.
///
/// Speaks HTTP/1.1 without TLS. HTTP/2 and TLS belong in a reverse proxy.
pub async fn serve(app: App, listener: TcpListener, router: Router) {
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(app.limits.connections_max));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let abort = CancellationToken::new();
    let start = |stream: TcpStream, peer: Peer| {
        let Ok(permit) = Arc::clone(&slots).try_acquire_owned() else {
            return refuse(stream, &refusals);
        };
        let (app, router, abort) = (app.clone(), router.clone(), abort.clone());
        let gauge = OpenGauge::connection();
        connections.spawn(async move {
            // Created inside the task: a future that is moved into a task is stored in it twice, and
            // this one is most of the memory of an idle connection besides its buffers.
            if let Err(error) = serve_connection(app, stream, peer, router, abort).await {
                tracing::debug!(%error, "a connection failed");
            }
            drop((permit, gauge));
        });
    };
    while let Some(accepted) = app.stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => start(stream, Peer(peer)),
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    accept_pending(listener, app.limits.connections_max, start);
    connections.close();
    if tokio::time::timeout(app.limits.drain_seconds, connections.wait()).await.is_err() {
        tracing::warn!(
            aborted = connections.len(),
            "the drain timeout expired: the remaining connections are aborted"
        );
        abort.cancel();
        connections.wait().await;
    }
}

/// Starts the connections that the operating system has already accepted, and closes the listener.
/// Their clients may have sent a request that would otherwise be cut off; without this, 3 of 30
/// restarts on a busy machine did that.
fn accept_pending(listener: TcpListener, connections_max: usize, start: impl Fn(TcpStream, Peer)) {
    // The runtime's listener would go by the readiness it polled last and not ask the system.
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..connections_max {
        let Ok((stream, peer)) = listener.accept() else { return };
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            start(stream, Peer(peer));
        }
    }
}

/// Serves one connection until it closes, or until it is aborted at the end of the drain timeout.
async fn serve_connection(
    app: App,
    stream: TcpStream,
    peer: Peer,
    router: Router,
    abort: CancellationToken,
) -> hyper::Result<()> {
    // Responses are written as a whole, so delaying a packet to fill it gains nothing.
    let _ = stream.set_nodelay(true);
    set_user_timeout(&stream, app.limits.write_stall_seconds);
    let active = ActiveConnection::new(app.overload.active().clone());
    let stream = Connection::new(stream, &app.limits);
    let progress = stream.progress();
    let stop = app.stop.clone();
    let stopping = stop.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let guard = progress.serve();
        active.note_request();
        let mut request = request.map(|body| Body::new(progress.clone().track(body)));
        request.extensions_mut().insert(peer);
        let responding = router.clone().oneshot(request);
        let (progress, stopping) = (progress.clone(), stopping.clone());
        async move {
            let mut response = responding.await?;
            if progress.will_close() || stopping.is_cancelled() {
                // hyper closes the connection then. Without this header the client might send its
                // next request on it.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| GuardedBody::new(body, guard)))
        }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            // `Connection` has the deadlines.
            .header_read_timeout(None)
            .max_buf_size(
                app.limits.header_bytes_max.saturating_mul(HEAD_BUFFER_FACTOR).max(128 * 1024),
            )
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        done = connection.as_mut() => done,
        // Boxed, so that it takes no memory before the server stops.
        () = stop.cancelled() => Box::pin(abort.run_until_cancelled(async {
            // A graceful shutdown closes connections that have no request at the moment.
            let served = tokio::time::timeout(LAST_REQUEST_TIMEOUT, connection.as_mut()).await;
            if let Ok(done) = served {
                return done;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        })).await.unwrap_or(Ok(())),
    }
}

/// Closes a connection if sent bytes are not acknowledged for that long. A peer that vanished without
/// closing it would otherwise keep it, and a place among its user's event streams, for 16 minutes: until
/// then the system accepts more bytes and sends them again. Only Linux has this option.
#[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "nothing to set"))]
fn set_user_timeout(stream: &TcpStream, timeout: Duration) {
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(timeout)) {
        tracing::debug!(%error, "TCP_USER_TIMEOUT cannot be set");
    }
}

/// Responds that there are too many connections, unless too many such responses are pending.
fn refuse(mut stream: TcpStream, refusals: &Arc<Semaphore>) {
    const BODY: &str = concat!(
        r#"{"error":"The server has too many connections. Retry after the time in Retry-After.","#,
        r#""code":"unavailable","requestId":"unassigned"}"#,
    );
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nCache-Control: no-store\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
        BODY.len(),
    );
    let Ok(permit) = Arc::clone(refusals).try_acquire_owned() else { return };
    tokio::spawn(async move {
        let respond = async {
            stream.write_all(response.as_bytes()).await?;
            stream.shutdown().await?;
            // Closing a connection while a request arrives resets it, and the reset may overtake the
            // response.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        };
        let sent: Result<io::Result<_>, _> = tokio::time::timeout(REFUSAL_TIMEOUT, respond).await;
        tracing::warn!(sent = sent.is_ok(), "a connection was refused: too many are open");
        drop(permit);
    });
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::Parts;

    #[tokio::test]
    async fn a_client_that_connects_before_the_stop_gets_a_response() {
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
            let mut response = String::new();
            client.read_to_string(&mut response).await.unwrap();
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
            assert!(response.contains("connection: close\r\n"), "{response}");
        }
    }
}
