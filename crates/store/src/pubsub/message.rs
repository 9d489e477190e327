//! The message format between processes: vaults and their heads.
//!
//! A version byte and the sender's 16 bytes, then for each vault its 16 bytes and its head in milliseconds,
//! in big-endian order. A message without vaults is a loopback probe: its sender waits for it to come back.

use uuid::Uuid;
use vaultsync_protocol::Timestamp;

use crate::VaultId;

/// The format's version. Nodes of different versions may serve from the same database, and a node drops
/// messages of an unknown version.
const VERSION: u8 = 1;

const SENDER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 16 + 8;

/// The most entries of a message that stay below NOTIFY's 8,000 bytes in base64.
const ENTRIES_MAX: usize = 240;

/// A vault and its head.
pub(super) type Entry = (VaultId, Timestamp);

/// Messages with these entries, as many as it takes.
pub(super) fn encode_all(sender: Uuid, entries: &[Entry]) -> impl Iterator<Item = Vec<u8>> {
    entries.chunks(ENTRIES_MAX).map(move |entries| encode(sender, entries))
}

/// The loopback probe.
pub(super) fn probe(sender: Uuid) -> Vec<u8> {
    encode(sender, &[])
}

/// One message, with at most [`ENTRIES_MAX`] entries.
fn encode(sender: Uuid, entries: &[Entry]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 + SENDER_BYTES + entries.len() * ENTRY_BYTES);
    message.push(VERSION);
    message.extend_from_slice(sender.as_bytes());
    for (vault, head) in entries {
        message.extend_from_slice(vault.as_bytes());
        message.extend_from_slice(&head.as_millis().to_be_bytes());
    }
    message
}

/// The sender and the entries of a message. `None` if it is malformed.
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
    fn a_message_is_decoded_as_it_was_encoded() {
        let entry = |number: i64| {
            (Vault::of("i", number.to_string()).id(), Timestamp::from_millis(number - 3))
        };
        for count in [0, 1, 2, 240] {
            let entries: Vec<_> = (0..count).map(entry).collect();
            assert_eq!(decode(&encode(SENDER, &entries)), Some((SENDER, entries)));
        }
    }

    #[test]
    fn the_longest_message_fits_in_a_notify() {
        let entry = (Vault::of("i", "s").id(), Timestamp::from_millis(0));
        let longest = encode(SENDER, &vec![entry; ENTRIES_MAX]);
        assert!(base64_simd::STANDARD.encode_to_string(longest).len() < 8000);
    }

    #[test]
    fn a_malformed_message_is_not_decoded() {
        let whole = encode(SENDER, &[(Vault::of("i", "s").id(), Timestamp::from_millis(5))]);
        for message in [&b""[..], b"rubbish", &whole[..whole.len() - 1], &[0; 41], &[1; 16]] {
            assert_eq!(decode(message), None, "{message:?}");
        }
    }
}
