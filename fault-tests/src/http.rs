//! Requests whose bytes a scenario chooses, each on a connection of its own.
//!
//! Not here: clients that follow the protocol (`workload.rs`).

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

/// The head of a request with a token, to which headers and the empty line are added.
pub fn head(method: &str, target: &str, token: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n")
}

/// Sends a request without a body. Returns the status, and the time until the whole response was read.
pub async fn get(
    address: SocketAddr,
    target: &str,
    token: &str,
) -> anyhow::Result<(u16, Duration)> {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).await?;
    let request = head("GET", target, token) + "connection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    Ok((read_status(&mut stream).await?, started.elapsed()))
}

/// Sends a push in pieces, each after a pause. Returns the status, which may come before the last piece.
pub async fn push_slowly(
    address: SocketAddr,
    token: &str,
    body: &[u8],
    piece: usize,
    pause: Duration,
) -> anyhow::Result<u16> {
    let stream = TcpStream::connect(address).await?;
    let (mut reading, mut writing) = stream.into_split();
    let length = format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let head = head("POST", "/api/sync/push", token) + &length;
    let sending = async {
        writing.write_all(head.as_bytes()).await?;
        for piece in body.chunks(piece) {
            sleep(pause).await;
            writing.write_all(piece).await?;
        }
        std::future::pending::<std::io::Result<()>>().await
    };
    tokio::select! {
        status = read_status(&mut reading) => status,
        sent = sending => Err(sent.err().context("it never ends otherwise")?.into()),
    }
}

/// Sends a request, reads the beginning of the response, and closes the connection.
pub async fn close_unread(address: SocketAddr, request: &str) -> anyhow::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut beginning = [0; 12];
    stream.read_exact(&mut beginning).await?;
    status(&beginning)
}

async fn read_status(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> anyhow::Result<u16> {
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await?;
    status(&response)
}

fn status(response: &[u8]) -> anyhow::Result<u16> {
    let line = response.get(..12).context("there is no response")?;
    let line = std::str::from_utf8(line)?;
    ensure!(line.starts_with("HTTP/1.1 "), "not a response: {line}");
    Ok(line[9..].parse()?)
}
