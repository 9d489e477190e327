//! Manifests: which records a vault has, without their ciphertexts.

use std::borrow::Cow;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{Epoch, Issue, KnownEpoch, RecordDigest, RecordId, Timestamp, Version, query};

/// Maximum number of entries in one page of a manifest, and the default.
pub const MANIFEST_ENTRIES_MAX: usize = 1000;

/// Parameters of a manifest.
const PARAMETERS: [&str; 3] = ["after", "limit", "epoch"];

/// Request for one page of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRequest {
    /// Returns only records with a later id; `None` returns all.
    pub after: Option<RecordId>,
    /// Maximum number of entries in the page, from 1 to [`MANIFEST_ENTRIES_MAX`].
    pub limit: usize,
    /// Epoch of the history that the client expects to read, if it sent one.
    pub epoch: Option<KnownEpoch>,
}

impl Default for ManifestRequest {
    /// The first page.
    fn default() -> Self {
        Self { after: None, limit: MANIFEST_ENTRIES_MAX, epoch: None }
    }
}

impl ManifestRequest {
    /// Parses the query of a request, without its `?`.
    ///
    /// Unknown parameters are ignored. An empty `after` or `epoch` counts as absent.
    pub fn from_query(query: &str) -> Result<Self, Vec<Issue>> {
        let mut request = Self::default();
        query::parse(query, PARAMETERS, |name, value| request.set(name, value))?;
        Ok(request)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Cow<'static, str>> {
        match name {
            "after" if value.is_empty() => self.after = None,
            "after" => self.after = Some(RecordId::new(value)?),
            "limit" => self.limit = query::limit(value, MANIFEST_ENTRIES_MAX)?,
            "epoch" if value.is_empty() => self.epoch = None,
            "epoch" => self.epoch = Some(KnownEpoch::new(value).ok_or(KnownEpoch::RULE)?),
            _ => {}
        }
        Ok(())
    }
}

/// One page of a manifest, ordered by `recordId` in byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Manifest {
    /// The records, tombstones included.
    pub entries: Vec<ManifestEntry>,
    /// The last `recordId` of the page, to be sent as `after` in the next request; null if there are no
    /// further records.
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

/// Record without its ciphertext.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ManifestEntry {
    /// Id chosen by the client.
    #[serde(rename = "recordId")]
    #[schema(value_type = String, example = "note-1")]
    pub record_id: RecordId,
    /// Number of writes to the record.
    #[schema(value_type = usize, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 1)]
    pub version: Version,
    /// Whether the record is a tombstone.
    pub deleted: bool,
    /// Position in the vault's order.
    #[schema(value_type = String, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    pub updated_at: Timestamp,
    /// The first 16 bytes of the SHA-256 of the ciphertext, as 32 hexadecimal digits.
    #[schema(value_type = String, example = "2cf24dba5fb0a30e26e83b2ac5b9e29e")]
    pub digest: RecordDigest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_issues(query: &str, paths: &[&str]) {
        let issues = ManifestRequest::from_query(query).expect_err(query);
        let found: Vec<&str> = issues.iter().map(|issue| issue.path.as_str()).collect();
        assert_eq!(found, paths, "{query}");
    }

    #[test]
    fn parameters_are_optional() {
        for query in ["", "after=", "epoch=", "limit=1000", "cursor=x&wait=x"] {
            assert_eq!(
                ManifestRequest::from_query(query),
                Ok(ManifestRequest::default()),
                "{query}"
            );
        }
        let request = ManifestRequest::from_query("after=%C3%A9%20+%26&limit=1&epoch=e").unwrap();
        let after = request.after.as_ref().map(RecordId::as_str);
        assert_eq!((after, request.limit), (Some("é  &"), 1));
        assert_eq!(request.epoch, KnownEpoch::new("e"));
    }

    #[test]
    fn all_issues_are_reported_at_once() {
        for limit in ["", "0", "1001", "-1", "+1", "1.0", "x"] {
            check_issues(&format!("limit={limit}"), &["limit"]);
        }
        let long = "x".repeat(256);
        for after in ["%00", "a%0A", &long] {
            check_issues(&format!("after={after}"), &["after"]);
        }
        assert!(ManifestRequest::from_query(&format!("after={}", &long[1..])).is_ok());
        check_issues("after=a&after=a", &["after"]);
        check_issues(&format!("limit=0&after=%7F&epoch={long}"), &["limit", "after", "epoch"]);
    }
}
