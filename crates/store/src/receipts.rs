//! A vault's receipts: what it remembers of its last pushes, so that a push whose response was lost
//! can be sent again.
//!
//! Versions only grow while a record exists, so a batch can be applied once only: its digest is an
//! idempotency key that needs no header. A receipt is never removed before it ages out; the push plan
//! has the one case in which a remembered batch is a conflict (`check_version::check_remembered`).

use sha2::{Digest, Sha256};
use vaultsync_protocol::{OPERATIONS_MAX, Push, Version, Written};

use crate::check_version::WriteDecision;

/// How many pushes a vault remembers.
pub const RECEIPTS_MAX: usize = 32;

const DIGEST_BYTES: usize = 16;
const BITMAP_BYTES: usize = OPERATIONS_MAX.div_ceil(8);
const RECEIPT_BYTES: usize = DIGEST_BYTES + BITMAP_BYTES;

/// The first 16 bytes of the SHA-256 of a batch.
pub(crate) struct BatchDigest([u8; DIGEST_BYTES]);

impl BatchDigest {
    /// The digest of the operations and guards. Each member is preceded by its length or has a fixed one,
    /// so that no two batches are hashed as the same bytes. Guards begin with a length that no id has.
    pub(crate) fn of(push: &Push) -> Self {
        let mut sha = Sha256::new();
        for operation in push.operations() {
            let id = operation.record_id.as_str().as_bytes();
            // -1 stands for `null`: a client may send 0.
            let base = operation.base_version.map_or(-1, Version::get);
            sha.update((id.len() as u64).to_be_bytes());
            sha.update(id);
            sha.update(base.to_be_bytes());
            sha.update([u8::from(operation.deleted)]);
            sha.update((operation.ciphertext.len() as u64).to_be_bytes());
            sha.update(operation.ciphertext.as_bytes());
        }
        for guard in push.guards() {
            let id = guard.record_id.as_str().as_bytes();
            sha.update(u64::MAX.to_be_bytes());
            sha.update((id.len() as u64).to_be_bytes());
            sha.update(id);
            sha.update(guard.version.get().to_be_bytes());
        }
        let mut first = [0; DIGEST_BYTES];
        first.copy_from_slice(&sha.finalize()[..DIGEST_BYTES]);
        Self(first)
    }
}

/// The receipts of a vault's last pushes, oldest first, as they are stored: for each push its digest and
/// a bitmap of the operations that were inserted as version 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Receipts(Vec<u8>);

impl Receipts {
    pub(crate) const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// What `push` returned when it was applied, if its receipt is here.
    pub(crate) fn results(&self, push: &Push, digest: &BatchDigest) -> Option<Vec<Written>> {
        let receipt =
            self.0.chunks_exact(RECEIPT_BYTES).find(|receipt| receipt.starts_with(&digest.0))?;
        let bitmap = &receipt[DIGEST_BYTES..];
        let written = push.operations().iter().enumerate().map(|(index, operation)| Written {
            record_id: operation.record_id.clone(),
            version: if bitmap[index / 8] & (1 << (index % 8)) == 0 {
                operation.next_version()
            } else {
                Version::FIRST
            },
        });
        Some(written.collect())
    }

    /// Adds the receipt of an applied push, and removes the oldest one past [`RECEIPTS_MAX`].
    pub(crate) fn add(&mut self, digest: &BatchDigest, decisions: &[WriteDecision]) {
        let mut bitmap = [0; BITMAP_BYTES];
        for (index, decision) in decisions.iter().enumerate() {
            if *decision == WriteDecision::Apply(Version::FIRST) {
                bitmap[index / 8] |= 1 << (index % 8);
            }
        }
        let kept = (RECEIPTS_MAX - 1) * RECEIPT_BYTES;
        self.0.drain(..self.0.len().saturating_sub(kept));
        self.0.extend_from_slice(&digest.0);
        self.0.extend_from_slice(&bitmap);
    }
}
