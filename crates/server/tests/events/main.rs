//! Event streams through a real socket: what `docs/PROTOCOL.md` promises of them.
//!
//! Not here: a hint that is lost, which takes a store that tells none (`src/events.rs`), and numbers
//! (`metrics`).

mod ending;
mod places;
mod stream;
mod telling;
mod wire;

use std::time::Duration;

use serde_json::Value;
use vaultsync_testkit::{TestServer, push_of};

/// The one user of most tests: each has a server of its own.
const USER: &str = "ada";

/// Long enough for anything that happens at once, on a machine that is busy, and less than it takes
/// a stream to read again without a hint.
const SOON: Duration = Duration::from_secs(20);

/// Pushes as `user`, fails the test unless all of it is applied, and answers the head after it.
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

/// Lets that much time pass at once for all that sleeps.
async fn let_pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
