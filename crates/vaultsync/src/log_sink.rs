//! Where the thread of the log writes to. No error leaves it: a log that cannot be written is lost.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// How much is written at once if many lines wait.
const BUFFER_BYTES: usize = 64 * 1024;

/// Pause before a destination that would block is tried again. Another process that shares a terminal or
/// pipe may have made it non-blocking.
const WOULD_BLOCK_PAUSE: Duration = Duration::from_millis(10);

/// Standard error, by a descriptor of its own: a writer that blocks would keep the lock of the standard
/// library's handle, and any code that prints would block too.
#[cfg(unix)]
pub(crate) fn stderr() -> io::Result<std::fs::File> {
    std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned().map(std::fs::File::from)
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail on other systems")]
pub(crate) fn stderr() -> io::Result<io::Stderr> {
    Ok(io::stderr())
}

/// A destination of lines, which are buffered until the flush after the last one that waits.
pub(crate) struct LogSink<W> {
    out: W,
    buffer: Vec<u8>,
    /// Lines that could not be written.
    failed: Arc<AtomicU64>,
}

impl<W: Write> LogSink<W> {
    pub(crate) fn new(out: W, failed: Arc<AtomicU64>) -> Self {
        Self { out, buffer: Vec::new(), failed }
    }

    /// Writes the buffer, and returns how much of it was written.
    fn write_buffer(&mut self) -> usize {
        let mut written = 0;
        while written < self.buffer.len() {
            match self.out.write(&self.buffer[written..]) {
                Ok(0) => break,
                Ok(bytes) => written += bytes,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => thread::sleep(WOULD_BLOCK_PAUSE),
                    _ => break,
                },
            }
        }
        written
    }
}

impl<W: Write> Write for LogSink<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(line);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.write_buffer();
        let lost = self.buffer[written..].split_inclusive(|byte| *byte == b'\n').count() as u64;
        self.failed.fetch_add(lost, Ordering::Relaxed);
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A destination that follows a script, write by write, and then takes everything.
    struct Scripted {
        script: Vec<io::Result<usize>>,
        taken: Vec<u8>,
    }

    impl Write for &mut Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let next = if self.script.is_empty() { Ok(bytes.len()) } else { self.script.remove(0) };
            let count = next?.min(bytes.len());
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes two lines and flushes, then a third one. Returns what arrived, and how many lines were lost.
    fn write_three(script: Vec<io::Result<usize>>) -> (String, u64) {
        let mut out = Scripted { script, taken: Vec::new() };
        let failed = Arc::default();
        let mut sink = LogSink::new(&mut out, Arc::clone(&failed));
        sink.write_all(b"one\n").unwrap();
        sink.write_all(b"two\n").unwrap();
        sink.flush().unwrap();
        sink.write_all(b"three\n").unwrap();
        sink.flush().unwrap();
        (String::from_utf8(out.taken).unwrap(), failed.load(Ordering::Relaxed))
    }

    #[test]
    fn lines_are_written_whatever_the_pieces() {
        let blocks = || Err(io::ErrorKind::WouldBlock.into());
        let interrupted = Err(io::ErrorKind::Interrupted.into());
        assert_eq!(
            write_three(vec![Ok(1), blocks(), Ok(3), interrupted, blocks()]),
            ("one\ntwo\nthree\n".to_owned(), 0)
        );
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_later_ones_are_written() {
        for error in [io::ErrorKind::BrokenPipe, io::ErrorKind::StorageFull] {
            assert_eq!(write_three(vec![Err(error.into())]), ("three\n".to_owned(), 2));
        }
        let after_one = vec![Ok(4), Err(io::ErrorKind::StorageFull.into())];
        assert_eq!(write_three(after_one), ("one\nthree\n".to_owned(), 1));
        assert_eq!(write_three(vec![Ok(0)]), ("three\n".to_owned(), 2));
    }
}
