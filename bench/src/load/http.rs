//! HTTP/1.1 on a connection that is kept: whole requests out, the status and the body in.
//!
//! Not here: what is asked. A client library would cost as much as the server that is measured.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Room for a page of 100 records of 1 KiB, so that it is read in few calls.
const BUFFER_BYTES: usize = 256 * 1024;

/// How often a request is made that is answered with 503, and the pause before the next time.
const ATTEMPTS: usize = 240;
const PAUSE: Duration = Duration::from_millis(250);

/// How much of the body of a failure is shown.
const SHOWN_BYTES: usize = 300;

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
        let head = self.ask(request).await?;
        self.body(head)
    }

    /// As [`exchange`](Self::exchange), but asks again where the server is too busy. It is for what is
    /// not measured: a stalled disk is no reason to give up what took minutes to fill.
    pub(crate) async fn insist(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        let mut head = self.ask(request).await?;
        for _ in 1..ATTEMPTS {
            if self.status() != b"503" {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            head = self.ask(request).await?;
        }
        self.body(head)
    }

    /// Sends a request and reads the whole answer; how long its head is.
    async fn ask(&mut self, request: &[u8]) -> anyhow::Result<usize> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            self.read().await?;
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
        };
        let whole = head + content_length(&self.buffer[..head])?;
        self.buffer.reserve(whole.saturating_sub(self.buffer.len()));
        while self.buffer.len() < whole {
            self.read().await?;
        }
        ensure!(self.buffer.len() == whole, "an answer longer than it says");
        Ok(head)
    }

    fn status(&self) -> &[u8] {
        self.buffer.get(9..12).unwrap_or_default()
    }

    /// The body of the last answer, whose head is that long.
    fn body(&self, head: usize) -> anyhow::Result<&[u8]> {
        let shown = &self.buffer[..self.buffer.len().min(head + SHOWN_BYTES)];
        ensure!(self.status() == b"200", "answered {}", String::from_utf8_lossy(shown));
        Ok(&self.buffer[head..])
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        if self.buffer.capacity() == self.buffer.len() {
            self.buffer.reserve(BUFFER_BYTES);
        }
        let count = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(count > 0, "the server closed the connection");
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

    #[tokio::test]
    async fn a_busy_server_is_asked_again_only_where_nothing_is_measured() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in ["503 Service Unavailable", "503 Service Unavailable", "200 OK"] {
                let mut request = [0; 4];
                stream.read_exact(&mut request).await.unwrap();
                assert_eq!(&request, b"push");
                let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 4\r\n\r\nbody");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let mut connection = Connection::open(&address).await.unwrap();
        let refused = connection.exchange(b"push").await.unwrap_err();
        assert!(refused.to_string().starts_with("answered HTTP/1.1 503"), "{refused}");
        assert_eq!(connection.insist(b"push").await.unwrap(), b"body");
    }
}
