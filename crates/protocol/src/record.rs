//! Records and their parts.

use std::{borrow::Borrow, fmt, hash::Hash};

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::{RecordDigest, Timestamp};

/// Record id, chosen by the client: 1 to 255 bytes of UTF-8 without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RecordId(Box<str>);

impl RecordId {
    /// Maximum length of an id.
    pub const BYTES_MAX: usize = 255;

    /// Validates a client's text; the error is the rule that it breaks.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if !(1..=Self::BYTES_MAX).contains(&text.len()) {
            return Err("must be 1 to 255 bytes of UTF-8");
        }
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters");
        }
        Ok(Self(text.into()))
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for RecordId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Number of writes to a record: 1 after the first write, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Version(i64);

impl Version {
    /// Version of a record that the server does not have; no stored record has it.
    pub const NONE: Self = Self(0);

    /// Version after a record's first write.
    pub const FIRST: Self = Self(1);

    /// Largest version, 2^53 - 1: the largest integer that JavaScript represents exactly.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// Validates a number; `None` unless it is from 0 to [`Self::MAX`].
    pub fn new(number: i64) -> Option<Self> {
        (Self::NONE.0..=Self::MAX.0).contains(&number).then_some(Self(number))
    }

    /// The version as a number.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Version after the next write.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Encrypted bytes, which the server cannot read. Base64 on the wire, raw everywhere else.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Ciphertext(Vec<u8>);

impl Ciphertext {
    /// Wraps raw bytes.
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Number of raw bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes, as in a tombstone without content.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Decodes canonical standard base64 with padding (RFC 4648, section 4) to at most `bytes_max`
    /// bytes; the error is the rule that the text breaks.
    pub(crate) fn from_base64(text: &str, bytes_max: usize) -> Result<Self, String> {
        let malformed = |_| "must be canonical standard base64 with padding".to_owned();
        let bytes = base64_simd::STANDARD.decoded_length(text.as_bytes()).map_err(malformed)?;
        if bytes > bytes_max {
            return Err(format!("must be at most {bytes_max} bytes when decoded"));
        }
        base64_simd::STANDARD.decode_to_vec(text).map(Self).map_err(malformed)
    }
}

/// Prints the length only: ciphertext must not appear in logs.
impl fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ciphertext({} bytes)", self.0.len())
    }
}

impl Serialize for Ciphertext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64_simd::STANDARD.encode_to_string(&self.0))
    }
}

/// Record as a pull returns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Record {
    /// Id chosen by the client.
    #[serde(rename = "recordId")]
    #[schema(value_type = String, example = "note-1")]
    pub record_id: RecordId,
    /// Standard base64 of the last pushed bytes.
    #[schema(value_type = String, content_encoding = "base64", example = "aGVsbG8=")]
    pub ciphertext: Ciphertext,
    /// Number of writes to the record.
    #[schema(value_type = usize, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 1)]
    pub version: Version,
    /// Whether the record is a tombstone.
    pub deleted: bool,
    /// Position in the vault's order; each write moves the record to a later one.
    #[schema(value_type = String, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    pub updated_at: Timestamp,
}

impl Record {
    /// Appends the same JSON as serde.
    pub(crate) fn write_json(&self, json: &mut Vec<u8>) {
        self.write_members(json);
        json.push(b'}');
    }

    /// As [`Self::write_json`], with `digest` as a further member.
    pub(crate) fn write_json_with_digest(&self, digest: RecordDigest, json: &mut Vec<u8>) {
        self.write_members(json);
        json.extend_from_slice(br#","digest":"#);
        write_json(json, &digest);
        json.push(b'}');
    }

    /// Appends the JSON without its end.
    fn write_members(&self, json: &mut Vec<u8>) {
        json.extend_from_slice(br#"{"recordId":"#);
        write_json(json, &self.record_id);
        json.extend_from_slice(br#","ciphertext":""#);
        base64_simd::STANDARD.encode_append(self.ciphertext.as_bytes(), json);
        json.extend_from_slice(br#"","version":"#);
        write_json(json, &self.version);
        json.extend_from_slice(br#","deleted":"#);
        write_json(json, &self.deleted);
        json.extend_from_slice(br#","updated_at":"#);
        write_json(json, &self.updated_at);
    }
}

/// Record with the digest of its ciphertext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestedRecord {
    /// The record.
    pub record: Record,
    /// The digest.
    pub digest: RecordDigest,
}

impl DigestedRecord {
    /// Appends the JSON: the members of the record, and `digest`.
    pub(crate) fn write_json(&self, json: &mut Vec<u8>) {
        self.record.write_json_with_digest(self.digest, json);
    }
}

/// Appends a scalar, serialized by serde.
pub(crate) fn write_json(json: &mut Vec<u8>, scalar: &impl Serialize) {
    serde_json::to_writer(json, scalar).expect("a scalar serializes to JSON");
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_1_to_255_bytes_without_control_characters() {
        for (text, valid) in [
            ("a", true),
            ("", false),
            (&"x".repeat(255), true),
            (&"x".repeat(256), false),
            (&"é".repeat(127), true),
            (&"é".repeat(128), false),
            ("notes/2024 – ünï💡", true),
            (" ", true),
            ("a\nb", false),
            ("a\0", false),
            ("\u{7f}", false),
            ("\u{85}", false),
            ("../../etc/passwd", true),
            ("'; drop table records; --", true),
        ] {
            assert_eq!(RecordId::new(text).is_ok(), valid, "{text:?}");
        }
    }

    #[test]
    fn ids_and_versions_are_printed_but_ciphertext_is_not() {
        let id = RecordId::new("note-1").unwrap();
        assert_eq!(id.to_string(), "note-1");
        assert_eq!(Version::FIRST.next().next().to_string(), "3");
        let ciphertext = Ciphertext::from_bytes(b"secret".to_vec());
        assert_eq!(format!("{ciphertext:?}"), "Ciphertext(6 bytes)");
    }

    #[test]
    fn a_map_finds_an_id_by_its_text() {
        let ids: HashMap<RecordId, u8> = ["a", "b"]
            .into_iter()
            .zip(1..)
            .map(|(id, n)| (RecordId::new(id).unwrap(), n))
            .collect();
        assert_eq!((ids.get("a"), ids.get("b"), ids.get("c")), (Some(&1), Some(&2), None));
    }

    proptest! {
        #[test]
        fn base64_decoding_agrees_with_another_implementation(
            text in "[A-Za-z0-9+/=_ -]{0,40}"
        ) {
            let ours = Ciphertext::from_base64(&text, 1024).ok().map(|ciphertext| ciphertext.0);
            prop_assert_eq!(ours, STANDARD.decode(&text).ok());
        }

        #[test]
        fn ciphertext_survives_a_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let text = STANDARD.encode(&bytes);
            let serialized = serde_json::to_string(&Ciphertext(bytes.clone())).unwrap();
            prop_assert_eq!(&serialized, &format!("\"{text}\""));
            prop_assert_eq!(Ciphertext::from_base64(&text, bytes.len()).unwrap().0, bytes);
        }

        #[test]
        fn one_byte_over_the_limit_is_rejected(len in 1_usize..600) {
            let text = STANDARD.encode(vec![7; len]);
            prop_assert!(Ciphertext::from_base64(&text, len - 1).is_err());
            prop_assert!(Ciphertext::from_base64(&text, len).is_ok());
        }
    }
}
