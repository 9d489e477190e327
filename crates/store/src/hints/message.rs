//! What processes tell each other: vaults, and where their clocks stand.
//!
//! A version, then for each vault its 16 bytes and its head in milliseconds, big end first.

use vaultsync_protocol::Timestamp;

use crate::VaultId;

/// Nodes of another version may serve from the same database; one that does not know a message's
/// version lets it go.
const VERSION: u8 = 1;

const ENTRY_BYTES: usize = 16 + 8;

/// As many as stay below NOTIFY's 8,000 bytes when they are written in base64.
pub(super) const ENTRIES_MAX: usize = 240;

/// One message for these, at most [`ENTRIES_MAX`] of them.
pub(super) fn encode(entries: &[(VaultId, Timestamp)]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 + entries.len() * ENTRY_BYTES);
    message.push(VERSION);
    for (vault, head) in entries {
        message.extend_from_slice(vault.as_bytes());
        message.extend_from_slice(&head.as_millis().to_be_bytes());
    }
    message
}

/// What a message tells; `None` where it is none.
pub(super) fn decode(message: &[u8]) -> Option<Vec<(VaultId, Timestamp)>> {
    let (version, entries) = message.split_first()?;
    let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
    if *version != VERSION || !rest.is_empty() {
        return None;
    }
    let entry = |bytes: &[u8; ENTRY_BYTES]| {
        let (vault, head) = bytes.split_first_chunk::<16>()?;
        let head = i64::from_be_bytes(head.try_into().ok()?);
        Some((VaultId::from_bytes(*vault), Timestamp::from_millis(head)))
    };
    entries.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vault;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let entry = |number: i64| {
            (Vault::of("i", number.to_string()).id(), Timestamp::from_millis(number - 3))
        };
        for count in [0, 1, 2, 240] {
            let entries: Vec<_> = (0..count).map(entry).collect();
            assert_eq!(decode(&encode(&entries)), Some(entries));
        }
    }

    #[test]
    fn the_longest_message_fits_in_a_notification() {
        let entry = (Vault::of("i", "s").id(), Timestamp::from_millis(0));
        let longest = encode(&vec![entry; ENTRIES_MAX]);
        assert!(base64_simd::STANDARD.encode_to_string(longest).len() < 8000);
    }

    #[test]
    fn what_is_no_message_is_none() {
        let whole = encode(&[(Vault::of("i", "s").id(), Timestamp::from_millis(5))]);
        for message in [&b""[..], b"rubbish", &whole[..whole.len() - 1], &[0; 25], &[2; 25]] {
            assert_eq!(decode(message), None, "{message:?}");
        }
    }
}
