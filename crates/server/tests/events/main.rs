//! Event streams over a real socket, as described in `docs/PROTOCOL.md`.
//!
//! Not here: lost notifications, which need a store that sends none (`src/events.rs`), and metrics
//! (`metrics`).

mod content;
mod ending;
mod limits;
mod several_vaults;
mod stream;
mod wire;

use std::time::Duration;

use serde_json::Value;
use vaultsync_testkit::{TestServer, push_of};

/// The user of most tests. Each test has its own server.
const USER: &str = "ada";

/// Long enough on a busy machine for anything that happens at once, and less than the time after which
/// a stream reads again without a notification.
const SOON: Duration = Duration::from_secs(20);

/// Pushes as `user`, checks that the push is applied, and returns the head after it.
async fn apply(
    server: &TestServer,
    user: &str,
    operations: impl IntoIterator<Item = Value>,
) -> String {
    let answer = server.push(user, &push_of(operations)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    head(server, user).await
}

/// The head of a user's vault.
async fn head(server: &TestServer, user: &str) -> String {
    let page = server.pull(user, "?limit=1").await.json();
    page["head"].as_str().expect("a head").to_owned()
}

/// Advances the time of everything that sleeps.
async fn advance(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
