//! Responses that come when something happens: waiting pulls, and event streams.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::{Method, Response};
use tokio::time::{Instant, sleep, timeout};
use vaultsync_testkit::{operation, push_of};

use crate::deployments::entry::{Device, Entry, send};

/// Waits of this many seconds are within the limit of every proxy.
const WAIT: &str = "20";

/// A pull that waits returns soon after a push, through whichever node.
pub(super) async fn pulls(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("waiting pulls")?;
    let mut cursor = String::new();
    for (number, node) in entry.nodes.iter().enumerate() {
        let query = format!("/api/sync/pull?wait={WAIT}&cursor={cursor}");
        let waiting = tokio::spawn(send(device.request(Method::GET, &query)));
        // The pull has to arrive first. If it does not, the check is weaker, but does not fail.
        sleep(Duration::from_millis(300)).await;
        ensure!(!waiting.is_finished(), "the pull does not wait");
        push(&device.at(node), number).await?;
        let began = Instant::now();
        let page = waiting.await??.json(200)?;
        ensure!(began.elapsed() < entry.soon, "the pull took {:?} longer", began.elapsed());
        ensure!(page["records"].as_array().map(Vec::len) == Some(1), "another page: {page}");
        page["nextCursor"].as_str().context("no cursor")?.clone_into(&mut cursor);
    }
    Ok(())
}

/// A stream begins at once, and each push is reported soon, through whichever node it came.
pub(super) async fn events(entry: Entry, accept: &str) -> anyhow::Result<()> {
    let device = entry.device(&format!("events {accept}"))?;
    let mut stream = EventStream::open(&device, accept, entry.soon).await?;
    for (number, node) in entry.nodes.iter().enumerate() {
        push(&device.at(node), number).await?;
        stream.read_event().await?;
    }
    Ok(())
}

/// Pushes one record, whose id contains the number.
pub(super) async fn push(device: &Device, number: usize) -> anyhow::Result<()> {
    let push = push_of([operation(&format!("r{number}"), None, b"x")]);
    device.push(&push).await?.json(200)?;
    Ok(())
}

/// An event stream that has begun.
pub(super) struct EventStream {
    response: Response,
    /// What was read and not returned yet.
    read: String,
    soon: Duration,
}

impl EventStream {
    /// Opens a stream of a vault without records, and reads the comment with which it begins: nothing else
    /// brings its headers along.
    pub(super) async fn open(
        device: &Device,
        accept: &str,
        soon: Duration,
    ) -> anyhow::Result<Self> {
        let request = device.request(Method::GET, "/api/sync/events");
        let opening = request.header("accept-encoding", accept).send();
        let response = timeout(soon, opening).await.context("the headers are late")??;
        ensure!(response.status() == 200, "the stream gets {}", response.status());
        let encoding = response.headers().get("content-encoding");
        ensure!(encoding.is_none(), "the stream is compressed: {encoding:?}");
        let mut stream = Self { response, read: String::new(), soon };
        let first = stream.read_message(soon).await.context("the first comment is late")?;
        ensure!(first == ":", "a comment was expected first, and not {first:?}");
        Ok(stream)
    }

    /// Reads an event, which has to come soon. A comment may come before it.
    pub(super) async fn read_event(&mut self) -> anyhow::Result<()> {
        loop {
            let message = self.read_message(self.soon).await.context("the event is late")?;
            if message.starts_with("event: head\ndata: {\"head\":\"") {
                return Ok(());
            }
            ensure!(message == ":", "an event was expected, and not {message:?}");
        }
    }

    /// Reads up to the next empty line.
    pub(super) async fn read_message(&mut self, within: Duration) -> anyhow::Result<String> {
        loop {
            if let Some((message, rest)) = self.read.split_once("\n\n") {
                let (message, rest) = (message.to_owned(), rest.to_owned());
                self.read = rest;
                return Ok(message);
            }
            let chunk = timeout(within, self.response.chunk()).await;
            let chunk = chunk.with_context(|| format!("nothing within {within:?}"))??;
            self.read += std::str::from_utf8(&chunk.context("the stream ends")?)?;
        }
    }
}
