//! History: replaced versions of records, and the states that records had.

mod request;

use serde::Serialize;
use utoipa::ToSchema;

pub use self::request::{HistoryQuery, HistoryRequest};
use crate::{Ciphertext, Epoch, RecordDigest, RecordId, Timestamp, Version};

/// Maximum number of versions in one page of a record's history, and of records that one page of states looks
/// at; and the default of both.
pub const HISTORY_ENTRIES_MAX: usize = 1000;

/// One page of the kept versions of a record, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordHistory {
    /// Id of the record.
    #[schema(value_type = String, example = "note-1")]
    pub record_id: RecordId,
    /// The versions that were replaced and are kept. The current version is not one of them.
    pub versions: Vec<KeptVersion>,
    /// The last version of the page, to be sent as `before` in the next request; null if there are no older
    /// ones.
    #[schema(required = true, value_type = Option<usize>, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 3)]
    pub next: Option<Version>,
    /// Name of the vault's history; null if nothing was ever pushed.
    #[schema(required = true, value_type = Option<String>, example = "8a0f6c3e-1d1b-4c55-9a1e-3f0e2b7c9d10")]
    pub epoch: Option<Epoch>,
    /// The vault's clock: the latest `updated_at` that it has assigned; null if nothing was ever
    /// pushed.
    #[schema(required = true, value_type = Option<String>, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    pub head: Option<Timestamp>,
}

/// Replaced version of a record, without its ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct KeptVersion {
    /// Number of writes to the record, this one included.
    #[schema(value_type = usize, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 3)]
    pub version: Version,
    /// Whether the version is a tombstone.
    pub deleted: bool,
    /// Position of the version in the vault's order.
    #[schema(value_type = String, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    pub updated_at: Timestamp,
    /// The `updated_at` of the version that replaced it.
    #[schema(value_type = String, format = DateTime, example = "2024-01-15T10:31:07.250Z")]
    pub replaced_at: Timestamp,
    /// Bytes of its ciphertext.
    #[schema(example = 1024)]
    pub bytes: usize,
    /// The first 16 bytes of the SHA-256 of the ciphertext, as 32 hexadecimal digits.
    #[schema(value_type = String, example = "2cf24dba5fb0a30e26e83b2ac5b9e29e")]
    pub digest: RecordDigest,
}

/// One version of a record, if the server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct FoundVersion {
    /// The record as it was at this version; null if the server does not have it.
    #[schema(required = true)]
    pub record: Option<RecordVersion>,
    /// Name of the vault's history; null if nothing was ever pushed.
    #[schema(required = true, value_type = Option<String>, example = "8a0f6c3e-1d1b-4c55-9a1e-3f0e2b7c9d10")]
    pub epoch: Option<Epoch>,
    /// The vault's clock: the latest `updated_at` that it has assigned; null if nothing was ever
    /// pushed.
    #[schema(required = true, value_type = Option<String>, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    pub head: Option<Timestamp>,
}

/// Record as it was at one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RecordVersion {
    /// Id of the record.
    #[serde(rename = "recordId")]
    #[schema(value_type = String, example = "note-1")]
    pub record_id: RecordId,
    /// Number of writes to the record, this one included.
    #[schema(value_type = usize, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 3)]
    pub version: Version,
    /// Whether the version is a tombstone.
    pub deleted: bool,
    /// Standard base64 of the bytes that were pushed.
    #[schema(value_type = String, content_encoding = "base64", example = "aGVsbG8=")]
    pub ciphertext: Ciphertext,
    /// Position of the version in the vault's order.
    #[schema(value_type = String, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    pub updated_at: Timestamp,
    /// The `updated_at` of the version that replaced it; null if it is the current one.
    #[schema(required = true, value_type = Option<String>, format = DateTime, example = "2024-01-15T10:31:07.250Z")]
    pub replaced_at: Option<Timestamp>,
    /// The first 16 bytes of the SHA-256 of the ciphertext, as 32 hexadecimal digits.
    #[schema(value_type = String, example = "2cf24dba5fb0a30e26e83b2ac5b9e29e")]
    pub digest: RecordDigest,
}

/// One page of the states that records had at a cursor, ordered by `recordId` in byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PastStates {
    /// The records that changed after the cursor, of those that the page looked at. May be empty although there
    /// is a `next`.
    pub entries: Vec<PastState>,
    /// The last `recordId` that the page looked at, to be sent as `after` in the next request; null if there are
    /// no further records.
    #[schema(required = true, value_type = Option<String>, example = "note-1")]
    pub next: Option<RecordId>,
    /// Name of the vault's history; null if nothing was ever pushed.
    #[schema(required = true, value_type = Option<String>, example = "8a0f6c3e-1d1b-4c55-9a1e-3f0e2b7c9d10")]
    pub epoch: Option<Epoch>,
    /// The vault's clock: the latest `updated_at` that it has assigned; null if nothing was ever
    /// pushed.
    #[schema(required = true, value_type = Option<String>, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    pub head: Option<Timestamp>,
}

/// State that a record had at a cursor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PastState {
    /// Id of the record.
    #[serde(rename = "recordId")]
    #[schema(value_type = String, example = "note-1")]
    pub record_id: RecordId,
    /// The version that the record has now.
    #[serde(rename = "currentVersion")]
    #[schema(value_type = usize, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 5)]
    pub current_version: Version,
    /// The version that the record had; 0 if it did not exist yet; null if that is not known.
    #[schema(required = true, value_type = Option<usize>, minimum = 0, maximum = 9_007_199_254_740_991_i64, example = 3)]
    pub version: Option<Version>,
    /// Whether it was a tombstone. This member and the three that follow are null if `version` is 0 or null.
    #[schema(required = true, example = false)]
    pub deleted: Option<bool>,
    /// Position of that version in the vault's order.
    #[schema(required = true, value_type = Option<String>, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    pub updated_at: Option<Timestamp>,
    /// Bytes of its ciphertext.
    #[schema(required = true, example = 1024)]
    pub bytes: Option<usize>,
    /// The first 16 bytes of the SHA-256 of its ciphertext, as 32 hexadecimal digits.
    #[schema(required = true, value_type = Option<String>, example = "2cf24dba5fb0a30e26e83b2ac5b9e29e")]
    pub digest: Option<RecordDigest>,
    /// Whether the record was in this state at the cursor. If not, it was in a later one that is not kept.
    pub exact: bool,
}
