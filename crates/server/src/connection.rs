//! TCP connections with deadlines, so that no client keeps one without using it.
//!
//! hyper has one deadline for headers, which also runs while a connection is idle, and none for a
//! client that does not read. Therefore the deadlines are below hyper, on the bytes: when one
//! expires, hyper gets an I/O error and closes the connection.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

use crate::Limits;

/// Time for which input is read and discarded after a response that was sent before its request was
/// complete.
///
/// Closing a connection while bytes arrive resets it, and the reset may overtake the response. The
/// client would see a broken connection, and not that, say, its token has expired.
const LINGER: Duration = Duration::from_secs(2);

/// What the client is expected to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Send the first byte.
    Connected,
    /// Complete the headers that it has begun to send.
    Headers,
    /// Nothing, because a request is being served. The request's body has its own deadline.
    Serving,
    /// Read the response, of which hyper has the last part. Writes have their own deadline.
    Responded,
    /// Send another request, or close.
    Idle,
}

/// Progress of a connection, shared by the stream below hyper and the service above it.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    phase: AtomicU8,
    /// Whether a response was sent before its request's body was read to the end.
    body_unread: AtomicBool,
    /// Whether the rest of that body is too long for hyper to skip, so that the connection closes.
    long_body_unread: AtomicBool,
}

impl Progress {
    fn new() -> Self {
        let phase = AtomicU8::new(Phase::Connected as u8);
        let [body_unread, long_body_unread] = [false, false].map(AtomicBool::new);
        Self(Arc::new(Shared { phase, body_unread, long_body_unread }))
    }

    /// Starts serving a request whose headers are complete. Drop the guard once hyper has the whole
    /// response.
    pub(crate) fn serve(&self) -> ServingGuard {
        self.set(Phase::Serving);
        ServingGuard(self.clone())
    }

    /// Whether the connection will close because a body was not read to its end.
    pub(crate) fn will_close(&self) -> bool {
        self.0.long_body_unread.load(Ordering::Relaxed)
    }

    /// Tracks whether a request's body is read to its end.
    pub(crate) const fn track<B: Body>(self, body: B) -> TrackedBody<B> {
        TrackedBody { body, ended: false, progress: self }
    }

    fn set(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn get(&self) -> Phase {
        const PHASES: [Phase; 5] =
            [Phase::Connected, Phase::Headers, Phase::Serving, Phase::Responded, Phase::Idle];
        PHASES[usize::from(self.0.phase.load(Ordering::Relaxed))]
    }
}

/// A guard that lives while a request is being served.
pub(crate) struct ServingGuard(Progress);

impl Drop for ServingGuard {
    fn drop(&mut self) {
        self.0.set(Phase::Responded);
    }
}

/// Longest rest of a body that hyper is expected to skip. It tries to read the rest once, and a short
/// one has usually arrived with the headers.
const SKIPPED_BYTES_MAX: u64 = 4096;

/// A request's body that records whether all of it was read.
pub(crate) struct TrackedBody<B: Body> {
    body: B,
    /// Kept here because hyper reports the end of a chunked body only once.
    ended: bool,
    progress: Progress,
}

impl<B: Body + Unpin> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.ended |= frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> Drop for TrackedBody<B> {
    fn drop(&mut self) {
        if !self.ended && !self.body.is_end_stream() {
            self.progress.0.body_unread.store(true, Ordering::Relaxed);
            let rest = self.body.size_hint().upper();
            if rest.is_none_or(|bytes| bytes > SKIPPED_BYTES_MAX) {
                self.progress.0.long_body_unread.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// A TCP connection with deadlines.
pub(crate) struct Connection {
    stream: TcpStream,
    progress: Progress,
    /// When reading fails, in the phases that wait for the client.
    read_deadline: Pin<Box<Sleep>>,
    /// When writing fails. Set while a write makes no progress.
    write_deadline: Option<Pin<Box<Sleep>>>,
    /// Whether hyper may have buffered bytes of the next request.
    ///
    /// While hyper serves a request whose body is complete, it reads only if its buffer is empty. A
    /// read that then finds nothing shows that the buffer is empty; without such a read it may not
    /// be.
    may_have_input: bool,
    /// Whether the write half is shut down.
    is_shut_down: bool,
    timeouts: Timeouts,
}

#[derive(Clone, Copy)]
struct Timeouts {
    first_byte: Duration,
    headers: Duration,
    idle: Duration,
    write_stall: Duration,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, limits: &Limits) -> Self {
        let timeouts = Timeouts {
            first_byte: limits.first_byte_seconds,
            headers: limits.header_seconds,
            idle: limits.idle_seconds,
            write_stall: limits.write_stall_seconds,
        };
        Self {
            stream,
            progress: Progress::new(),
            read_deadline: Box::pin(tokio::time::sleep(timeouts.first_byte)),
            write_deadline: None,
            may_have_input: false,
            is_shut_down: false,
            timeouts,
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Enters a phase that waits for the client, and starts its deadline.
    fn enter(&mut self, phase: Phase) {
        let timeout = match phase {
            Phase::Connected => self.timeouts.first_byte,
            Phase::Headers => self.timeouts.headers,
            Phase::Idle => self.timeouts.idle,
            Phase::Serving | Phase::Responded => return,
        };
        self.progress.set(phase);
        self.read_deadline.as_mut().reset(Instant::now() + timeout);
    }

    /// Fails if the deadline of the current phase has passed.
    fn check_read_deadline(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.progress.get() {
            Phase::Serving | Phase::Responded => Ok(()),
            Phase::Connected | Phase::Headers | Phase::Idle => {
                match self.read_deadline.as_mut().poll(cx) {
                    Poll::Ready(()) => Err(timed_out()),
                    Poll::Pending => Ok(()),
                }
            }
        }
    }

    /// Returns the result of a write, or fails if writes have made no progress for too long.
    fn check_write_deadline<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_deadline = None;
            return written;
        }
        let stall = self.timeouts.write_stall;
        let deadline =
            self.write_deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(timed_out()))
    }

    /// Reads and discards input, so that the client can read the response.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut discarded = [0; 4096];
        while self.read_deadline.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut discarded);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client missed a deadline")
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Checked before the read, because a client that sends its headers byte by byte never leaves
        // a read pending for long.
        self.check_read_deadline(cx)?;
        let filled = buf.filled().len();
        let phase = self.progress.get();
        if Pin::new(&mut self.stream).poll_read(cx, buf)?.is_pending() {
            if matches!(phase, Phase::Serving | Phase::Responded) {
                self.may_have_input = false;
            }
            return Poll::Pending;
        }
        if buf.filled().len() > filled {
            self.may_have_input = true;
            if matches!(phase, Phase::Connected | Phase::Idle) {
                self.enter(Phase::Headers);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.check_write_deadline(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.check_write_deadline(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes after it has written its whole buffer.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.get() == Phase::Responded && !self.is_shut_down {
            let next = if self.may_have_input { Phase::Headers } else { Phase::Idle };
            self.enter(next);
            // hyper may not read again before bytes arrive, so the deadline must wake it.
            let _ = self.read_deadline.as_mut().poll(cx);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut_down {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.is_shut_down = true;
            self.read_deadline.as_mut().reset(Instant::now() + LINGER);
        }
        if self.progress.0.body_unread.load(Ordering::Relaxed) {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
