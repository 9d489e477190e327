//! Idle event streams.

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
};

/// Opens one event stream per token. A stream stays open as long as its connection.
pub(crate) fn open_event_streams(
    runtime: &Runtime,
    host: &str,
    tokens: Vec<String>,
) -> anyhow::Result<Vec<TcpStream>> {
    runtime.block_on(async {
        let mut open = Vec::with_capacity(tokens.len());
        for token in tokens {
            let stream = TcpStream::connect(host).await;
            let mut stream = stream.context("cannot connect; the limit of open files may be too low")?;
            let request = format!(
                "GET /api/sync/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await?;
            let mut status = [0; 12];
            stream.read_exact(&mut status).await?;
            ensure!(&status[9..] == b"200", "the server refused an event stream");
            open.push(stream);
        }
        Ok(open)
    })
}
