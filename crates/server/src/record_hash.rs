//! Keyed hashes of record ids, for logs: they tell records apart without revealing their ids.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use vaultsync_protocol::RecordId;
use vaultsync_store::VaultId;

/// The key of the hashes.
pub(crate) struct RecordHash(hmac::Key);

/// Bytes of the hash that are logged: enough to tell the records of one vault apart.
const BYTES: usize = 8;

impl RecordHash {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The hashes of several records of one vault, separated by spaces.
    pub(crate) fn of_all<'a>(
        &self,
        vault: VaultId,
        records: impl Iterator<Item = &'a RecordId>,
    ) -> String {
        records.map(|record| self.of(vault, record)).collect::<Vec<_>>().join(" ")
    }

    /// Sixteen hexadecimal digits, always the same for one record of one vault.
    fn of(&self, vault: VaultId, record: &RecordId) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(vault.as_bytes());
        context.update(record.as_str().as_bytes());
        let tag = context.sign();
        tag.as_ref().iter().take(BYTES).fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}
