//! A proxy that loses responses: the request reaches the server, but the response does not come back.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The proxy. It stops when dropped.
#[derive(Debug)]
pub struct LossyProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether the next response is to be lost.
    loses_next: AtomicBool,
    lost: AtomicU64,
}

impl LossyProxy {
    /// Starts a proxy for a server on this machine.
    pub async fn start(server_port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let for_connections = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&for_connections);
                tokio::spawn(async move {
                    // An error on either side ends the connection, and needs no other handling.
                    let _ = forward(client, server_port, &shared).await;
                });
            }
        });
        Ok(Self { address, shared, accepting })
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Loses the next response: when its first bytes arrive from the server, the connection is closed.
    pub fn lose_next(&self) {
        self.shared.loses_next.store(true, Ordering::SeqCst);
    }

    /// Number of lost responses.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Drop for LossyProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(mut client: TcpStream, server_port: u16, shared: &Shared) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server_port)).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let responses = async {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let read = from_server.read(&mut bytes).await?;
            if read == 0 {
                return std::io::Result::Ok(());
            }
            if shared.loses_next.swap(false, Ordering::SeqCst) {
                shared.lost.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            to_client.write_all(&bytes[..read]).await?;
        }
    };
    tokio::select! {
        sent = copy(&mut from_client, &mut to_server) => sent.map(drop),
        ended = responses => ended,
    }
}
