//! Reads of records by id.

mod body;

use crate::{DigestedRecord, Epoch, KnownEpoch, RecordId, Timestamp, record::write_json};

/// Maximum number of ids in one request.
pub const RECORD_IDS_MAX: usize = 100;

/// Request for records by id: 1 to [`RECORD_IDS_MAX`] ids, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordsRequest {
    record_ids: Vec<RecordId>,
    epoch: Option<KnownEpoch>,
}

impl RecordsRequest {
    /// Ids in the order of the request.
    pub fn record_ids(&self) -> &[RecordId] {
        &self.record_ids
    }

    /// Epoch of the history that the client expects to read, if it sent one.
    pub const fn epoch(&self) -> Option<&KnownEpoch> {
        self.epoch.as_ref()
    }
}

/// Records found by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundRecords {
    /// The records, in the order of the request.
    pub records: Vec<DigestedRecord>,
    /// Ids before the cut of which the server has no record, in the order of the request.
    pub missing: Vec<RecordId>,
    /// Whether the response is cut: ids that are neither in `records` nor in `missing` are left.
    pub has_more: bool,
    /// Name of the vault's history; `None` if nothing was ever pushed.
    pub epoch: Option<Epoch>,
    /// The vault's clock; `None` if nothing was ever pushed.
    pub head: Option<Timestamp>,
}

impl FoundRecords {
    /// Bytes of ciphertext of all records.
    pub fn ciphertext_bytes(&self) -> usize {
        self.records.iter().map(|found| found.record.ciphertext.len()).sum()
    }

    /// Serializes the response to JSON. Hand-written for the reason given at [`Page`](crate::Page).
    pub fn to_json(&self) -> Vec<u8> {
        const RECORD_BYTES: usize = 512;
        let bytes = self.ciphertext_bytes().div_ceil(3) * 4;
        let mut json = Vec::with_capacity(bytes + (self.records.len() + 1) * RECORD_BYTES);
        json.extend_from_slice(br#"{"records":["#);
        for (index, found) in self.records.iter().enumerate() {
            if index > 0 {
                json.push(b',');
            }
            found.write_json(&mut json);
        }
        json.extend_from_slice(br#"],"missing":"#);
        write_json(&mut json, &self.missing);
        json.extend_from_slice(br#","hasMore":"#);
        write_json(&mut json, &self.has_more);
        json.extend_from_slice(br#","epoch":"#);
        write_json(&mut json, &self.epoch);
        json.extend_from_slice(br#","head":"#);
        write_json(&mut json, &self.head);
        json.push(b'}');
        json
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Ciphertext, Record, RecordDigest, Version};

    #[test]
    fn found_records_are_serialized_with_their_digests() {
        let record = |id: &str, text: &str| {
            let record = Record {
                record_id: RecordId::new(id).unwrap(),
                version: Version::new(3).unwrap(),
                deleted: text.is_empty(),
                updated_at: Timestamp::from_millis(0),
                ciphertext: Ciphertext::from_bytes(text.into()),
            };
            let digest = RecordDigest::of(text.as_bytes());
            (DigestedRecord { record: record.clone(), digest }, record, digest)
        };
        let all = [record("a\"", "hello"), record("é", "")];
        let found = FoundRecords {
            records: all.iter().map(|(found, ..)| found.clone()).collect(),
            missing: vec![RecordId::new("x\\").unwrap(), RecordId::new("y").unwrap()],
            has_more: true,
            epoch: Some(Epoch::from_bytes([7; 16])),
            head: None,
        };
        let records: Vec<Value> = all
            .iter()
            .map(|(_, record, digest)| {
                let mut value = serde_json::to_value(record).unwrap();
                value["digest"] = json!(digest);
                value
            })
            .collect();
        let expected = json!({
            "records": records,
            "missing": ["x\\", "y"],
            "hasMore": true,
            "epoch": "07070707-0707-0707-0707-070707070707",
            "head": null,
        });
        assert_eq!(serde_json::from_slice::<Value>(&found.to_json()).unwrap(), expected);
        assert_eq!(found.ciphertext_bytes(), 5);
        let empty = r#"{"records":[],"missing":[],"hasMore":false,"epoch":null,"head":null}"#;
        assert_eq!(FoundRecords::default().to_json(), empty.as_bytes());
    }
}
