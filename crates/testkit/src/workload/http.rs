//! Servers of one database as a client reaches them over HTTP: a different one for each request.

use std::{sync::Arc, time::Duration};

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::Value;
use vaultsync_protocol::{Cursor, Operation, Timestamp};

use super::{Service, Tally, push_body::push_body};
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
    /// The vault's epoch, once it is known. Every pull names it, so that a server that takes the cursor for
    /// one of another epoch, or for one ahead of the vault's clock, has to say so.
    epoch: Option<String>,
}

impl HttpService {
    /// A service that starts with the address at index `first`.
    pub fn new(addresses: Addresses, token: String, first: usize, tally: Arc<Tally>) -> Self {
        let client = reqwest::Client::builder().connect_timeout(CONNECT_MAX).build();
        let client = client.unwrap_or_default();
        Self { addresses, token, client, tally, sent: first, epoch: None }
    }

    /// Replaces the token.
    pub fn set_token(&mut self, token: &str) {
        token.clone_into(&mut self.token);
    }

    /// The address for the next request: each server in turn, because none may contradict another.
    fn next_address(&mut self) -> &str {
        self.sent += 1;
        &self.addresses[(self.sent - 1) % self.addresses.len()]
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
    async fn push(&mut self, operations: &[Operation]) -> Result<Outcome, String> {
        let url = format!("{}/api/sync/push", self.next_address());
        let request = self.client.post(url).body(push_body(operations));
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

    async fn pull(
        &mut self,
        cursor: Option<i64>,
        limit: usize,
        wait: bool,
    ) -> Result<Outcome, String> {
        let wait = if wait { WAIT } else { Duration::ZERO };
        let cursor = cursor.map(|cursor| Timestamp::from_millis(cursor).to_string());
        let query = format!(
            "limit={limit}&wait={}&cursor={}&epoch={}",
            wait.as_secs(),
            cursor.unwrap_or_default(),
            self.epoch.as_deref().unwrap_or_default(),
        );
        let url = format!("{}/api/sync/pull?{query}", self.next_address());
        let response = match self.send(self.client.get(url), RESPONSE_MAX + wait).await {
            Ok(response) => response,
            Err(outcome) => return Ok(outcome),
        };
        if response.status != 200 {
            return response.unserved();
        }
        let page: Page = response.parse()?;
        self.epoch = page.epoch.or(self.epoch.take());
        let next_cursor = page.next_cursor.as_deref().map(millis).transpose()?;
        let records = page.records.into_iter().map(RecordBody::view).collect::<Result<_, _>>()?;
        Ok(Outcome::Page { records, next_cursor, has_more: page.has_more })
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
