//! Waits and streams in which nothing happens for longer than the timeouts of proxies.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use tokio::time::{Instant, timeout};

use super::waiting::{EventStream, push};
use crate::deployments::entry::{Entry, send};

/// Above the timeouts of the files in `deploy/` (75 s).
const QUIET: Duration = Duration::from_secs(80);

/// Interval of comments of a stream, and a margin.
const COMMENT_MAX: Duration = Duration::from_secs(20);

/// The longest wait that the server allows ends with an empty page.
pub(super) async fn longest_wait(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("longest wait")?;
    let info = send(device.anonymous(Method::GET, "/api/sync/info")).await?.json(200)?;
    let wait = info["limits"]["waitSecondsMax"].as_u64().context("no limit of waits")?;
    let pull = device.request(Method::GET, &format!("/api/sync/pull?wait={wait}"));
    let began = Instant::now();
    let response = timeout(Duration::from_secs(wait + 10), pull.send()).await;
    let response = response.context("the wait does not end")??;
    let (status, took) = (response.status(), began.elapsed().as_secs());
    ensure!(status == 200, "the pull got {status} after {took} s");
    ensure!(took + 1 >= wait, "the pull returned after {took} s");
    let page: serde_json::Value = serde_json::from_slice(&response.bytes().await?)?;
    ensure!(page["records"] == serde_json::json!([]), "another page was expected: {page}");
    Ok(())
}

/// A stream stays open while it only has comments, and then reports a push.
pub(super) async fn quiet_stream(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("quiet stream")?;
    let mut stream = EventStream::open(&device, "gzip", entry.soon).await?;
    let began = Instant::now();
    while began.elapsed() < QUIET {
        let message = stream.read_message(COMMENT_MAX).await;
        let message = message.with_context(|| format!("after {:?}", began.elapsed()))?;
        ensure!(message == ":", "a comment was expected, and not {message:?}");
    }
    push(&device, 1).await?;
    stream.read_event().await
}
