//! Connections that cannot be served: above the limit, or without a file descriptor for them.
//!
//! Both get a response. A connection that is not accepted would look open to its client, which would wait
//! for longer than any deadline.

use std::{io, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{app::App, log_limit::LogLimit};

/// The most refused connections that get a response at the same time, in addition to the limit of open
/// connections. Others are closed without a response.
const REFUSALS_MAX: usize = 100;

/// Time in which a refused connection can read its response.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// The same while the process has no file descriptor left: the others wait for this one.
const LAST_DESCRIPTOR_TIMEOUT: Duration = Duration::from_millis(100);

/// Pause after a failed accept, unless a connection was refused. The next accept would fail as quickly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many refused connections get a response at the same time if this many connections may be open.
pub fn refusals_max(connections_max: usize) -> usize {
    (connections_max / 8).clamp(4, REFUSALS_MAX)
}

/// Refuses the connections of one listener.
pub(crate) struct Refusals {
    app: App,
    places: Arc<Semaphore>,
    /// Descriptor that is closed to accept and refuse a connection when the process has none left.
    spare: Option<Spare>,
    refused: LogLimit,
    failed: LogLimit,
}

impl Refusals {
    pub(crate) fn new(app: App, connections_max: usize) -> Self {
        let places = Arc::new(Semaphore::new(refusals_max(connections_max)));
        let [refused, failed] = Default::default();
        Self { app, places, spare: spare(), refused, failed }
    }

    /// Responds that there are too many connections, unless too many such responses are pending.
    pub(crate) fn refuse(&self, stream: TcpStream) {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            tokio::spawn(async move {
                respond(stream, REFUSAL_TIMEOUT).await;
                drop(permit);
            });
        }
        count_refusal();
        if let Some(refused) = self.refused.count(self.app.clock.uptime()) {
            tracing::warn!(refused, "connections are refused: `connections_max` are open");
        }
    }

    /// Makes sure that a descriptor is kept in reserve. Another thread of the process may have been faster when
    /// the last one was used.
    pub(crate) fn has_spare(&mut self) -> bool {
        if self.spare.is_none() {
            self.spare = spare();
        }
        self.spare.is_some()
    }

    /// Refuses a connection that has the last descriptor, which is kept in reserve from then on.
    pub(crate) async fn refuse_last(&mut self, stream: TcpStream) {
        count_refusal();
        respond(stream, LAST_DESCRIPTOR_TIMEOUT).await;
        self.spare = spare();
    }

    /// Handles a failed accept. If the process has no file descriptor left, one connection is refused.
    pub(crate) async fn accept_failed(&mut self, listener: &TcpListener, error: io::Error) {
        // The client is gone.
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused
        ) {
            return;
        }
        let had_spare = self.spare.take().is_some();
        let accepted = if had_spare { listener.accept().now_or_never() } else { None };
        let is_refused = if let Some(Ok((stream, _))) = accepted {
            self.refuse_last(stream).await;
            true
        } else {
            self.spare = spare();
            false
        };
        if let Some(failures) = self.failed.count(self.app.clock.uptime()) {
            tracing::warn!(
                %error,
                failures,
                "connections cannot be accepted; raise the limit of open files if they are too many"
            );
        }
        if !is_refused {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn count_refusal() {
    metrics::counter!("vaultsync_connections_refused_total").increment(1);
}

/// Sends the response and closes the connection.
async fn respond(mut stream: TcpStream, timeout: Duration) {
    const BODY: &str = concat!(
        r#"{"error":"The server has too many connections. Retry after the time in Retry-After.","#,
        r#""code":"unavailable","requestId":"unassigned"}"#,
    );
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nCache-Control: no-store\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
        BODY.len(),
    );
    let send = async {
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing a connection while a request arrives resets it, and the reset may overtake the response.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // If the client does not read it in time, nothing else can be done for it.
    let _: Result<io::Result<_>, _> = tokio::time::timeout(timeout, send).await;
}

#[cfg(unix)]
type Spare = std::os::fd::OwnedFd;

/// Another descriptor of standard error, which every process has.
#[cfg(unix)]
fn spare() -> Option<Spare> {
    std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned().ok()
}

/// Other systems have no such limit, so there is always one left.
#[cfg(not(unix))]
type Spare = ();

#[cfg(not(unix))]
fn spare() -> Option<Spare> {
    Some(())
}
