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
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

use crate::Limits;

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
    /// Send another request, or close.
    Idle,
}

/// Where a connection stands, known to the bytes below hyper and to the service above it.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<AtomicU8>);

impl Progress {
    fn new() -> Self {
        Self(Arc::new(AtomicU8::new(Phase::Silent as u8)))
    }

    /// Notes that headers are complete. What it returns notes, when dropped, that the answer is
    /// written.
    pub(crate) fn serve(&self) -> Serving {
        self.set(Phase::Served);
        Serving(self.clone())
    }

    fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    fn get(&self) -> Phase {
        let phases = [Phase::Silent, Phase::Headers, Phase::Served, Phase::Idle];
        phases[usize::from(self.0.load(Ordering::Relaxed))]
    }
}

/// A request that is being served.
pub(crate) struct Serving(Progress);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.set(Phase::Idle);
    }
}

/// A TCP connection with deadlines.
pub(crate) struct Connection {
    stream: TcpStream,
    progress: Progress,
    /// When reading fails, in the phase it was set for.
    read_deadline: Pin<Box<Sleep>>,
    read_deadline_for: Phase,
    /// When writing fails; set while a write makes no progress.
    write_deadline: Option<Pin<Box<Sleep>>>,
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
            read_deadline_for: Phase::Silent,
            write_deadline: None,
            timeouts,
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Fails once the current phase has lasted too long.
    fn check_read_deadline(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let phase = self.progress.get();
        let timeout = match phase {
            Phase::Silent => self.timeouts.first_byte,
            Phase::Headers => self.timeouts.headers,
            Phase::Idle => self.timeouts.idle,
            Phase::Served => return Ok(()),
        };
        if self.read_deadline_for != phase {
            self.read_deadline_for = phase;
            self.read_deadline.as_mut().reset(Instant::now() + timeout);
        }
        match self.read_deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(timed_out()),
            Poll::Pending => Ok(()),
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
        if Pin::new(&mut self.stream).poll_read(cx, buf)?.is_ready() {
            if buf.filled().len() > filled && self.progress.get() != Phase::Served {
                self.progress.set(Phase::Headers);
            }
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
