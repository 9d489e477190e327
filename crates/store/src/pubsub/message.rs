//! What processes tell each other: vaults, and where their clocks stand.
//!
//! A version and the sender's 16 bytes, then for each vault its 16 bytes and its head in milliseconds,
//! big end first. A message about no vault is a greeting: its sender looks whether it comes back.

use uuid::Uuid;
use vaultsync_protocol::Timestamp;

use crate::VaultId;

/// Nodes of another version may serve from the same database; one that does not know a message's
/// version lets it go.
const VERSION: u8 = 1;

const SENDER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 16 + 8;

/// As many as stay below NOTIFY's 8,000 bytes when they are written in base64.
pub(super) const ENTRIES_MAX: usize = 240;

/// A vault, and where its clock stands.
pub(super) type Entry = (VaultId, Timestamp);

/// One message about these, at most [`ENTRIES_MAX`] of them.
pub(super) fn encode(sender: Uuid, entries: &[Entry]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 + SENDER_BYTES + entries.len() * ENTRY_BYTES);
    message.push(VERSION);
    message.extend_from_slice(sender.as_bytes());
    for (vault, head) in entries {
        message.extend_from_slice(vault.as_bytes());
        message.extend_from_slice(&head.as_millis().to_be_bytes());
    }
    message
}

/// Who sent a message, and what it tells; `None` where it is none.
pub(super) fn decode(message: &[u8]) -> Option<(Uuid, Vec<Entry>)> {
    let (version, message) = message.split_first()?;
    let (sender, entries) = message.split_first_chunk::<SENDER_BYTES>()?;
    let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
    if *version != VERSION || !rest.is_empty() {
        return None;
    }
    let entry = |bytes: &[u8; ENTRY_BYTES]| {
        let (vault, head) = bytes.split_first_chunk::<16>()?;
        let head = i64::from_be_bytes(head.try_into().ok()?);
        Some((VaultId::from_bytes(*vault), Timestamp::from_millis(head)))
    };
    let entries = entries.iter().map(entry).collect::<Option<_>>()?;
    Some((Uuid::from_bytes(*sender), entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vault;

    const SENDER: Uuid = Uuid::from_u128(7);

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let entry = |number: i64| {
            (Vault::of("i", number.to_string()).id(), Timestamp::from_millis(number - 3))
        };
        for count in [0, 1, 2, 240] {
            let entries: Vec<_> = (0..count).map(entry).collect();
            assert_eq!(decode(&encode(SENDER, &entries)), Some((SENDER, entries)));
        }
    }

    #[test]
    fn the_longest_message_fits_in_a_notification() {
        let entry = (Vault::of("i", "s").id(), Timestamp::from_millis(0));
        let longest = encode(SENDER, &vec![entry; ENTRIES_MAX]);
        assert!(base64_simd::STANDARD.encode_to_string(longest).len() < 8000);
    }

    #[test]
    fn what_is_no_message_is_none() {
        let whole = encode(SENDER, &[(Vault::of("i", "s").id(), Timestamp::from_millis(5))]);
        for message in [&b""[..], b"rubbish", &whole[..whole.len() - 1], &[0; 41], &[1; 16]] {
            assert_eq!(decode(message), None, "{message:?}");
        }
    }
}
