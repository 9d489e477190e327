//! A client that sends exactly the bytes that a test gives it.

use std::{io, net::SocketAddr, time::Duration};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::Instant,
};

use crate::{Answer, TestServer};

/// How long a test waits for bytes: longer than any deadline that a test sets, even on a busy machine.
const READ_MAX: Duration = Duration::from_secs(30);

/// One TCP connection.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    read: Vec<u8>,
}

impl RawClient {
    /// Connects to a server.
    pub async fn connect(server: &TestServer) -> Self {
        Self::try_connect(server.address).await.expect("a connection")
    }

    /// Connects to an address.
    ///
    /// # Errors
    ///
    /// If nothing listens there.
    pub async fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::connect(address).await?, read: Vec::new() })
    }

    /// Connects with a receive buffer of a few KiB, so that the server soon has to wait for this client to
    /// read.
    pub async fn connect_narrow(server: &TestServer) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let stream = socket.connect(server.address).await.expect("a connection");
        Self { stream, read: Vec::new() }
    }

    /// Sends bytes; fails the test if the connection is closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("an open connection");
    }

    /// Sends bytes.
    ///
    /// # Errors
    ///
    /// If the connection is closed.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Sends `GET path`, with a token if given.
    pub async fn get(&mut self, path: &str, token: Option<&str>) {
        self.send(get(path, token)).await;
    }

    /// Closes the sending half.
    pub async fn finish_sending(&mut self) {
        self.stream.shutdown().await.expect("an open connection");
    }

    /// Reads one whole response; fails the test if there is none.
    pub async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("a response")
    }

    /// Reads one whole response; `None` if the connection ends before it does.
    pub async fn try_answer(&mut self) -> Option<Answer> {
        let head_end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more().await?;
        };
        let head: Vec<u8> = self.read.drain(..head_end).collect();
        let (status, headers) = parse_head(&String::from_utf8(head).expect("a head in UTF-8"));
        let length = headers.get("content-length").map_or(0, |value| {
            value.to_str().expect("a length").parse().expect("a length in digits")
        });
        while self.read.len() < length {
            self.read_more().await?;
        }
        let body = self.read.drain(..length).collect();
        Some(Answer { status, headers, text: String::from_utf8(body).expect("a body in UTF-8") })
    }

    /// Reads at most `bytes` bytes; `None` at the end of the connection.
    pub async fn read_some(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let mut buf = vec![0; bytes];
        match self.stream.read(&mut buf).await {
            Ok(0) | Err(_) => None,
            Ok(count) => {
                buf.truncate(count);
                Some(buf)
            }
        }
    }

    /// Returns how long the server takes to close or reset the connection. Bytes that arrive before are
    /// discarded. Fails the test if the connection stays open.
    #[track_caller]
    pub fn closed(mut self) -> impl Future<Output = Duration> {
        let started = Instant::now();
        async move {
            let end = async { while self.read_some(64 * 1024).await.is_some() {} };
            tokio::time::timeout(READ_MAX, end).await.expect("the server closes the connection");
            started.elapsed()
        }
    }

    async fn read_more(&mut self) -> Option<()> {
        let reading = self.read_some(64 * 1024);
        let more = tokio::time::timeout(READ_MAX, reading)
            .await
            .expect("bytes or the end of the connection")?;
        self.read.extend(more);
        Some(())
    }
}

/// A GET request.
fn get(path: &str, token: Option<&str>) -> String {
    let authorization =
        token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n{authorization}\r\n")
}

fn parse_head(head: &str) -> (u16, HeaderMap) {
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        headers.append(
            name.parse::<HeaderName>().expect("a header's name"),
            value.trim().parse::<HeaderValue>().expect("a header's value"),
        );
    }
    (status.parse().expect("a status"), headers)
}
