//! The events of a history.
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
    /// A device is about to send a request. Nothing of it has reached the server before this event.
    Begin {
        /// Number of the operation, unique in the history.
        operation: u64,
        /// The vault.
        #[serde(flatten)]
        vault: VaultLabel,
        /// Name of the client, unique among those of the vault.
        device: Arc<str>,
        /// The request.
        request: Request,
    },
    /// The device knows the outcome. An operation without this event has an unknown outcome.
    End {
        /// The number from the operation's `Begin`.
        operation: u64,
        /// The outcome, as the device saw it.
        outcome: Outcome,
    },
    /// Records of the vault at the end of the history, tombstones included. The state of a vault may be
    /// split over several of these events; an empty one says that the vault was read.
    State {
        /// The vault.
        #[serde(flatten)]
        vault: VaultLabel,
        /// Some of its records.
        records: Vec<RecordView>,
    },
}

/// A vault by its user, and its name if it is not the user's default vault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VaultLabel {
    /// Owner of the vault.
    pub user: Arc<str>,
    /// Name of the vault.
    #[serde(default, rename = "vault", skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
}

impl VaultLabel {
    /// The user's vault of this name.
    pub fn named(user: &str, name: &str) -> Self {
        Self { user: user.into(), name: Some(name.into()) }
    }
}

/// The default vault of a user.
impl From<&str> for VaultLabel {
    fn from(user: &str) -> Self {
        Self { user: user.into(), name: None }
    }
}

impl fmt::Display for VaultLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            None => write!(f, "{}", self.user),
            Some(name) => write!(f, "{name} of {}", self.user),
        }
    }
}

/// A request of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// Apply these writes, all or none.
    Push {
        /// The writes in the order of the body.
        operations: Vec<Write>,
        /// Conditions on records that it does not write.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        guards: Vec<GuardView>,
        /// The epoch that it names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<Arc<str>>,
    },
    /// Return the records that have changed.
    Pull {
        /// Only later changes are requested, in milliseconds since 1970; `None` starts at the beginning.
        cursor: Option<i64>,
        /// Maximum number of records in the page.
        limit: usize,
        /// The epoch that it names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<Arc<str>>,
    },
    /// Erase the vault that has this epoch.
    Erase {
        /// The epoch.
        epoch: Arc<str>,
    },
}

/// One write of a push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Write {
    /// Id of the record.
    pub record_id: Arc<str>,
    /// The version that the device edited.
    pub base_version: Option<u64>,
    /// Digest of the written ciphertext.
    pub digest: Digest,
    /// Whether the write is a tombstone.
    pub deleted: bool,
}

/// A condition of a push: the record is at this version, 0 if there is no such record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardView {
    /// Id of the record.
    pub record_id: Arc<str>,
    /// The version.
    pub version: u64,
}

/// The outcome of a request, as the device saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// A push was answered 200.
    Acknowledged {
        /// One result for each write, in the same order.
        results: Vec<WriteResult>,
    },
    /// A push was answered 409: nothing is written.
    Conflict {
        /// The conflicting records.
        conflicts: Vec<ConflictEntry>,
    },
    /// The response was 429, 503 `unavailable` or similar: nothing is written or read.
    Refused,
    /// The response was 410 `vault_erased`: nothing is written or read, and never will be in this epoch.
    VaultErased,
    /// An erasure was answered 200.
    Erased,
    /// There was no response, half of one, or one that says that the server does not know the outcome.
    Unknown,
    /// A pull was answered 200.
    Page {
        /// The records in the order of the page.
        records: Vec<RecordView>,
        /// The cursor of the next page.
        next_cursor: Option<i64>,
        /// Whether there is more to read.
        has_more: bool,
        /// The vault's epoch; `None` if nothing was ever pushed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        epoch: Option<Arc<str>>,
    },
}

/// The result of one acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteResult {
    /// Id of the record.
    pub record_id: Arc<str>,
    /// The version that the write made.
    pub version: u64,
    /// Position of the write in the vault's order, if the server returns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<i64>,
}

/// A record as the server returned it, or as the database has it at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordView {
    /// Id of the record.
    pub record_id: Arc<str>,
    /// Its version.
    pub version: u64,
    /// Digest of its ciphertext.
    pub digest: Digest,
    /// Whether it is a tombstone.
    pub deleted: bool,
    /// Its position in the vault's order, in milliseconds since 1970.
    pub updated_at: i64,
}

/// An entry of a conflict response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConflictEntry {
    /// The conflicting record.
    Record(RecordView),
    /// There is no record with this id.
    Missing(Arc<str>),
}

/// The first 16 bytes of the SHA-256 of a ciphertext, written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(u128);

impl Digest {
    /// The digest of a ciphertext.
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

/// A line of a history file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct ReadError {
    line: usize,
    error: io::Error,
}

/// Reads the events of a history file.
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
