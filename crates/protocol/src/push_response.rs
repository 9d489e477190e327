//! Results of a push: written records and conflicts.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{Ciphertext, RecordId, Timestamp, Version};

/// Result of a push for one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// Id of the record.
    #[schema(value_type = String, example = "note-1")]
    pub record_id: RecordId,
    /// Version of the record after the push.
    #[schema(value_type = usize, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 1)]
    pub version: Version,
}

/// How a push that wrote records moved its vault's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadChange {
    /// The head before the push; `None` if nothing was ever pushed.
    pub head_before: Option<Timestamp>,
    /// The head after the push.
    pub head: Timestamp,
}

/// Conflicting record in its current state on the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Conflict {
    /// Id of the record.
    #[serde(rename = "recordId")]
    #[schema(value_type = String, example = "note-1")]
    pub record_id: RecordId,
    /// Current version; 0 if the server does not have the record.
    #[serde(rename = "currentVersion")]
    #[schema(value_type = usize, maximum = 9_007_199_254_740_991_i64, example = 2)]
    pub current_version: Version,
    /// Current ciphertext; empty if the server does not have the record.
    #[schema(value_type = String, content_encoding = "base64", example = "aGVsbG8=")]
    pub ciphertext: Ciphertext,
    /// Whether the record is a tombstone; true if the server does not have the record.
    pub deleted: bool,
    /// Position in the vault's order; null if the server does not have the record.
    #[schema(required = true, value_type = Option<String>, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    pub updated_at: Option<Timestamp>,
    /// Present, and true, if the push has a guard on the record and no operation.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub guard: bool,
}

impl Conflict {
    /// Conflict of a guard, or of a write with a base version, with a record that the server does not
    /// have.
    pub fn with_nothing(record_id: RecordId) -> Self {
        Self {
            record_id,
            current_version: Version::NONE,
            ciphertext: Ciphertext::default(),
            deleted: true,
            updated_at: None,
            guard: false,
        }
    }
}
