//! What a list of vaults says of each.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{Epoch, Timestamp};

/// One vault of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct VaultSummary {
    /// Name of the vault; null for the default vault.
    #[schema(required = true, example = "notes")]
    pub name: Option<String>,
    /// Name of the vault's history.
    #[schema(value_type = String, example = "8a0f6c3e-1d1b-4c55-9a1e-3f0e2b7c9d10")]
    pub epoch: Epoch,
    /// The vault's clock: the latest `updated_at` that it has assigned.
    #[schema(value_type = String, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    pub head: Timestamp,
    /// Number of records that are no tombstones; null if the vault is older than the counters and was not
    /// counted yet.
    #[schema(required = true, value_type = Option<usize>, example = 42)]
    pub records: Option<i64>,
    /// Bytes of ciphertext, tombstones included; null likewise.
    #[schema(required = true, value_type = Option<usize>, example = 43008)]
    pub bytes: Option<i64>,
}
