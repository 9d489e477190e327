//! A client that writes the records of a vault it shares with others.

use std::{collections::HashMap, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Addresses;

/// So few that writers often want the same one.
const RECORDS: usize = 60;

/// How long a client waits before it tries again where nobody served it.
const PAUSE: Duration = Duration::from_millis(50);

/// One that was acknowledged: the record, its version, and what was written.
pub(super) type Acknowledged = (String, u64, String);

/// A writer, and afterwards what it saw.
pub(super) struct Writer {
    number: usize,
    pub(super) user: usize,
    addresses: Addresses,
    token: String,
    client: reqwest::Client,
    random: StdRng,
    /// The versions it knows of.
    known: HashMap<String, u64>,
    pub(super) acknowledged: Vec<Acknowledged>,
    pub(super) conflicts: usize,
    /// Requests that nobody answered, or with 503.
    pub(super) unserved: usize,
    /// What should never be answered.
    pub(super) faults: Vec<String>,
}

impl Writer {
    pub(super) fn new(number: usize, user: usize, addresses: Addresses, token: String) -> Self {
        Self {
            number,
            user,
            addresses,
            token,
            client: reqwest::Client::new(),
            random: StdRng::seed_from_u64(number as u64),
            known: HashMap::new(),
            acknowledged: Vec::new(),
            conflicts: 0,
            unserved: 0,
            faults: Vec::new(),
        }
    }

    /// Writes until told to stop; what was sent by then is seen through.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Self {
        let mut count = 0;
        while !stop.is_cancelled() && self.faults.is_empty() {
            count += 1;
            let operations = self.draw(count);
            self.see_through(&operations).await;
        }
        self
    }

    /// Some records, each on top of the version that this writer knows.
    fn draw(&mut self, count: usize) -> Vec<Value> {
        let mut numbers: Vec<_> = (0..RECORDS).collect();
        let wanted = self.random.random_range(1..6);
        (0..wanted)
            .map(|_| {
                let drawn = numbers.swap_remove(self.random.random_range(0..numbers.len()));
                let id = format!("record {drawn}");
                let text = format!("{count} of writer {} for {id}", self.number);
                json!({
                    "recordId": id,
                    "baseVersion": self.known.get(&id),
                    "ciphertext": base64_simd::STANDARD.encode_to_string(text),
                    "deleted": self.random.random_ratio(1, 20),
                })
            })
            .collect()
    }

    /// Sends the same push until it is answered, whoever answers.
    async fn see_through(&mut self, operations: &[Value]) {
        let body = json!({ "operations": operations }).to_string();
        for attempt in 0.. {
            let address = &self.addresses[(self.number + attempt) % self.addresses.len()];
            let push = self.client.post(format!("{address}/api/sync/push"));
            let sent = push.bearer_auth(&self.token).body(body.clone()).send().await;
            let answer = match sent {
                Ok(response) => {
                    let status = response.status();
                    response.json::<Value>().await.map(|answer| (status, answer))
                }
                Err(error) => Err(error),
            };
            match answer {
                Ok((StatusCode::OK, answer)) => return self.acknowledge(operations, &answer),
                Ok((StatusCode::CONFLICT, answer)) => return self.learn(&answer),
                Ok((StatusCode::SERVICE_UNAVAILABLE, _)) | Err(_) => {
                    self.unserved += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Ok((status, answer)) => {
                    return self.faults.push(format!("a push was answered {status}: {answer}"));
                }
            }
        }
    }

    fn acknowledge(&mut self, operations: &[Value], answer: &Value) {
        let results = answer["results"].as_array().into_iter().flatten();
        for (operation, result) in operations.iter().zip(results) {
            let (id, version) = (text(&result["recordId"]), result["version"].as_u64());
            let version = version.unwrap_or_default();
            self.known.insert(id.clone(), version);
            let written = format!("{} {}", text(&operation["ciphertext"]), operation["deleted"]);
            self.acknowledged.push((id, version, written));
        }
    }

    fn learn(&mut self, answer: &Value) {
        self.conflicts += 1;
        for conflict in answer["conflicts"].as_array().into_iter().flatten() {
            let version = conflict["currentVersion"].as_u64().unwrap_or_default();
            self.known.insert(text(&conflict["recordId"]), version);
        }
    }
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
