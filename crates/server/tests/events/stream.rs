//! A client that reads an event stream.

use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::timeout;
use vaultsync_testkit::TestServer;

use crate::SOON;

/// An open stream.
pub(crate) struct Stream {
    response: Response,
    unread: String,
}

impl Stream {
    /// Opens a stream of `user`. Fails the test if it is refused.
    pub(crate) async fn open(server: &TestServer, user: &str) -> Self {
        Self::open_with(server, &server.token(user)).await
    }

    /// Opens a stream with a token. Fails the test if it is refused.
    pub(crate) async fn open_with(server: &TestServer, token: &str) -> Self {
        Self::try_open(server, token)
            .await
            .unwrap_or_else(|status| panic!("the stream is refused with {status}"))
    }

    /// Opens a stream with a token, and reads the comment that it begins with.
    ///
    /// # Errors
    ///
    /// The status of the refusal.
    pub(crate) async fn try_open(server: &TestServer, token: &str) -> Result<Self, u16> {
        Self::try_open_at(server, token, "events").await
    }

    /// As [`Self::open`], at a path and with a query.
    pub(crate) async fn open_at(server: &TestServer, user: &str, path: &str) -> Self {
        Self::try_open_at(server, &server.token(user), path)
            .await
            .unwrap_or_else(|status| panic!("the stream is refused with {status}"))
    }

    /// As [`Self::try_open`], likewise.
    pub(crate) async fn try_open_at(
        server: &TestServer,
        token: &str,
        path: &str,
    ) -> Result<Self, u16> {
        let request = server.request(Method::GET, &format!("/api/sync/{path}")).bearer_auth(token);
        let response = request.send().await.expect("an answer");
        match response.status().as_u16() {
            200 => {
                let mut stream = Self { response, unread: String::new() };
                assert_eq!(stream.part().await.as_deref(), Some(":"), "the first bytes");
                Ok(stream)
            }
            status => Err(status),
        }
    }

    /// A header of the response; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The text up to the next blank line; `None` at the end of the stream. Fails the test if the
    /// connection breaks.
    pub(crate) async fn part(&mut self) -> Option<String> {
        loop {
            if let Some((part, rest)) = self.unread.split_once("\n\n") {
                let part = part.to_owned();
                self.unread = rest.to_string();
                return Some(part);
            }
            let chunk = timeout(SOON, self.response.chunk()).await.expect("more of the stream");
            let Some(chunk) = chunk.expect("the connection does not break") else {
                assert_eq!(self.unread, "", "the stream ends within an event");
                return None;
            };
            self.unread += std::str::from_utf8(&chunk).expect("UTF-8");
        }
    }

    /// The head of the next event. Fails the test if anything else arrives.
    pub(crate) async fn head(&mut self) -> String {
        self.event().await["head"].as_str().expect("a head").to_owned()
    }

    /// The next event. Fails the test if anything else arrives.
    pub(crate) async fn event(&mut self) -> Value {
        let part = self.part().await.expect("an event");
        let data = part.strip_prefix("event: head\ndata: ").filter(|data| !data.contains('\n'));
        let data = data.unwrap_or_else(|| panic!("not an event: {part:?}"));
        serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
    }
}
