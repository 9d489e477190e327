//! A connection that does not let the other end keep it for nothing.
//!
//! hyper has one deadline for headers, which also runs while a connection idles, and none for a
//! client that does not read. So the deadlines stand below it, on the bytes themselves: an expired
//! one is an I/O error, and hyper closes.

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

/// How long a connection is read from after an answer that did not wait for its request's end.
///
/// To close while bytes arrive is to reset the connection, and a reset may overtake the answer:
/// the client would see a broken connection and not learn that, say, its token has expired.
const LINGER: Duration = Duration::from_secs(2);

/// What the other end is expected to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Send a first byte.
    Silent,
    /// Finish the headers it has begun.
    Headers,
    /// Nothing: a request is being served. Its body has a deadline of its own.
    Served,
    /// Take the answer, of which hyper has the last part. Writes have a deadline of their own.
    Answered,
    /// Send another request, or close.
    Idle,
}

/// Where a connection stands, known to the bytes below hyper and to the service above it.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    phase: AtomicU8,
    /// Whether a request was answered whose body had not come to its end.
    body_left: AtomicBool,
    /// Whether it was too long for hyper to read past it, so that the connection ends.
    long_body_left: AtomicBool,
}

impl Progress {
    fn new() -> Self {
        let phase = AtomicU8::new(Phase::Silent as u8);
        let [body_left, long_body_left] = [false, false].map(AtomicBool::new);
        Self(Arc::new(Shared { phase, body_left, long_body_left }))
    }

    /// Notes that headers are complete. What it returns notes, when dropped, that hyper has the
    /// whole answer.
    pub(crate) fn serve(&self) -> Serving {
        self.set(Phase::Served);
        Serving(self.clone())
    }

    /// Whether the connection ends because a body was not read to its end.
    pub(crate) fn ends(&self) -> bool {
        self.0.long_body_left.load(Ordering::Relaxed)
    }

    /// Watches whether a request's body is read to its end.
    pub(crate) const fn watch<B: Body>(self, body: B) -> Watched<B> {
        Watched { body, ended: false, progress: self }
    }

    fn set(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn get(&self) -> Phase {
        let phases = [Phase::Silent, Phase::Headers, Phase::Served, Phase::Answered, Phase::Idle];
        phases[usize::from(self.0.phase.load(Ordering::Relaxed))]
    }
}

/// A request that is being served.
pub(crate) struct Serving(Progress);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.set(Phase::Answered);
    }
}

/// How long the rest of a body may be for hyper to read past it: it tries once, and what is short
/// has most often come with the headers.
const SKIPPED_BYTES_MAX: u64 = 4096;

/// A request's body, and whether all of it was read.
pub(crate) struct Watched<B: Body> {
    body: B,
    /// Of a chunked body hyper tells it only once.
    ended: bool,
    progress: Progress,
}

impl<B: Body + Unpin> Body for Watched<B> {
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

impl<B: Body> Drop for Watched<B> {
    fn drop(&mut self) {
        if !self.ended && !self.body.is_end_stream() {
            self.progress.0.body_left.store(true, Ordering::Relaxed);
            let left = self.body.size_hint().upper();
            if left.is_none_or(|bytes| bytes > SKIPPED_BYTES_MAX) {
                self.progress.0.long_body_left.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// A TCP connection with deadlines.
pub(crate) struct Connection {
    stream: TcpStream,
    progress: Progress,
    /// When reading fails, in the phases that wait for the other end.
    read_deadline: Pin<Box<Sleep>>,
    /// When writing fails; set while a write makes no progress.
    write_deadline: Option<Pin<Box<Sleep>>>,
    /// Whether hyper may hold bytes of a request that it has not looked at.
    ///
    /// While it serves a request whose body is complete, hyper reads only if it holds no bytes: so
    /// a read that then finds nothing says that it holds none, and no such read says that it does.
    ahead: bool,
    /// Whether the writing half is closed.
    shut: bool,
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
            first_byte: limits.first_byte_timeout,
            headers: limits.header_timeout,
            idle: limits.idle_timeout,
            write_stall: limits.write_stall_timeout,
        };
        Self {
            stream,
            progress: Progress::new(),
            read_deadline: Box::pin(tokio::time::sleep(timeouts.first_byte)),
            write_deadline: None,
            ahead: false,
            shut: false,
            timeouts,
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Waits for the other end from now on, for as long as `phase` may take.
    fn begin(&mut self, phase: Phase) {
        let timeout = match phase {
            Phase::Silent => self.timeouts.first_byte,
            Phase::Headers => self.timeouts.headers,
            Phase::Idle => self.timeouts.idle,
            Phase::Served | Phase::Answered => return,
        };
        self.progress.set(phase);
        self.read_deadline.as_mut().reset(Instant::now() + timeout);
    }

    /// Fails once the current phase has lasted too long.
    fn check_read_deadline(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.progress.get() {
            Phase::Served | Phase::Answered => Ok(()),
            Phase::Silent | Phase::Headers | Phase::Idle => {
                match self.read_deadline.as_mut().poll(cx) {
                    Poll::Ready(()) => Err(timed_out()),
                    Poll::Pending => Ok(()),
                }
            }
        }
    }

    /// Passes a write's progress on, and fails where there has been none for too long.
    fn watch_write<T>(
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

    /// Takes what still arrives, to no end but that the answer is read.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scrap = [0; 4096];
        while self.read_deadline.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the other end is too slow")
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Before the read too: a client that sends its headers one by one is never pending for long.
        self.check_read_deadline(cx)?;
        let filled = buf.filled().len();
        let phase = self.progress.get();
        if Pin::new(&mut self.stream).poll_read(cx, buf)?.is_pending() {
            if matches!(phase, Phase::Served | Phase::Answered) {
                self.ahead = false;
            }
            return Poll::Pending;
        }
        if buf.filled().len() > filled {
            self.ahead = true;
            if matches!(phase, Phase::Silent | Phase::Idle) {
                self.begin(Phase::Headers);
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
        self.watch_write(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch_write(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes once it has written all it holds.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.get() == Phase::Answered && !self.shut {
            let next = if self.ahead { Phase::Headers } else { Phase::Idle };
            self.begin(next);
            // hyper may not read before bytes arrive, so the deadline has to wake it.
            let _ = self.read_deadline.as_mut().poll(cx);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.shut = true;
            self.read_deadline.as_mut().reset(Instant::now() + LINGER);
        }
        if self.progress.0.body_left.load(Ordering::Relaxed) {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
