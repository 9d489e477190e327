//! Lines of an export: each is a JSON object.

use serde::Serialize;

use crate::{Epoch, Record, RecordDigest, Timestamp};

/// First line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportStart<'a> {
    /// Always [`Self::FORMAT`].
    pub format: &'static str,
    /// Version of the format: [`Self::VERSION`].
    pub version: u32,
    /// Name of the vault; null for the default vault.
    pub vault: Option<&'a str>,
    /// Name of the vault's history; null if nothing was ever pushed.
    pub epoch: Option<Epoch>,
    /// The vault's clock when the export began. No later record is in it.
    pub head: Option<Timestamp>,
    /// When the export began, by the clock of the server.
    pub exported_at: Timestamp,
}

impl ExportStart<'_> {
    /// Name of the format.
    pub const FORMAT: &'static str = "vaultsync-export";
    /// Version of the format. Later versions may add members and lines without another number.
    pub const VERSION: u32 = 1;
}

/// Last line of an export. An export without it is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportEnd {
    /// Number of records in the export that are no tombstones.
    pub records: u64,
    /// Number of tombstones in the export.
    pub tombstones: u64,
    /// Bytes of ciphertext in the export.
    pub bytes: u64,
    /// SHA-256 of all bytes before this line, in hexadecimal.
    pub sha256: String,
    /// Whether the vault has changed since the export began.
    pub has_more: bool,
}

/// Appends the line of a record: as in a page, and the digest of its ciphertext.
pub fn write_exported_line(lines: &mut Vec<u8>, record: &Record) {
    let digest = RecordDigest::of(record.ciphertext.as_bytes());
    record.write_json_with_digest(digest, lines);
    lines.push(b'\n');
}
