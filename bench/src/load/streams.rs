//! Event streams that are held open and have nothing to tell.

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
};

/// Opens a stream with each token; each lives as long as its connection is kept.
pub(crate) fn open_streams(
    runtime: &Runtime,
    host: &str,
    tokens: Vec<String>,
) -> anyhow::Result<Vec<TcpStream>> {
    runtime.block_on(async {
        let mut open = Vec::with_capacity(tokens.len());
        for token in tokens {
            let stream = TcpStream::connect(host).await;
            let mut stream = stream.context("is the limit of open files high enough?")?;
            let request = format!(
                "GET /api/sync/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await?;
            let mut status = [0; 12];
            stream.read_exact(&mut status).await?;
            ensure!(&status[9..] == b"200", "a stream that is refused");
            open.push(stream);
        }
        Ok(open)
    })
}
