//! A client that writes to the records of a vault that it shares with other clients.

use std::{collections::HashMap, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vaultsync_protocol::{Ciphertext, Guard, Operation, RecordId, Version};

use super::{Client, Service};
use crate::history::{ConflictEntry, Outcome};

/// If one push stays unsettled for this long, something is wrong with the server.
const UNSETTLED_MAX: Duration = Duration::from_secs(180);

/// What a writer writes.
#[derive(Clone, Copy, Debug)]
pub struct WriterConfig {
    /// Records that all writers of a vault share. With few records, writers often conflict.
    pub records: usize,
    /// Maximum number of writes in a push.
    pub batch_max: usize,
    /// Ciphertexts are padded to a random length of up to this many bytes.
    pub ciphertext_bytes_max: usize,
    /// One push in this many is sent again after its 200, as by a client that lost the response; 0 for
    /// none.
    pub replay_one_in: u32,
    /// One push in this many has a guard on a record that it does not write; 0 for none.
    pub guard_one_in: u32,
    /// Pause after each push.
    pub pause: Duration,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            records: 60,
            batch_max: 5,
            ciphertext_bytes_max: 0,
            replay_one_in: 20,
            guard_one_in: 0,
            pause: Duration::ZERO,
        }
    }
}

/// A writer.
#[derive(Debug)]
pub struct Writer<S> {
    client: Client<S>,
    config: WriterConfig,
    random: StdRng,
    /// The latest versions that this writer has seen.
    versions: HashMap<RecordId, Version>,
    pushes: usize,
}

impl<S: Service> Writer<S> {
    /// A writer whose choices depend on `seed` alone.
    pub fn new(client: Client<S>, config: WriterConfig, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { client, config, random, versions: HashMap::new(), pushes: 0 }
    }

    /// Writes until it is stopped or the server is at fault. The last push is settled before it returns.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() && !self.client.has_fault() {
            self.write_once().await;
            if !self.config.pause.is_zero() {
                tokio::time::sleep(self.config.pause).await;
            }
        }
    }

    /// Draws one push, and sends it until it is settled.
    pub async fn write_once(&mut self) {
        if self.client.lacks_epoch() {
            self.client.pull(None, 1, false).await;
            if self.client.lacks_epoch() {
                self.client.service.pause().await;
                return;
            }
        }
        self.pushes += 1;
        let (operations, guards) = self.draw();
        let is_erased = self.settle(&operations, &guards).await;
        let replay_one_in = self.config.replay_one_in;
        if !is_erased && replay_one_in > 0 && self.random.random_ratio(1, replay_one_in) {
            self.settle(&operations, &guards).await;
        }
    }

    /// Draws some records, each with the version that this writer knows as its base version, and perhaps a guard
    /// on another one.
    fn draw(&mut self) -> (Vec<Operation>, Vec<Guard>) {
        let WriterConfig { records, batch_max, ciphertext_bytes_max, guard_one_in, .. } =
            self.config;
        let (push, name, random) = (self.pushes, self.client.name(), &mut self.random);
        let mut numbers: Vec<_> = (0..records).collect();
        let count = random.random_range(1..=batch_max.min(records));
        let operations = (0..count)
            .map(|_| {
                let drawn = numbers.swap_remove(random.random_range(0..numbers.len()));
                let record_id = record_id(drawn);
                // No other write has this text, so it identifies its writer.
                let mut ciphertext = format!("{push} of {name} for {record_id}").into_bytes();
                let length = random.random_range(0..=ciphertext_bytes_max);
                ciphertext.resize(ciphertext.len().max(length), b'.');
                Operation {
                    base_version: self.versions.get(&record_id).copied(),
                    record_id,
                    ciphertext: Ciphertext::from_bytes(ciphertext),
                    deleted: random.random_ratio(1, 20),
                }
            })
            .collect();
        let is_guarded = guard_one_in > 0 && random.random_ratio(1, guard_one_in);
        let other = numbers.first().filter(|_| is_guarded).map(|&number| record_id(number));
        let guard = other.map(|record_id| {
            let version = self.versions.get(&record_id).copied().unwrap_or(Version::NONE);
            Guard { record_id, version }
        });
        (operations, guard.into_iter().collect())
    }

    /// Sends the same push until it is applied, gets a conflict, its vault is erased, or the server is at fault.
    /// Returns whether the vault was erased.
    async fn settle(&mut self, operations: &[Operation], guards: &[Guard]) -> bool {
        let started = Instant::now();
        while !self.client.has_fault() {
            match self.client.push_guarded(operations, guards).await {
                Outcome::Acknowledged { results } => {
                    for result in results {
                        self.learn(&result.record_id, result.version);
                    }
                    return false;
                }
                Outcome::Conflict { conflicts } => {
                    for conflict in conflicts {
                        match conflict {
                            ConflictEntry::Record(view) => {
                                self.learn(&view.record_id, view.version);
                            }
                            ConflictEntry::Missing(id) => self.forget(&id),
                        }
                    }
                    return false;
                }
                Outcome::VaultErased => {
                    self.versions.clear();
                    return true;
                }
                _ if started.elapsed() > UNSETTLED_MAX => {
                    self.client.fault(&format!("a push was not served for {UNSETTLED_MAX:?}"));
                }
                _ => self.client.service.pause().await,
            }
        }
        false
    }

    fn learn(&mut self, id: &str, version: u64) {
        let number = i64::try_from(version).ok().and_then(Version::new);
        match (RecordId::new(id), number) {
            (Ok(id), Some(number)) => {
                self.versions.insert(id, number);
            }
            _ => self.client.fault(&format!("a response has version {version} of {id}")),
        }
    }

    fn forget(&mut self, id: &str) {
        if let Ok(id) = RecordId::new(id) {
            self.versions.remove(&id);
        }
    }
}

fn record_id(number: usize) -> RecordId {
    RecordId::new(&format!("record-{number}")).expect("a short id")
}
