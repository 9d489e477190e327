//! Servers of one database as a client reaches them over HTTP: a different one for each request.

use std::{sync::Arc, time::Duration};

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::Value;
use vaultsync_protocol::{Cursor, Timestamp};

use super::{PullRequest, PushRequest, Service, Tally, push_body::push_body};
use crate::history::{ConflictEntry, Digest, Outcome, RecordView, WriteResult};

/// How long an empty page waits for a change.
const WAIT: Duration = Duration::from_secs(2);

/// Longer than a server takes for anything except a wait.
const RESPONSE_MAX: Duration = Duration::from_secs(30);

const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Pause before a request is sent again. A real client obeys `Retry-After`; this one tries every moment at
/// which something could go wrong.
const PAUSE: Duration = Duration::from_millis(25);

/// The addresses of the servers of one database.
pub type Addresses = Arc<[String]>;

/// The addresses of servers, and a user's token.
#[derive(Clone, Debug)]
pub struct HttpService {
    addresses: Addresses,
    token: String,
    client: reqwest::Client,
    tally: Arc<Tally>,
    /// Number of requests sent; selects the address of the next one.
    sent: usize,
    /// The vault's name, if it is not the default one.
    vault: Option<String>,
}

impl HttpService {
    /// A service that starts with the address at index `first`.
    pub fn new(addresses: Addresses, token: String, first: usize, tally: Arc<Tally>) -> Self {
        let client = reqwest::Client::builder().connect_timeout(CONNECT_MAX).build();
        let client = client.unwrap_or_default();
        Self { addresses, token, client, tally, sent: first, vault: None }
    }

    /// A service for the user's vault of this name.
    #[must_use]
    pub fn in_vault(self, name: &str) -> Self {
        Self { vault: Some(name.to_owned()), ..self }
    }

    /// Replaces the token.
    pub fn set_token(&mut self, token: &str) {
        token.clone_into(&mut self.token);
    }

    /// The URL of a route of the vault, for the next request: each server in turn, because none may contradict
    /// another.
    fn next_url(&mut self, route: &str) -> String {
        self.sent += 1;
        let address = &self.addresses[(self.sent - 1) % self.addresses.len()];
        match &self.vault {
            None => format!("{address}/api/sync/{route}"),
            Some(name) => format!("{address}/api/sync/vaults/{name}/{route}"),
        }
    }

    /// Sends a request, and returns the response; the outcome if there is none, or half of one.
    async fn send(&self, request: RequestBuilder, timeout: Duration) -> Result<Response, Outcome> {
        let sent = request.bearer_auth(&self.token).timeout(timeout).send().await;
        let response = sent.map_err(|error| {
            if error.is_connect() {
                self.tally.count(|totals| totals.unreached += 1);
                Outcome::Refused
            } else {
                self.unanswered(&error)
            }
        })?;
        let status = response.status().as_u16();
        let has_retry_after = response.headers().contains_key("retry-after");
        let text = response.text().await.map_err(|error| self.unanswered(&error))?;
        self.tally.count(|totals| *totals.statuses.entry(status).or_default() += 1);
        Ok(Response { status, has_retry_after, text })
    }

    fn unanswered(&self, error: &reqwest::Error) -> Outcome {
        self.tally.count(|totals| {
            totals.unanswered += 1;
            *totals.unanswered_causes.entry(root_cause(error)).or_default() += 1;
        });
        Outcome::Unknown
    }
}

impl Service for HttpService {
    async fn push(&mut self, push: PushRequest<'_>) -> Result<Outcome, String> {
        let url = self.next_url("push");
        let request = self.client.post(url).body(push_body(&push));
        let response = match self.send(request, RESPONSE_MAX).await {
            Ok(response) => response,
            Err(outcome) => return Ok(outcome),
        };
        match response.status {
            200 => {
                let applied: Applied = response.parse()?;
                self.tally.count(|totals| totals.acknowledged += applied.results.len() as u64);
                let results = applied.results.into_iter().map(|result| WriteResult {
                    record_id: result.record_id.into(),
                    version: result.version,
                    updated_at: None,
                });
                Ok(Outcome::Acknowledged { results: results.collect() })
            }
            409 => {
                let refused: Refused = response.parse()?;
                let conflicts = refused.conflicts.into_iter().map(RecordBody::conflict_entry);
                Ok(Outcome::Conflict { conflicts: conflicts.collect::<Result<_, _>>()? })
            }
            _ => response.unserved(),
        }
    }

    async fn pull(&mut self, pull: PullRequest<'_>) -> Result<Outcome, String> {
        let PullRequest { cursor, limit, wait, epoch } = pull;
        let wait = if wait { WAIT } else { Duration::ZERO };
        let cursor = cursor.map(|cursor| Timestamp::from_millis(cursor).to_string());
        let query = format!(
            "limit={limit}&wait={}&cursor={}&epoch={}",
            wait.as_secs(),
            cursor.unwrap_or_default(),
            epoch.unwrap_or_default(),
        );
        let url = self.next_url(&format!("pull?{query}"));
        let response = match self.send(self.client.get(url), RESPONSE_MAX + wait).await {
            Ok(response) => response,
            Err(outcome) => return Ok(outcome),
        };
        if response.status != 200 {
            return response.unserved();
        }
        let page: Page = response.parse()?;
        let epoch = page.epoch.map(Into::into);
        let next_cursor = page.next_cursor.as_deref().map(millis).transpose()?;
        let records = page.records.into_iter().map(RecordBody::view).collect::<Result<_, _>>()?;
        Ok(Outcome::Page { records, next_cursor, has_more: page.has_more, epoch })
    }

    async fn erase(&mut self, epoch: &str) -> Result<Outcome, String> {
        let route = if self.vault.is_some() { "" } else { "vault" };
        let url = format!("{}?confirm={epoch}", self.next_url(route).trim_end_matches('/'));
        match self.send(self.client.delete(url), RESPONSE_MAX).await {
            Ok(response) if response.status == 200 => Ok(Outcome::Erased),
            Ok(response) => response.unserved(),
            Err(outcome) => Ok(outcome),
        }
    }

    async fn pause(&mut self) {
        tokio::time::sleep(PAUSE).await;
    }
}

/// A whole response.
struct Response {
    status: u16,
    has_retry_after: bool,
    text: String,
}

impl Response {
    fn parse<T: for<'de> Deserialize<'de>>(&self) -> Result<T, String> {
        serde_json::from_str(&self.text)
            .map_err(|error| format!("a response does not follow the protocol: {error}"))
    }

    /// The outcome of a request that was not served; an error if no server should respond like this.
    fn unserved(&self) -> Result<Outcome, String> {
        let Self { status, has_retry_after, text } = self;
        let body = serde_json::from_str::<Value>(text).unwrap_or_default();
        match (status, body["code"].as_str()) {
            (429 | 503, _) if !has_retry_after => {
                Err(format!("{status} without Retry-After: {text}"))
            }
            (503, Some("outcome_unknown")) => Ok(Outcome::Unknown),
            (410, Some("vault_erased")) => Ok(Outcome::VaultErased),
            (429 | 503, Some(_)) => Ok(Outcome::Refused),
            _ => Err(format!("a request was answered {status}: {text}")),
        }
    }
}

/// The cause at the end of an error's chain of sources.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[derive(Deserialize)]
struct Applied {
    results: Vec<AppliedWrite>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AppliedWrite {
    record_id: String,
    version: u64,
}

#[derive(Deserialize)]
struct Refused {
    conflicts: Vec<RecordBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    records: Vec<RecordBody>,
    next_cursor: Option<String>,
    has_more: bool,
    epoch: Option<String>,
}

/// A record of a page or a conflict, which have different names for the version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordBody {
    record_id: String,
    #[serde(alias = "currentVersion")]
    version: u64,
    ciphertext: String,
    deleted: bool,
    #[serde(rename = "updated_at")]
    updated_at: Option<String>,
}

impl RecordBody {
    fn view(self) -> Result<RecordView, String> {
        let at = self.updated_at.ok_or("a record of a page has no updated_at")?;
        let ciphertext = base64_simd::STANDARD.decode_to_vec(&self.ciphertext);
        Ok(RecordView {
            record_id: self.record_id.into(),
            version: self.version,
            digest: Digest::of(&ciphertext.map_err(|error| error.to_string())?),
            deleted: self.deleted,
            updated_at: millis(&at)?,
        })
    }

    fn conflict_entry(self) -> Result<ConflictEntry, String> {
        if self.updated_at.is_some() {
            self.view().map(ConflictEntry::Record)
        } else {
            Ok(ConflictEntry::Missing(self.record_id.into()))
        }
    }
}

fn millis(text: &str) -> Result<i64, String> {
    let cursor = Cursor::parse(text).map_err(|_| format!("{text} is not a time"))?;
    Ok(cursor.timestamp().as_millis())
}
