//! One client and its requests, each written down as it is sent and as it is answered.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use reqwest::{Response, StatusCode};
use serde_json::Value;
use vaultsync_testkit::history::{
    Digest, InTheWay, Outcome, Recorder, Request, Seen, Write, Written,
};

use super::Tally;

/// Longer than a server takes for anything but a wait.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// One write that a client wants.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which record.
    pub record_id: String,
    /// The version that it knows.
    pub base_version: Option<u64>,
    /// What it writes.
    pub ciphertext: Vec<u8>,
    /// Whether that is a tombstone.
    pub deleted: bool,
}

/// A push that can be sent any number of times.
#[derive(Clone, Debug)]
pub struct Batch {
    body: String,
    writes: Vec<Write>,
}

impl Batch {
    /// A push of those writes.
    pub fn new(changes: &[Change]) -> Self {
        let write = |change: &Change| Write {
            record_id: change.record_id.as_str().into(),
            base_version: change.base_version,
            digest: Digest::of(&change.ciphertext),
            deleted: change.deleted,
        };
        Self { body: body(changes), writes: changes.iter().map(write).collect() }
    }
}

/// Written piece by piece: where a scenario sends more than its server can take, its own part should be
/// small.
fn body(changes: &[Change]) -> String {
    let mut body = String::from(r#"{"operations":["#);
    for (number, change) in changes.iter().enumerate() {
        let separator = if number == 0 { "" } else { "," };
        let base = change.base_version.map_or_else(|| "null".to_owned(), |base| base.to_string());
        // Infallible: it is written to memory.
        let _ = write!(
            body,
            r#"{separator}{{"recordId":{},"baseVersion":{base},"deleted":{},"ciphertext":""#,
            Value::from(change.record_id.as_str()),
            change.deleted,
        );
        base64_simd::STANDARD.encode_append(&change.ciphertext, &mut body);
        body.push_str(r#""}"#);
    }
    body.push_str("]}");
    body
}

/// What a client was told of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is applied: each record and its version.
    Applied(Vec<(String, u64)>),
    /// It is not applied: each record in the way, and its version where there is one.
    Conflict(Vec<(String, Option<u64>)>),
    /// Nothing that settles it: send it again.
    Unserved,
}

/// Where a reader stands. It names the vault's history as soon as it knows it, so that a server that
/// takes its cursor for one of another history, or for later than the vault's clock, has to say so.
#[derive(Clone, Debug, Default)]
pub struct Position {
    /// The last record that it has read.
    pub cursor: Option<i64>,
    epoch: Option<String>,
}

impl Position {
    /// Moves on to the end of a page.
    pub fn advance(&mut self, page: &Page) {
        self.cursor = page.next_cursor.or(self.cursor);
        self.epoch = page.epoch.clone().or(self.epoch.take());
    }

    fn query(&self) -> String {
        let cursor = self.cursor.map_or_else(String::new, shown);
        format!("cursor={cursor}&epoch={}", self.epoch.as_deref().unwrap_or_default())
    }
}

/// A page of a pull.
#[derive(Clone, Debug)]
pub struct Page {
    /// How many records there are on it.
    pub records: usize,
    /// Where to read on.
    pub next_cursor: Option<i64>,
    epoch: Option<String>,
    /// Whether there is more.
    pub has_more: bool,
}

/// One client.
#[derive(Debug)]
pub struct Session {
    recorder: Recorder,
    user: Arc<str>,
    device: Arc<str>,
    token: String,
    client: reqwest::Client,
    pub(super) tally: Arc<Tally>,
}

impl Session {
    pub(super) fn new(
        recorder: Recorder,
        user: Arc<str>,
        device: &str,
        token: String,
        tally: Arc<Tally>,
    ) -> Self {
        let client = reqwest::Client::builder().connect_timeout(Duration::from_secs(2)).build();
        let client = client.unwrap_or_default();
        Self { recorder, user, device: device.into(), token, client, tally }
    }

    /// What this client is called.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Sends a push once.
    pub async fn push(&self, address: &str, batch: &Batch) -> Told {
        let request = Request::Push { operations: batch.writes.clone() };
        let operation = self.recorder.begin(&self.user, &self.device, request);
        let push = self.client.post(format!("{address}/api/sync/push"));
        let sent = push.bearer_auth(&self.token).timeout(ANSWER_MAX).body(batch.body.clone());
        let (outcome, told) = match self.answered(sent.send().await).await {
            Ok((StatusCode::OK, answer)) => applied(&answer),
            Ok((StatusCode::CONFLICT, answer)) => refused(&answer),
            Ok((status, answer)) => (self.unserved(status, &answer), Told::Unserved),
            Err(outcome) => (outcome, Told::Unserved),
        };
        if let Told::Applied(written) = &told {
            self.tally.count(|tally| tally.acknowledged += written.len() as u64);
        }
        self.recorder.end(operation, outcome);
        told
    }

    /// Reads a page; none where the server had none to give.
    pub async fn pull(
        &self,
        address: &str,
        position: &Position,
        limit: usize,
        wait: Duration,
    ) -> Option<Page> {
        let request = Request::Pull { cursor: position.cursor, limit };
        let operation = self.recorder.begin(&self.user, &self.device, request);
        let (seconds, after) = (wait.as_secs(), position.query());
        let url = format!("{address}/api/sync/pull?limit={limit}&wait={seconds}&{after}");
        let sent = self.client.get(url).bearer_auth(&self.token).timeout(ANSWER_MAX + wait);
        let (outcome, page) = match self.answered(sent.send().await).await {
            Ok((StatusCode::OK, answer)) => paged(&answer),
            Ok((status, answer)) => (self.unserved(status, &answer), None),
            Err(outcome) => (outcome, None),
        };
        self.recorder.end(operation, outcome);
        page
    }

    /// Status and body; the outcome where there is no whole answer.
    async fn answered(
        &self,
        sent: reqwest::Result<Response>,
    ) -> Result<(StatusCode, Value), Outcome> {
        let response = sent.map_err(|error| {
            let reached_nobody = error.is_connect();
            self.tally.count(|tally| {
                tally.unreached += u64::from(reached_nobody);
                tally.unanswered += u64::from(!reached_nobody);
                if !reached_nobody {
                    *tally.why_unanswered.entry(innermost(&error)).or_default() += 1;
                }
            });
            if reached_nobody { Outcome::Refused } else { Outcome::Unknown }
        })?;
        let status = response.status();
        let comes_back_when = response.headers().contains_key("retry-after");
        let answer = response.json().await.map_err(|error| {
            self.tally.count(|tally| {
                tally.unanswered += 1;
                *tally.why_unanswered.entry(innermost(&error)).or_default() += 1;
            });
            Outcome::Unknown
        })?;
        self.tally.count(|tally| {
            *tally.statuses.entry(status.as_u16()).or_default() += 1;
            if matches!(status.as_u16(), 429 | 503) && !comes_back_when {
                tally.faults.push(format!("{status} without Retry-After: {answer}"));
            }
        });
        Ok((status, answer))
    }

    /// What an answer means that is none of those that settle a request.
    fn unserved(&self, status: StatusCode, answer: &Value) -> Outcome {
        match (status.as_u16(), answer["code"].as_str()) {
            (503, Some("outcome_unknown")) => Outcome::Unknown,
            (503 | 429, _) => Outcome::Refused,
            _ => {
                let fault = format!("{} was answered {status}: {answer}", self.device);
                self.tally.count(|tally| tally.faults.push(fault));
                Outcome::Unknown
            }
        }
    }
}

/// The cause that has none of its own.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn applied(answer: &Value) -> (Outcome, Told) {
    let results = answer["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    let version = |result: &Value| result["version"].as_u64().unwrap_or_default();
    let written = |result: &Value| Written {
        record_id: text(&result["recordId"]).into(),
        version: version(result),
        updated_at: None,
    };
    let told = results.iter().map(|result| (text(&result["recordId"]).to_owned(), version(result)));
    let told = Told::Applied(told.collect());
    (Outcome::Acknowledged { results: results.iter().map(written).collect() }, told)
}

fn refused(answer: &Value) -> (Outcome, Told) {
    let conflicts = answer["conflicts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let version = |conflict: &Value| conflict["currentVersion"].as_u64().filter(|at| *at > 0);
    let in_the_way = |conflict: &Value| match version(conflict) {
        Some(version) => InTheWay::Record(seen(conflict, version)),
        None => InTheWay::Nothing(text(&conflict["recordId"]).into()),
    };
    let told = conflicts.iter().map(|one| (text(&one["recordId"]).to_owned(), version(one)));
    let told = Told::Conflict(told.collect());
    (Outcome::Conflict { conflicts: conflicts.iter().map(in_the_way).collect() }, told)
}

fn paged(answer: &Value) -> (Outcome, Option<Page>) {
    let records = answer["records"].as_array().map(Vec::as_slice).unwrap_or_default();
    let records: Vec<_> = records
        .iter()
        .map(|record| seen(record, record["version"].as_u64().unwrap_or_default()))
        .collect();
    let next_cursor = answer["nextCursor"].as_str().and_then(millis);
    let has_more = answer["hasMore"] == true;
    let epoch = answer["epoch"].as_str().map(str::to_owned);
    let page = Page { records: records.len(), next_cursor, epoch, has_more };
    (Outcome::Page { records, next_cursor, has_more }, Some(page))
}

fn seen(record: &Value, version: u64) -> Seen {
    let ciphertext = text(&record["ciphertext"]).as_bytes();
    Seen {
        record_id: text(&record["recordId"]).into(),
        version,
        // What is no base64 differs from everything that was written, and so is found.
        digest: Digest::of(&base64_simd::STANDARD.decode_to_vec(ciphertext).unwrap_or_default()),
        deleted: record["deleted"] == true,
        updated_at: millis(text(&record["updated_at"])).unwrap_or_default(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn millis(text: &str) -> Option<i64> {
    Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond())
}

fn shown(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}
