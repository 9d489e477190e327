//! Clients that do not know that tombstones are removed: those of the original specification, which send only a
//! cursor, and those of version 0.2, which also send the epoch. They never get an error because of it.
//!
//! Not here: clients that send `since` (`crates/store/tests/conformance/gc.rs`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use vaultsync_server::{Clock as _, Limits, SystemClock};
use vaultsync_testkit::{
    Answer, Backend, ManualClock, Setup, TestServer, backends, operation, push_of, send,
};

use crate::USER;

backends!(
    a_first_sync_after_a_removal_is_complete,
    a_first_sync_goes_on_when_tombstones_are_removed_meanwhile,
);

/// Records that nothing deletes.
const LIVE: usize = 1000;

/// Records that are created before all others, and deleted.
const GONE: usize = 150;

const DAY: Duration = Duration::from_hours(24);

/// Longer than a removal takes on a busy machine.
const REMOVED_MAX: Duration = Duration::from_secs(60);

/// A server that removes tombstones after a day.
struct Vault {
    server: TestServer,
    clock: Arc<ManualClock>,
}

impl Vault {
    async fn start(backend: Backend) -> Self {
        let clock = Arc::new(ManualClock::at(SystemClock::start().now()));
        let mut setup = Setup::on(backend);
        setup.clock = Some(clock.clone());
        setup.limits = Limits {
            history_days: 1,
            tombstone_days: 1,
            gc_interval_seconds: Duration::from_millis(50),
            ..setup.limits
        };
        Self { server: TestServer::start_with(setup).await, clock }
    }

    async fn call(&self, method: Method, path: &str, body: String) -> Answer {
        let token = self.server.key.mint(USER, self.clock.now(), DAY).expect("a token");
        send(self.server.request(method, path).bearer_auth(token).body(body)).await
    }

    async fn push(&self, body: Value) {
        let answer = self.call(Method::POST, "/api/sync/push", body.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Pushes that many operations, as many at a time as a push may have.
    async fn push_all(&self, count: usize, operation: impl Fn(usize) -> Value) {
        let all: Vec<_> = (0..count).map(operation).collect();
        for batch in all.chunks(100) {
            self.push(push_of(batch.iter().cloned())).await;
        }
    }

    async fn create_all(&self) {
        self.push_all(GONE, |n| operation(&gone(n), None, b"gone")).await;
        self.push_all(LIVE, |n| operation(&live(n), None, text(n).as_bytes())).await;
    }

    async fn delete_gone(&self) {
        self.push_all(GONE, |n| operation(&gone(n), Some(1), b"")).await;
    }

    async fn usage(&self) -> (Value, Value) {
        let usage = self.call(Method::GET, "/api/sync/usage", String::new()).await.json();
        (usage["records"].clone(), usage["tombstones"].clone())
    }

    /// Lets days pass, and waits until the server has removed the tombstones.
    async fn remove_tombstones(&self) {
        assert_eq!(self.usage().await, (json!(LIVE), json!(GONE)));
        self.clock.advance(3 * DAY);
        let removed = async {
            while self.usage().await != (json!(LIVE), json!(0)) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(REMOVED_MAX, removed).await.expect("the tombstones are removed");
    }
}

fn gone(n: usize) -> String {
    format!("gone-{n}")
}

fn live(n: usize) -> String {
    format!("live-{n}")
}

fn text(n: usize) -> String {
    format!("text {n}")
}

/// A device of a client that sends its cursor and, if it has one and is of version 0.2, the epoch.
#[derive(Default)]
struct Device {
    sends_epoch: bool,
    cursor: Option<Value>,
    epoch: Value,
    /// The ciphertext of each record that it has.
    records: BTreeMap<String, Value>,
}

impl Device {
    /// One of each kind.
    fn each() -> [Self; 2] {
        [false, true].map(|sends_epoch| Self { sends_epoch, ..Self::default() })
    }

    /// Pulls a page, and returns whether there is more.
    async fn pull(&mut self, vault: &Vault) -> bool {
        let cursor = self.cursor.as_ref().and_then(Value::as_str);
        let epoch = self.epoch.as_str().filter(|_| self.sends_epoch);
        let parameter = |name: &str, value: Option<&str>| {
            value.map(|value| format!("&{name}={value}")).unwrap_or_default()
        };
        let parameters = parameter("cursor", cursor) + &parameter("epoch", epoch);
        let path = format!("/api/sync/pull?limit=100{parameters}");
        let answer = vault.call(Method::GET, &path, String::new()).await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        let page = answer.json();
        for record in page["records"].as_array().expect("records") {
            let record_id = record["recordId"].as_str().expect("an id").to_owned();
            if record["deleted"] == true {
                self.records.remove(&record_id);
            } else {
                self.records.insert(record_id, record["ciphertext"].clone());
            }
        }
        self.epoch = page["epoch"].clone();
        if !page["nextCursor"].is_null() {
            self.cursor = Some(page["nextCursor"].clone());
        }
        page["hasMore"] == true
    }

    /// Pulls to the end, and then once more.
    async fn sync(&mut self, vault: &Vault) {
        while self.pull(vault).await {}
        assert!(!self.pull(vault).await);
    }

    /// Pushes a record of its own, and pulls it.
    async fn write(&mut self, vault: &Vault) {
        let record_id = format!("new-{}", self.sends_epoch);
        let mut body = push_of([operation(&record_id, None, b"new")]);
        if self.sends_epoch {
            body["epoch"] = self.epoch.clone();
        }
        vault.push(body).await;
        self.sync(vault).await;
        assert!(self.records.contains_key(&record_id));
    }

    /// Checks that it has every record that was not deleted, and how many others.
    fn check(&self, others: usize) {
        for n in 0..LIVE {
            let expected = json!(base64_simd::STANDARD.encode_to_string(text(n)));
            assert_eq!(self.records.get(&live(n)), Some(&expected), "{n}");
        }
        assert_eq!(self.records.len(), LIVE + others);
    }
}

async fn a_first_sync_after_a_removal_is_complete(backend: Backend) {
    let vault = Vault::start(backend).await;
    vault.create_all().await;
    vault.delete_gone().await;
    vault.remove_tombstones().await;
    let mut devices = Device::each();
    for device in &mut devices {
        device.sync(&vault).await;
        device.check(0);
    }
    for device in &mut devices {
        device.write(&vault).await;
    }
}

/// Such a client keeps what it has read of the deleted records, as the protocol says.
async fn a_first_sync_goes_on_when_tombstones_are_removed_meanwhile(backend: Backend) {
    let vault = Vault::start(backend).await;
    vault.create_all().await;
    let mut devices = Device::each();
    for device in &mut devices {
        assert!(device.pull(&vault).await);
    }
    vault.delete_gone().await;
    vault.remove_tombstones().await;
    for device in &mut devices {
        device.sync(&vault).await;
        device.check(100);
        assert!(device.records.contains_key(&gone(99)) && !device.records.contains_key(&gone(100)));
    }
    for device in &mut devices {
        device.write(&vault).await;
    }
}
