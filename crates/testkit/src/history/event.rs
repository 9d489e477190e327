//! The lines of a history.
//!
//! Not here: what they mean together.

use std::{
    fmt,
    io::{self, BufRead},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// A device sends a request. Nothing of it has reached the server before this line.
    Begin {
        /// The number of the operation, which no other one has.
        operation: u64,
        /// Whose vault.
        user: Arc<str>,
        /// Which of the user's clients.
        device: Arc<str>,
        /// What it asks.
        request: Request,
    },
    /// The device knows what came of it. An operation without this line is of unknown outcome.
    End {
        /// The number that it began with.
        operation: u64,
        /// What the device was told.
        outcome: Outcome,
    },
    /// Records that the vault holds when all is over, tombstones included. A vault's state may be
    /// split over several of these lines; an empty one says that it was read.
    State {
        /// Whose vault.
        user: Arc<str>,
        /// Some of its records.
        records: Vec<Seen>,
    },
}

/// What a device asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// To apply these writes, all or none.
    Push {
        /// In the order of the body.
        operations: Vec<Write>,
    },
    /// To be told what has changed.
    Pull {
        /// Only what is later, in milliseconds since 1970; none is from the start.
        cursor: Option<i64>,
        /// The most records to answer.
        limit: usize,
    },
}

/// One write of a push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Write {
    /// Which record.
    pub record_id: Arc<str>,
    /// The version that the device edited.
    pub base_version: Option<u64>,
    /// What it wrote.
    pub digest: Digest,
    /// Whether that is a tombstone.
    pub deleted: bool,
}

/// What a device was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// 200 to a push.
    Acknowledged {
        /// One for each write, in the same order.
        results: Vec<Written>,
    },
    /// 409 to a push: nothing is written.
    Conflict {
        /// What stood in the way.
        conflicts: Vec<InTheWay>,
    },
    /// 429, 503 `unavailable` or the like: nothing is written or read.
    Refused,
    /// No answer, half of one, or one that says that the server does not know either.
    Unknown,
    /// 200 to a pull.
    Page {
        /// In the order of the page.
        records: Vec<Seen>,
        /// Where to read on.
        next_cursor: Option<i64>,
        /// Whether there is more.
        has_more: bool,
    },
}

/// One write that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// Which record.
    pub record_id: Arc<str>,
    /// The version that the write made.
    pub version: u64,
    /// Its place in the vault's order, where the server tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<i64>,
}

/// A record as a server showed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Which record.
    pub record_id: Arc<str>,
    /// Its version.
    pub version: u64,
    /// What it holds.
    pub digest: Digest,
    /// Whether it is a tombstone.
    pub deleted: bool,
    /// Its place in the vault's order, in milliseconds since 1970.
    pub updated_at: i64,
}

/// What stood in the way of a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InTheWay {
    /// This record.
    Record(Seen),
    /// That there is no record of this id.
    Nothing(Arc<str>),
}

/// The first 16 bytes of the SHA-256 of a ciphertext, in hexadecimal on the line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(u128);

impl Digest {
    /// The digest of those bytes.
    pub fn of(ciphertext: &[u8]) -> Self {
        let mut first = [0; 16];
        first.copy_from_slice(&digest(&SHA256, ciphertext).as_ref()[..16]);
        Self(u128::from_be_bytes(first))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Self).map_err(D::Error::custom)
    }
}

/// Why lines are no history.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct ReadError {
    line: usize,
    error: io::Error,
}

/// Reads the lines of a history.
pub fn read(lines: impl BufRead) -> Result<Vec<Event>, ReadError> {
    let mut events = Vec::new();
    for (index, line) in lines.lines().enumerate() {
        let event = line
            .and_then(|line| serde_json::from_str(&line).map_err(io::Error::from))
            .map_err(|error| ReadError { line: index + 1, error })?;
        events.push(event);
    }
    Ok(events)
}
