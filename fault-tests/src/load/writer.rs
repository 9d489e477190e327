//! A client that writes the records of a vault that it shares with others.

use std::{collections::HashMap, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Addresses, Batch, Change, Plan, Session, Told};

/// How long a client waits before it tries again where nobody served it. A real one heeds
/// `Retry-After`; this one is to find every moment in which something could go wrong.
const PAUSE: Duration = Duration::from_millis(25);

/// How long one push may stay unsettled before something must be wrong with the server.
const UNSETTLED_MAX: Duration = Duration::from_secs(180);

pub(super) struct Writer {
    session: Session,
    addresses: Addresses,
    plan: Plan,
    number: usize,
    random: StdRng,
    /// The versions it knows of.
    known: HashMap<String, u64>,
}

impl Writer {
    pub(super) fn new(session: Session, addresses: Addresses, plan: Plan, number: usize) -> Self {
        let random = StdRng::seed_from_u64(number as u64);
        Self { session, addresses, plan, number, random, known: HashMap::new() }
    }

    /// Writes until told to stop; what was sent by then is seen through.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut count = 0_u64;
        while !stop.is_cancelled() {
            count += 1;
            let batch = self.draw(count);
            if !self.see_through(&batch).await {
                return;
            }
            tokio::time::sleep(self.plan.rest).await;
        }
    }

    /// Some records, each on top of the version that this writer knows.
    fn draw(&mut self, count: u64) -> Batch {
        let mut numbers: Vec<_> = (0..self.plan.records).collect();
        let wanted = self.random.random_range(1..=self.plan.batch_max);
        let changes: Vec<_> = (0..wanted)
            .map(|_| {
                let drawn = numbers.swap_remove(self.random.random_range(0..numbers.len()));
                let record_id = format!("record-{drawn}");
                // Like no other write, so that whoever sees it knows whose it is.
                let mut ciphertext =
                    format!("{count} of {} for {record_id}", self.session.device()).into_bytes();
                let length = self.random.random_range(0..=self.plan.bytes_max);
                ciphertext.resize(ciphertext.len().max(length), b'.');
                let base_version = self.known.get(&record_id).copied();
                let deleted = self.random.random_ratio(1, 20);
                Change { record_id, base_version, ciphertext, deleted }
            })
            .collect();
        Batch::new(&changes)
    }

    /// Sends the same push until it is settled, whoever answers; whether it ever was.
    async fn see_through(&mut self, batch: &Batch) -> bool {
        let begun = Instant::now();
        for attempt in 0.. {
            let address = &self.addresses[(self.number + attempt) % self.addresses.len()];
            match self.session.push(address, batch).await {
                Told::Applied(written) => self.known.extend(written),
                Told::Conflict(conflicts) => {
                    for (record, version) in conflicts {
                        match version {
                            Some(version) => self.known.insert(record, version),
                            None => self.known.remove(&record),
                        };
                    }
                }
                Told::Unserved if begun.elapsed() < UNSETTLED_MAX => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Told::Unserved => {
                    let fault = format!("{} was not served any more", self.session.device());
                    self.session.tally.count(|tally| tally.faults.push(fault));
                    return false;
                }
            }
            let took = begun.elapsed();
            self.session.tally.count(|tally| tally.longest_push = tally.longest_push.max(took));
            return true;
        }
        false
    }
}
