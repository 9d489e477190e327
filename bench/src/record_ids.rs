//! The ids of the records that a workload writes.
//!
//! Apps use random ids, and they cost more: each new record belongs to another page of an index. Sequential
//! ids are appended to its end.

use std::io::Write as _;

use clap::ValueEnum;
use uuid::{Builder, fmt::Hyphenated};

/// Digits of a sequential id.
const DIGITS: usize = 12;

/// How the records of a vault are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordIds {
    /// Random ids, as apps use them: UUIDs of version 4
    #[default]
    Random,
    /// Ids in the order of the inserts, which append to the indexes
    Sequential,
}

impl RecordIds {
    /// Its name on the command line and in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Sequential => "sequential",
        }
    }

    /// The id of a number, always the same.
    pub(crate) fn id(self, number: u64) -> String {
        let mut id = Vec::new();
        self.write(number, &mut id);
        String::from_utf8(id).expect("ids are ASCII")
    }

    /// Appends the id of a number. All ids have the same length.
    pub(crate) fn write(self, number: u64, to: &mut Vec<u8>) {
        match self {
            Self::Random => {
                let mut buffer = [0; Hyphenated::LENGTH];
                let id = Builder::from_random_bytes(random_bytes(number)).into_uuid();
                to.extend_from_slice(id.hyphenated().encode_lower(&mut buffer).as_bytes());
            }
            Self::Sequential => {
                let _ = write!(to, "record-{number:0DIGITS$}");
            }
        }
    }

    /// Length of an id, in bytes.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Random => Hyphenated::LENGTH,
            Self::Sequential => "record-".len() + DIGITS,
        }
    }
}

/// Bytes that look random, and differ for each number. An update needs the id of its record again, and
/// remembering the ids of millions of records would cost the load generator more than computing them.
fn random_bytes(number: u64) -> [u8; 16] {
    let halves = [split_mix(number << 1), split_mix(number << 1 | 1)];
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&halves[0].to_be_bytes());
    bytes[8..].copy_from_slice(&halves[1].to_be_bytes());
    bytes
}

/// The output of `SplitMix64` at a position of its sequence.
const fn split_mix(position: u64) -> u64 {
    let mut z = position.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::{Uuid, Version};

    use super::*;

    #[test]
    fn random_ids_are_uuids_that_repeat_only_with_their_number() {
        let ids: BTreeSet<_> = (0..10_000).map(|number| RecordIds::Random.id(number)).collect();
        assert_eq!(ids.len(), 10_000);
        for id in &ids {
            assert_eq!(id.len(), RecordIds::Random.bytes());
            assert_eq!(Uuid::parse_str(id).unwrap().get_version(), Some(Version::Random));
        }
        // In the order of the numbers, about half of the ids are below the one before.
        let below = (1..10_000).filter(|&n| RecordIds::Random.id(n) < RecordIds::Random.id(n - 1));
        assert!((4_500..5_500).contains(&below.count()));
        assert_eq!(RecordIds::Random.id(7), RecordIds::Random.id(7));
    }

    #[test]
    fn the_sequence_is_split_mix() {
        // The first outputs for the seed 0, as published with the algorithm.
        assert_eq!(split_mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(split_mix(1), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn sequential_ids_are_in_the_order_of_their_numbers() {
        assert_eq!(RecordIds::Sequential.id(43), "record-000000000043");
        assert_eq!(RecordIds::Sequential.id(43).len(), RecordIds::Sequential.bytes());
        assert!(RecordIds::Sequential.id(99) < RecordIds::Sequential.id(100));
    }
}
