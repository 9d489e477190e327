//! Exports: a whole vault as a file of one JSON object a line.

use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{Epoch, Issue, Record, RecordDigest, RecordVersion, Timestamp, query, write_line};

/// Request for an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportRequest {
    /// Whether kept versions follow the records.
    pub history: bool,
}

impl ExportRequest {
    /// Parses the query of a request, without its `?`. Unknown parameters are ignored. An empty `history` counts
    /// as absent.
    pub fn from_query(query: &str) -> Result<Self, Vec<Issue>> {
        let mut request = Self::default();
        query::parse(query, ["history"], |_, value| {
            request.history = match value {
                "true" => true,
                "false" | "" => false,
                _ => return Err("must be true or false".into()),
            };
            Ok(())
        })?;
        Ok(request)
    }
}

/// First line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportStart<'a> {
    format: &'static str,
    version: u32,
    /// Name of the vault; null for the default vault.
    vault: Option<&'a str>,
    /// Name of the vault's history; null if nothing was ever pushed.
    epoch: Option<Epoch>,
    /// The vault's clock when the export began. No later record is in it.
    head: Option<Timestamp>,
    /// When the export began, by the clock of the server.
    exported_at: Timestamp,
    /// Whether kept versions follow the records.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    history: bool,
}

/// Name of the format.
const FORMAT: &str = "vaultsync-export";

/// Version of the format. Later versions may add members and lines without another number.
const FORMAT_VERSION: u32 = 1;

/// Last line of an export. An export without it is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportEnd {
    /// Number of records in the export that are no tombstones.
    records: u64,
    /// Number of tombstones in the export.
    tombstones: u64,
    /// Bytes of ciphertext of records and tombstones.
    bytes: u64,
    /// The kept versions, if the export has them.
    #[serde(flatten)]
    history: Option<HistoryCounts>,
    /// SHA-256 of all bytes before this line, in hexadecimal.
    sha256: String,
    /// Whether the vault has changed since the export began.
    has_more: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct HistoryCounts {
    /// Number of kept versions in the export.
    versions: u64,
    /// Bytes of ciphertext of these versions.
    history_bytes: u64,
}

/// Writes the lines of an export, and counts them for its last one.
#[derive(Debug)]
pub struct ExportWriter {
    /// Name of the vault; empty for the default vault.
    vault: String,
    exported_at: Timestamp,
    head: Option<Timestamp>,
    history: Option<HistoryCounts>,
    sha256: Sha256,
    records: u64,
    tombstones: u64,
    bytes: u64,
}

impl ExportWriter {
    /// For an export that begins now, of the vault with this name, which is empty for the default vault.
    pub fn new(vault: &str, request: ExportRequest, now: Timestamp) -> Self {
        Self {
            vault: vault.to_owned(),
            exported_at: now,
            head: None,
            history: request.history.then(HistoryCounts::default),
            sha256: Sha256::new(),
            records: 0,
            tombstones: 0,
            bytes: 0,
        }
    }

    /// The name of the file. It needs no quoting.
    pub fn file_name(&self) -> String {
        let time = self.exported_at.to_string();
        let date = time.split('T').next().unwrap_or_default();
        match self.vault.as_str() {
            "" => format!("vaultsync-{date}.ndjson"),
            name => format!("vaultsync-{name}-{date}.ndjson"),
        }
    }

    /// Whether kept versions follow the records.
    pub const fn has_history(&self) -> bool {
        self.history.is_some()
    }

    /// Appends the first line.
    pub fn start(&mut self, lines: &mut Vec<u8>, epoch: Option<Epoch>, head: Option<Timestamp>) {
        let before = lines.len();
        self.head = head;
        let start = ExportStart {
            format: FORMAT,
            version: FORMAT_VERSION,
            vault: (!self.vault.is_empty()).then_some(&self.vault),
            epoch,
            head,
            exported_at: self.exported_at,
            history: self.has_history(),
        };
        write_line(lines, &start);
        self.sha256.update(&lines[before..]);
    }

    /// Appends the line of a record: as in a page, and the digest of its ciphertext.
    pub fn record(&mut self, lines: &mut Vec<u8>, record: &Record) {
        let before = lines.len();
        let digest = RecordDigest::of(record.ciphertext.as_bytes());
        record.write_json_with_digest(digest, lines);
        lines.push(b'\n');
        self.sha256.update(&lines[before..]);
        let counter = if record.deleted { &mut self.tombstones } else { &mut self.records };
        *counter += 1;
        self.bytes += record.ciphertext.len() as u64;
    }

    /// Appends the line of a kept version, unless it was written after the export began.
    pub fn version(&mut self, lines: &mut Vec<u8>, version: &RecordVersion) {
        let Some(history) = self.history.as_mut().filter(|_| Some(version.updated_at) <= self.head)
        else {
            return;
        };
        history.versions += 1;
        history.history_bytes += version.ciphertext.len() as u64;
        let before = lines.len();
        write_line(lines, version);
        self.sha256.update(&lines[before..]);
    }

    /// Appends the last line.
    pub fn end(&self, lines: &mut Vec<u8>, has_more: bool) {
        let digest = self.sha256.clone().finalize();
        let sha256 = digest.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let Self { records, tombstones, bytes, history, .. } = *self;
        write_line(lines, &ExportEnd { records, tombstones, bytes, history, sha256, has_more });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ciphertext, RecordId, Version};

    #[test]
    fn history_is_true_or_false() {
        let history = |query| ExportRequest::from_query(query).map(|request| request.history);
        assert_eq!(history("history=true"), Ok(true));
        for query in ["", "history=", "history=false", "x=1&limit=5"] {
            assert_eq!(history(query), Ok(false), "{query}");
        }
        for query in ["history=1", "history=TRUE", "history=yes", "history=true&history=true"] {
            let issues = history(query).expect_err(query);
            assert_eq!(issues[0].path, "history", "{query}");
        }
    }

    fn version(number: i64, updated_at: i64) -> RecordVersion {
        let ciphertext = Ciphertext::from_bytes(b"old".to_vec());
        RecordVersion {
            record_id: RecordId::new("a").unwrap(),
            version: Version::new(number).unwrap(),
            deleted: false,
            digest: RecordDigest::of(ciphertext.as_bytes()),
            ciphertext,
            updated_at: Timestamp::from_millis(updated_at),
            replaced_at: Some(Timestamp::from_millis(updated_at + 1)),
        }
    }

    /// The lines of an export at the head 1000 with versions of 999, 1000 and 1001.
    fn lines(history: bool) -> Vec<serde_json::Value> {
        let request = ExportRequest { history };
        let mut writer = ExportWriter::new("", request, Timestamp::from_millis(5000));
        let mut lines = Vec::new();
        writer.start(&mut lines, None, Some(Timestamp::from_millis(1000)));
        for number in 0..3 {
            writer.version(&mut lines, &version(number + 1, 999 + number));
        }
        writer.end(&mut lines, false);
        let text = String::from_utf8(lines).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn versions_that_were_written_after_the_beginning_are_left_out() {
        let lines = lines(true);
        assert_eq!((lines.len(), &lines[0]["history"]), (4, &true.into()));
        assert_eq!((&lines[1]["version"], &lines[2]["version"]), (&1.into(), &2.into()));
        assert_eq!(lines[2]["replaced_at"], "1970-01-01T00:00:01.001Z");
        assert_eq!((&lines[3]["versions"], &lines[3]["historyBytes"]), (&2.into(), &6.into()));
    }

    #[test]
    fn an_export_without_history_says_nothing_of_it() {
        let lines = lines(false);
        assert_eq!(lines.len(), 2);
        for member in ["history", "versions", "historyBytes"] {
            assert!(lines.iter().all(|line| line.get(member).is_none()), "{member}");
        }
    }
}
