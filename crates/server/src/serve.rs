//! Accepting connections, serving them, and draining them at the end.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderValue, header::CONNECTION},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::{
    address::Peer, admin::admin_router, app::App, connection::Connection,
    guarded_body::GuardedBody, overload::ActiveConnection, refusals::Refusals,
    telemetry::OpenGauge,
};

/// Buffer of hyper for a request's headers, as a multiple of their limit. Headers that are somewhat
/// too long then still get a response that says so.
const HEAD_BUFFER_FACTOR: usize = 4;

/// Maximum number of open connections to the admin address.
pub const ADMIN_CONNECTIONS_MAX: usize = 8;

/// Time for which a connection without a request stays open after the signal to stop. Its client may
/// be sending a request at that moment, and would not know whether a request that was cut off had
/// been served.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves `router` on `listener` until the app stops, then waits until requests in flight are
/// finished, for at most the drain timeout.
///
/// Speaks HTTP/1.1 without TLS. HTTP/2 and TLS belong in a reverse proxy.
pub async fn serve(app: App, listener: TcpListener, router: Router) {
    let connections_max = app.limits.connections_max;
    serve_up_to(connections_max, app, listener, router).await;
}

/// Serves the admin address like [`serve`], with connections of its own: metrics can be read when the public
/// address has no connection left.
pub async fn serve_admin(app: App, listener: TcpListener) {
    let router = admin_router(app.clone());
    serve_up_to(ADMIN_CONNECTIONS_MAX, app, listener, router).await;
}

async fn serve_up_to(connections_max: usize, app: App, listener: TcpListener, router: Router) {
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(connections_max));
    let mut refusals = Refusals::new(app.clone(), connections_max);
    let abort = CancellationToken::new();
    let start = |stream: TcpStream, peer: Peer, refusals: &Refusals| {
        let Ok(permit) = Arc::clone(&slots).try_acquire_owned() else {
            return refusals.refuse(stream);
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
            Ok((stream, peer)) if refusals.has_spare() => start(stream, Peer(peer), &refusals),
            Ok((stream, _)) => refusals.refuse_last(stream).await,
            Err(error) => refusals.accept_failed(&listener, error).await,
        }
    }
    accept_pending(listener, connections_max, |stream, peer| start(stream, peer, &refusals));
    connections.close();
    if tokio::time::timeout(app.limits.drain_seconds, connections.wait()).await.is_err() {
        let aborted = connections.len();
        abort.cancel();
        tracing::warn!(aborted, "the drain timeout expired: the remaining connections are aborted");
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
    let head_buffer =
        app.limits.header_bytes_max.saturating_mul(HEAD_BUFFER_FACTOR).max(128 * 1024);
    let service = service_fn(move |request: Request<Incoming>| {
        let guard = progress.serve();
        if !is_probe(request.uri().path()) {
            active.note_request();
        }
        let mut request = request.map(|body| Body::new(progress.clone().track(body)));
        request.extensions_mut().insert(peer);
        let responding = router.clone().oneshot(request);
        let (progress, app) = (progress.clone(), app.clone());
        async move {
            let mut response = responding.await?;
            if progress.will_close() || app.is_stopping() {
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
            .max_buf_size(head_buffer)
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

/// Whether a request is a health check, which is answered under overload too, and is no reason for it.
fn is_probe(path: &str) -> bool {
    ["/healthz", "/readyz"].contains(&path)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
