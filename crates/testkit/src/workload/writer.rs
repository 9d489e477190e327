//! A client that writes the records of a vault that it shares with others.

use std::collections::HashMap;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use vaultsync_protocol::{Ciphertext, Operation, RecordId, Version};

use super::{Device, Service};
use crate::history::{Digest, InTheWay, Outcome, Request, Write};

/// What writers write.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Records that all writers of a vault share. With few of them, writers often want the same one.
    pub records: usize,
    /// The most writes of a push.
    pub batch_max: usize,
    /// One push in that many is sent again after its 200, as by a client that lost the answer.
    pub one_again_in: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self { records: 60, batch_max: 5, one_again_in: 20 }
    }
}

/// A writer, and afterwards what it says of the server.
#[derive(Debug)]
pub struct Writer<S> {
    device: Device,
    service: S,
    load: Load,
    random: StdRng,
    /// The versions that it knows of.
    known: HashMap<RecordId, Version>,
    turns: usize,
    /// Requests that were refused, or of unknown outcome.
    pub unserved: usize,
    /// What should never be answered.
    pub faults: Vec<String>,
}

impl<S: Service> Writer<S> {
    /// One that draws what its seed says.
    pub fn new(device: Device, service: S, load: Load, seed: u64) -> Self {
        Self {
            device,
            service,
            load,
            random: StdRng::seed_from_u64(seed),
            known: HashMap::new(),
            turns: 0,
            unserved: 0,
            faults: Vec::new(),
        }
    }

    /// Writes until told to stop, or until the server is at fault; what was sent by then is seen
    /// through.
    #[must_use = "it has what the server did wrong"]
    pub async fn run(mut self, stop: impl Fn() -> bool) -> Self {
        while !stop() && self.faults.is_empty() {
            self.turn().await;
        }
        self
    }

    /// Draws one push, and sends it until it is answered.
    pub async fn turn(&mut self) {
        self.turns += 1;
        let operations = self.draw();
        self.see_through(&operations).await;
        if self.random.random_ratio(1, self.load.one_again_in) && self.faults.is_empty() {
            self.see_through(&operations).await;
        }
    }

    /// Some records, each on top of the version that this writer knows.
    fn draw(&mut self) -> Vec<Operation> {
        let mut numbers: Vec<_> = (0..self.load.records).collect();
        let wanted = self.random.random_range(1..=self.load.batch_max.min(numbers.len()));
        let (turn, device) = (self.turns, &self.device);
        let random = &mut self.random;
        (0..wanted)
            .map(|_| {
                let drawn = numbers.swap_remove(random.random_range(0..numbers.len()));
                let record_id = RecordId::new(&format!("record {drawn}")).expect("a short id");
                // No other write has this text, so that whoever sees it knows who wrote it.
                let text = format!("{turn} of {} of {} for {record_id}", device.name, device.user);
                Operation {
                    base_version: self.known.get(&record_id).copied(),
                    record_id,
                    ciphertext: Ciphertext::from_bytes(text.into_bytes()),
                    deleted: random.random_ratio(1, 20),
                }
            })
            .collect()
    }

    async fn see_through(&mut self, operations: &[Operation]) {
        loop {
            let Device { recorder, user, name } = &self.device;
            let request = Request::Push { operations: operations.iter().map(write).collect() };
            let number = recorder.begin(user, name, request);
            let answer = self.service.push(operations).await;
            let outcome = answer.unwrap_or_else(|fault| {
                self.faults.push(format!("{user}, {name}: {fault}"));
                Outcome::Unknown
            });
            recorder.end(number, outcome.clone());
            match &outcome {
                Outcome::Acknowledged { results } => {
                    for result in results {
                        self.learn(&result.record_id, result.version);
                    }
                    return;
                }
                Outcome::Conflict { conflicts } => {
                    for conflict in conflicts {
                        match conflict {
                            InTheWay::Record(seen) => self.learn(&seen.record_id, seen.version),
                            InTheWay::Nothing(_) => {}
                        }
                    }
                    return;
                }
                _ if !self.faults.is_empty() => return,
                _ => {
                    self.unserved += 1;
                    self.service.pause().await;
                }
            }
        }
    }

    fn learn(&mut self, id: &str, version: u64) {
        let version = i64::try_from(version).ok().and_then(Version::new);
        match (RecordId::new(id), version) {
            (Ok(id), Some(version)) => {
                self.known.insert(id, version);
            }
            _ => self.faults.push(format!("an answer tells of a version {version:?} of {id}")),
        }
    }
}

fn write(operation: &Operation) -> Write {
    Write {
        record_id: operation.record_id.as_str().into(),
        base_version: operation.base_version.map(|base| base.get().unsigned_abs()),
        digest: Digest::of(operation.ciphertext.as_bytes()),
        deleted: operation.deleted,
    }
}
