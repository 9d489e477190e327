//! Nodes that serve one database, as a client reaches them: another one for each request.

use std::{sync::Arc, time::Duration};

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use vaultsync_protocol::{Cursor, Operation, Timestamp};

use super::{Service, store::body};
use crate::history::{Digest, InTheWay, Outcome, Seen, Written};

/// How long an empty page waits for a change.
const WAIT_SECONDS: u64 = 5;

/// How long a client waits before it tries again where nobody served it.
const PAUSE: Duration = Duration::from_millis(50);

/// The addresses of nodes, and a user's token.
#[derive(Clone, Debug)]
pub struct HttpService {
    addresses: Arc<[String]>,
    token: String,
    client: reqwest::Client,
    /// How many requests it has sent, which is also whose turn it is.
    sent: usize,
}

impl HttpService {
    /// A client that begins with the node of that number.
    pub fn new(addresses: Arc<[String]>, token: String, first: usize) -> Self {
        Self { addresses, token, client: reqwest::Client::new(), sent: first }
    }

    /// What one node has told, no other may contradict, so each is asked in turn.
    fn next(&mut self) -> &str {
        self.sent += 1;
        &self.addresses[(self.sent - 1) % self.addresses.len()]
    }

    /// The status and body of an answer; `None` where there is none, or half of one.
    async fn send(&self, request: reqwest::RequestBuilder) -> Option<(StatusCode, Value)> {
        let response = request.bearer_auth(&self.token).send().await.ok()?;
        Some((response.status(), response.json().await.ok()?))
    }
}

impl Service for HttpService {
    async fn push(&mut self, operations: &[Operation]) -> Result<Outcome, String> {
        let url = format!("{}/api/sync/push", self.next());
        let answer = self.send(self.client.post(url).body(body(operations))).await;
        match answer {
            Some((StatusCode::OK, answer)) => {
                let answer: Applied = read(answer)?;
                let results = answer.results.into_iter().map(|result| Written {
                    record_id: result.record_id.into(),
                    version: result.version,
                    updated_at: None,
                });
                Ok(Outcome::Acknowledged { results: results.collect() })
            }
            Some((StatusCode::CONFLICT, answer)) => {
                let answer: Refused = read(answer)?;
                let conflicts = answer.conflicts.into_iter().map(Shown::in_the_way);
                Ok(Outcome::Conflict { conflicts: conflicts.collect::<Result<_, _>>()? })
            }
            other => unserved(other),
        }
    }

    async fn pull(
        &mut self,
        cursor: Option<i64>,
        limit: usize,
        wait: bool,
    ) -> Result<Outcome, String> {
        let cursor = cursor.map(|cursor| Timestamp::from_millis(cursor).to_string());
        let (cursor, wait) = (cursor.unwrap_or_default(), if wait { WAIT_SECONDS } else { 0 });
        let query = format!("limit={limit}&wait={wait}&cursor={cursor}");
        let url = format!("{}/api/sync/pull?{query}", self.next());
        match self.send(self.client.get(url)).await {
            Some((StatusCode::OK, answer)) => {
                let answer: Page = read(answer)?;
                let next_cursor = answer.next_cursor.as_deref().map(millis).transpose()?;
                let records = answer.records.into_iter().map(Shown::seen);
                let records = records.collect::<Result<_, _>>()?;
                Ok(Outcome::Page { records, next_cursor, has_more: answer.has_more })
            }
            other => unserved(other),
        }
    }

    async fn pause(&mut self) {
        tokio::time::sleep(PAUSE).await;
    }
}

/// What it means not to have been served; an error where no server should answer so.
fn unserved(answer: Option<(StatusCode, Value)>) -> Result<Outcome, String> {
    match answer {
        None => Ok(Outcome::Unknown),
        Some((StatusCode::TOO_MANY_REQUESTS, _)) => Ok(Outcome::Refused),
        Some((StatusCode::SERVICE_UNAVAILABLE, answer)) => Ok(match answer["code"].as_str() {
            Some("unavailable") => Outcome::Refused,
            _ => Outcome::Unknown,
        }),
        Some((status, answer)) => Err(format!("a request was answered {status}: {answer}")),
    }
}

#[derive(Deserialize)]
struct Applied {
    results: Vec<AppliedTo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AppliedTo {
    record_id: String,
    version: u64,
}

#[derive(Deserialize)]
struct Refused {
    conflicts: Vec<Shown>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    records: Vec<Shown>,
    next_cursor: Option<String>,
    has_more: bool,
}

/// A record of a page, or a conflict, which calls its version otherwise.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    record_id: String,
    #[serde(alias = "currentVersion")]
    version: u64,
    ciphertext: String,
    deleted: bool,
    #[serde(rename = "updated_at")]
    updated_at: Option<String>,
}

impl Shown {
    fn seen(self) -> Result<Seen, String> {
        let at = self.updated_at.ok_or("a record of a page has no time")?;
        let ciphertext = base64_simd::STANDARD.decode_to_vec(&self.ciphertext);
        Ok(Seen {
            record_id: self.record_id.into(),
            version: self.version,
            digest: Digest::of(&ciphertext.map_err(|error| error.to_string())?),
            deleted: self.deleted,
            updated_at: millis(&at)?,
        })
    }

    fn in_the_way(self) -> Result<InTheWay, String> {
        if self.updated_at.is_some() {
            self.seen().map(InTheWay::Record)
        } else {
            Ok(InTheWay::Nothing(self.record_id.into()))
        }
    }
}

fn millis(text: &str) -> Result<i64, String> {
    let cursor = Cursor::parse(text).map_err(|_| format!("{text} is no time"))?;
    Ok(cursor.timestamp().as_millis())
}

fn read<T: for<'de> Deserialize<'de>>(answer: Value) -> Result<T, String> {
    serde_json::from_value(answer).map_err(|error| format!("an answer is not as promised: {error}"))
}
