//! HTTP/1.1 on a connection that is kept: whole requests out, the status and the body in.
//!
//! Not here: what is asked. A client library would cost as much as the server that is measured.

use std::{fmt, io};

use anyhow::{Context as _, bail, ensure};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Room for a page of 100 records of 1 KiB, so that it is read in few calls.
const BUFFER_BYTES: usize = 256 * 1024;

/// How much of the body of a failure is shown.
const SHOWN_BYTES: usize = 300;

/// An answer other than 200.
#[derive(Debug)]
struct Refused {
    status: [u8; 3],
    /// Its head, and the beginning of its body.
    shown: String,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered {}", self.shown)
    }
}

/// Whether the same request may be answered on another connection, later: the server had too much to do, or
/// would not read all of it for that.
pub(super) fn is_busy(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.map_or_else(|| error.is::<io::Error>(), |refused| refused.status == *b"503")
}

/// One connection.
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
            .with_context(|| format!("{address} cannot be connected to"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request and gives the body of the answer.
    ///
    /// # Errors
    ///
    /// Where the status is not 200: a run in which anything else was answered measures nothing.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            self.read().await?;
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let status = *self.buffer[9..].first_chunk().context("an answer without a status")?;
        if status != *b"200" {
            let end = self.buffer.len().min(head + SHOWN_BYTES);
            let shown = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            bail!(Refused { status, shown });
        }
        let whole = head + content_length(&self.buffer[..head])?;
        self.buffer.reserve(whole.saturating_sub(self.buffer.len()));
        while self.buffer.len() < whole {
            self.read().await?;
        }
        ensure!(self.buffer.len() == whole, "an answer longer than it says");
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
    let length = line.context("an answer that does not say how long it is")?;
    Ok(length[NAME.len()..].trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_found_however_its_name_is_written() {
        for name in ["content-length: 42", "Content-Length:42", "CONTENT-LENGTH:  42 "] {
            let head = format!("HTTP/1.1 200 OK\r\ndate: x\r\n{name}\r\n\r\n");
            assert_eq!(content_length(head.as_bytes()).unwrap(), 42, "{name}");
        }
        assert!(content_length(b"HTTP/1.1 200 OK\r\nx-content-length: 1\r\n\r\n").is_err());
    }
}
