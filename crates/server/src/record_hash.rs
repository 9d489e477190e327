//! How a log names a record: so that its operator can tell two records apart and not what they are
//! called.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use vaultsync_protocol::RecordId;
use vaultsync_store::VaultId;

/// Names records by a keyed hash.
pub(crate) struct RecordHash(hmac::Key);

/// How much of the hash is logged: enough to tell a vault's records apart.
const BYTES: usize = 8;

impl RecordHash {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// Sixteen hexadecimal digits, the same for the same record of the same vault.
    pub(crate) fn of(&self, vault: VaultId, record: &RecordId) -> String {
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
