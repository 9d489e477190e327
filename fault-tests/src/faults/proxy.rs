//! A line to a server that loses answers: the request arrives, and what the server says to it does
//! not.

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

/// The line. It ends when dropped.
#[derive(Debug)]
pub struct LossyLine {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether the next answer is to be lost.
    loses: AtomicBool,
    lost: AtomicU64,
}

impl LossyLine {
    /// A line to a server on this machine.
    pub async fn to(port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let lines = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&lines);
                tokio::spawn(async move {
                    // Whoever breaks it off ends the connection, which is all there is to do.
                    let _ = carry(client, port, &shared).await;
                });
            }
        });
        Ok(Self { address, shared, accepting })
    }

    /// Its address, as clients take it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next answer is lost when its first bytes come from the server, and the connection ends.
    pub fn lose_next(&self) {
        self.shared.loses.store(true, Ordering::SeqCst);
    }

    /// How many were lost.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Drop for LossyLine {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(mut client: TcpStream, port: u16, shared: &Shared) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let back = async {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let read = from_server.read(&mut bytes).await?;
            if read == 0 {
                return std::io::Result::Ok(());
            }
            if shared.loses.swap(false, Ordering::SeqCst) {
                shared.lost.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            to_client.write_all(&bytes[..read]).await?;
        }
    };
    tokio::select! {
        forth = copy(&mut from_client, &mut to_server) => forth.map(drop),
        ended = back => ended,
    }
}
