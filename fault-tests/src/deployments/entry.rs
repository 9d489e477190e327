//! A deployment as clients reach it, and the requests of the checks.
//!
//! Not here: the clients of the load (`workload.rs`).

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use reqwest::{Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;
use vaultsync_testkit::{process::ServerProcess, workload::local_token};

use crate::ScenarioContext;

/// Longer than any response takes that is not held back by a wait.
const RESPONSE_MAX: Duration = Duration::from_secs(30);

/// The base URLs of a deployment.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The one for clients.
    pub(super) url: String,
    /// Those of the nodes, past what is in front of them.
    pub(super) nodes: Vec<String>,
    /// How long anything may take that should happen at once.
    pub(super) soon: Duration,
    /// Whether nodes see the addresses of clients.
    pub(super) shows_addresses: bool,
    program: PathBuf,
    data_dir: PathBuf,
}

impl Entry {
    /// The entry to servers that share the data directory of a scenario.
    pub(super) fn new(context: &ScenarioContext, url: String, servers: &[ServerProcess]) -> Self {
        Self {
            url,
            nodes: servers.iter().map(ServerProcess::url).collect(),
            // A quick run is part of the tests, and their machine may be busy.
            soon: Duration::from_secs(context.pick(2, 10)),
            shows_addresses: true,
            program: context.program.clone(),
            data_dir: context.data_dir(),
        }
    }

    /// A device of a user, which connects to the entry.
    pub(super) fn device(&self, user: &str) -> anyhow::Result<Device> {
        let token = local_token(&self.program, &self.data_dir, user, &[])?;
        Ok(Device { url: self.url.clone(), token, http: reqwest::Client::new() })
    }
}

/// A device of a user.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) url: String,
    pub(super) token: String,
    pub(super) http: reqwest::Client,
}

impl Device {
    /// The same device, which connects to another URL.
    pub(super) fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// A request without a token.
    pub(super) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// A request with the device's token.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    pub(super) async fn push(&self, body: &Value) -> anyhow::Result<Reply> {
        self.push_text(body.to_string()).await
    }

    pub(super) async fn push_text(&self, body: String) -> anyhow::Result<Reply> {
        send(self.request(Method::POST, "/api/sync/push").body(body)).await
    }

    /// Pulls with a query such as `?limit=7`, or an empty one.
    pub(super) async fn pull(&self, query: &str) -> anyhow::Result<Reply> {
        send(self.request(Method::GET, &format!("/api/sync/pull{query}"))).await
    }
}

/// A whole response.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// The body as JSON of a response with that status.
    pub(super) fn json(&self, status: u16) -> anyhow::Result<Value> {
        let text = String::from_utf8_lossy(&self.body);
        let start: String = text.chars().take(300).collect();
        ensure!(self.status == status, "{status} was expected, and not {}: {start}", self.status);
        serde_json::from_str(&text).with_context(|| format!("the body is not JSON: {start}"))
    }

    /// Fails unless it is an error response with that status and code.
    pub(super) fn expect_error(&self, status: u16, code: &str) -> anyhow::Result<Value> {
        let body = self.json(status)?;
        ensure!(body["code"] == code, "the code {code} was expected: {body}");
        Ok(body)
    }

    /// The value of a header, or an empty string.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Sends a request, and reads the whole response.
pub(super) async fn send(request: RequestBuilder) -> anyhow::Result<Reply> {
    let response = request.timeout(RESPONSE_MAX).send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Reply { status, headers, body: response.bytes().await?.into() })
}
