//! A persistent HTTP/1.1 connection: it sends whole requests, and reads the status and the body.
//!
//! A client library would cost as much CPU time as the server that is measured.
//!
//! Not here: the requests.

use std::{fmt, io};

use anyhow::{Context as _, bail, ensure};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Enough for a page of 100 records of 1 KiB, so that it is read in few calls.
const BUFFER_BYTES: usize = 256 * 1024;

/// Length of an error message's excerpt of the body.
const EXCERPT_BYTES: usize = 300;

/// A response with a status other than 200.
#[derive(Debug)]
struct UnexpectedStatus {
    status: [u8; 3],
    /// The head and the beginning of the body.
    excerpt: String,
}

impl std::error::Error for UnexpectedStatus {}

impl fmt::Display for UnexpectedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the response is {}", self.excerpt)
    }
}

/// Whether the same request may succeed later on another connection: the server was overloaded, and may have
/// closed the connection before it had read the whole request.
pub(super) fn is_busy(error: &anyhow::Error) -> bool {
    let response = error.downcast_ref::<UnexpectedStatus>();
    response.map_or_else(|| error.is::<io::Error>(), |response| response.status == *b"503")
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to `HOST:PORT`.
    pub(crate) async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request, and returns the body of the response.
    ///
    /// # Errors
    ///
    /// If the status is not 200: a run with any other response measures nothing.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            self.read().await?;
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let status = *self.buffer[9..].first_chunk().context("the response has no status")?;
        if status != *b"200" {
            let end = self.buffer.len().min(head + EXCERPT_BYTES);
            let excerpt = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            bail!(UnexpectedStatus { status, excerpt });
        }
        let whole = head + content_length(&self.buffer[..head])?;
        self.buffer.reserve(whole.saturating_sub(self.buffer.len()));
        while self.buffer.len() < whole {
            self.read().await?;
        }
        ensure!(self.buffer.len() == whole, "the response is longer than its content-length");
        Ok(&self.buffer[head..])
    }

    async fn read(&mut self) -> io::Result<()> {
        if self.buffer.capacity() == self.buffer.len() {
            self.buffer.reserve(BUFFER_BYTES);
        }
        let count = self.stream.read_buf(&mut self.buffer).await?;
        if count == 0 {
            let message = "the server closed the connection";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        Ok(())
    }
}

fn content_length(head: &[u8]) -> anyhow::Result<usize> {
    const NAME: &str = "content-length:";
    let head = std::str::from_utf8(head)?;
    let line = head
        .lines()
        .find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)));
    let length = line.context("the response has no content-length")?;
    Ok(length[NAME.len()..].trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_length_is_found_in_any_case() {
        for name in ["content-length: 42", "Content-Length:42", "CONTENT-LENGTH:  42 "] {
            let head = format!("HTTP/1.1 200 OK\r\ndate: x\r\n{name}\r\n\r\n");
            assert_eq!(content_length(head.as_bytes()).unwrap(), 42, "{name}");
        }
        assert!(content_length(b"HTTP/1.1 200 OK\r\nx-content-length: 1\r\n\r\n").is_err());
    }
}
