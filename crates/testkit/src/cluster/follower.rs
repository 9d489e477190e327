//! A client that follows a vault by its cursor, in small pages, from whichever node answers.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Addresses, writer::text};

/// So few that a push is often cut by the end of a page.
const PAGE: usize = 7;

/// How long an empty page waits for a change.
const WAIT_SECONDS: u64 = 5;

const PAUSE: Duration = Duration::from_millis(50);

/// What a follower holds of a record: version, ciphertext, whether it is a tombstone.
pub(super) type Held = (u64, String, bool);

/// A follower, and afterwards what it holds.
pub(super) struct Follower {
    pub(super) user: usize,
    addresses: Addresses,
    token: String,
    client: reqwest::Client,
    cursor: String,
    pub(super) records: BTreeMap<String, Held>,
    pub(super) pages: usize,
    /// Waits that a change ended.
    pub(super) woken: usize,
    pub(super) unserved: usize,
    pub(super) faults: Vec<String>,
}

impl Follower {
    pub(super) fn new(user: usize, addresses: Addresses, token: String) -> Self {
        Self {
            user,
            addresses,
            token,
            client: reqwest::Client::new(),
            cursor: String::new(),
            records: BTreeMap::new(),
            pages: 0,
            woken: 0,
            unserved: 0,
            faults: Vec::new(),
        }
    }

    /// Follows until `written` says that nothing more is written, and then to the end.
    pub(super) async fn run(mut self, written: CancellationToken) -> Self {
        for attempt in self.user.. {
            let at_the_end = written.is_cancelled();
            let wait = if at_the_end { 0 } else { WAIT_SECONDS };
            // Another node each time: what one has told, no other may contradict.
            let address = self.addresses[attempt % self.addresses.len()].clone();
            let Some(page) = self.page(&address, wait).await else {
                self.unserved += 1;
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let was_empty = self.take(&page);
            self.woken += usize::from(!was_empty && wait > 0);
            if at_the_end && page["hasMore"] == false && was_empty {
                return self;
            }
            if !self.faults.is_empty() {
                return self;
            }
        }
        self
    }

    async fn page(&self, address: &str, wait: u64) -> Option<Value> {
        let cursor = &self.cursor;
        let url = format!("{address}/api/sync/pull?limit={PAGE}&wait={wait}&cursor={cursor}");
        let response = self.client.get(url).bearer_auth(&self.token).send().await.ok()?;
        response.error_for_status().ok()?.json().await.ok()
    }

    /// Takes a page over; whether it was empty.
    fn take(&mut self, page: &Value) -> bool {
        self.pages += 1;
        let records = page["records"].as_array().map(Vec::as_slice).unwrap_or_default();
        for record in records {
            let (id, at) = (text(&record["recordId"]), text(&record["updated_at"]));
            // Of one width, so that as texts they are in the order of time.
            if at <= self.cursor {
                self.faults.push(format!("{id} at {at} came after the cursor {}", self.cursor));
            }
            self.cursor = at;
            let version = record["version"].as_u64().unwrap_or_default();
            let deleted = record["deleted"].as_bool().unwrap_or_default();
            let held = (version, text(&record["ciphertext"]), deleted);
            if let Some((before, ..)) = self.records.insert(id.clone(), held)
                && before >= version
            {
                self.faults.push(format!("{id} went from version {before} to {version}"));
            }
        }
        records.is_empty()
    }
}
