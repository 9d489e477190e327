//! A client that founds a vault, erases it, and begins anew.
//!
//! It alone pushes without an epoch to its vault, so that each push belongs to one epoch for certain. All other
//! clients of the vault name the epoch that they have read.

use tokio_util::sync::CancellationToken;
use vaultsync_protocol::{Ciphertext, Operation, RecordId};

use super::{Client, Service};
use crate::history::Outcome;

/// Attempts until it gives up: a broken server may never answer as it must.
const ATTEMPTS_MAX: usize = 100_000;

/// Records that others write before the vault is erased again.
const WRITES_BETWEEN: usize = 20;

/// Pulls until the vault is erased in any case.
const PULLS_MAX: usize = 2000;

/// An eraser.
#[derive(Debug)]
pub struct Eraser<S> {
    client: Client<S>,
    vaults: usize,
}

impl<S: Service> Eraser<S> {
    /// An eraser of a vault to which nothing was pushed yet.
    pub fn new(client: Client<S>) -> Self {
        Self { client, vaults: 0 }
    }

    /// Pushes the first record of a new epoch, and reads the epoch.
    pub async fn begin(&mut self) {
        self.vaults += 1;
        let text = format!("epoch {} by {}", self.vaults, self.client.name());
        let operation = Operation {
            record_id: RecordId::new(&format!("first-{}", self.vaults)).expect("a short id"),
            base_version: None,
            ciphertext: Ciphertext::from_bytes(text.into_bytes()),
            deleted: false,
        };
        for _ in 0..ATTEMPTS_MAX {
            let is_pushed = matches!(
                self.client.push(std::slice::from_ref(&operation)).await,
                Outcome::Acknowledged { .. }
            );
            // A server that lost the push has no epoch, and gets it again.
            if is_pushed
                && let Outcome::Page { epoch: Some(_), .. } = self.client.pull(None, 1, false).await
            {
                return;
            }
            if self.client.has_fault() {
                return;
            }
            self.client.service.pause().await;
        }
        self.client.fault("the epoch of a new vault cannot be read");
    }

    /// Begins the vault, and then erases it and begins anew, each time that others have written some records, until
    /// it is stopped or has done so `erasures_max` times.
    pub async fn run(mut self, erasures_max: usize, stop: CancellationToken) {
        self.begin().await;
        for _ in 0..erasures_max {
            self.follow_writes(&stop).await;
            if stop.is_cancelled() || self.client.has_fault() {
                return;
            }
            self.erase().await;
            self.begin().await;
        }
    }

    /// Reads until others have written some records, or nothing happens for long.
    async fn follow_writes(&mut self, stop: &CancellationToken) {
        let (mut left, mut cursor) = (WRITES_BETWEEN, None);
        for _ in 0..PULLS_MAX {
            if left == 0 || stop.is_cancelled() || self.client.has_fault() {
                return;
            }
            match self.client.pull(cursor, 100, true).await {
                Outcome::Page { records, next_cursor, .. } => {
                    left = left.saturating_sub(records.len());
                    cursor = next_cursor.or(cursor);
                }
                _ => self.client.service.pause().await,
            }
        }
    }

    /// Erases the vault, and sends the request until it is acknowledged.
    pub async fn erase(&mut self) {
        let Some(epoch) = self.client.epoch().cloned() else { return };
        for _ in 0..ATTEMPTS_MAX {
            match self.client.erase(&epoch).await {
                Outcome::Erased => return,
                _ if self.client.has_fault() => return,
                _ => self.client.service.pause().await,
            }
        }
        self.client.fault("a vault cannot be erased");
    }
}
