//! What a vault takes up.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{Epoch, Timestamp};

/// What a vault takes up. The counters are null if the vault is older than counters and was not counted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Usage {
    /// Number of records that are no tombstones.
    #[schema(required = true, value_type = Option<usize>, example = 42)]
    pub records: Option<i64>,
    /// Number of tombstones.
    #[schema(required = true, value_type = Option<usize>, example = 3)]
    pub tombstones: Option<i64>,
    /// Bytes of ciphertext, tombstones included.
    #[schema(required = true, value_type = Option<usize>, example = 43008)]
    pub bytes: Option<i64>,
    /// Bytes of ciphertext in the replaced versions that are kept.
    #[serde(rename = "historyBytes")]
    #[schema(value_type = usize, example = 8192)]
    pub history_bytes: i64,
    /// Name of the vault's history; null if nothing was ever pushed.
    #[schema(required = true, value_type = Option<String>, example = "8a0f6c3e-1d1b-4c55-9a1e-3f0e2b7c9d10")]
    pub epoch: Option<Epoch>,
    /// The vault's clock: the latest `updated_at` that it has assigned; null if nothing was ever
    /// pushed.
    #[schema(required = true, value_type = Option<String>, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    pub head: Option<Timestamp>,
}

impl Usage {
    /// Of a vault that does not exist.
    pub const NONE: Self = Self {
        records: Some(0),
        tombstones: Some(0),
        bytes: Some(0),
        history_bytes: 0,
        epoch: None,
        head: None,
    };
}
