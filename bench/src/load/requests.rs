//! Requests as bytes: built once, and updated in place.
//!
//! The ciphertexts are random, so that they cannot be compressed. Only the ids, the versions and the token
//! change from one request to the next, and their widths are constant.

use std::io::Write as _;

use base64_simd::STANDARD;
use memchr::memmem;

use crate::record_ids::RecordIds;

/// Size of a ciphertext.
pub(crate) const CIPHERTEXT_BYTES: usize = 1024;

const VERSION_WIDTH: usize = 10;

/// A push of a fixed number of operations.
#[derive(Debug)]
pub(crate) struct PushRequest {
    bytes: Vec<u8>,
    token: std::ops::Range<usize>,
    record_ids: RecordIds,
    /// Offsets of the ids.
    ids: Vec<usize>,
    /// Offsets of the base versions.
    versions: Vec<usize>,
}

impl PushRequest {
    /// A push to `host` by a user whose token has the length of `token`.
    pub(crate) fn new(
        host: &str,
        token: &str,
        operations: usize,
        record_ids: RecordIds,
    ) -> anyhow::Result<Self> {
        let mut body = Vec::new();
        let (mut ids, mut versions) = (Vec::new(), Vec::new());
        body.extend_from_slice(br#"{"operations":["#);
        let mut ciphertext = [0; CIPHERTEXT_BYTES];
        for index in 0..operations {
            getrandom::fill(&mut ciphertext)?;
            body.extend_from_slice(if index > 0 { b"," } else { b"" });
            body.extend_from_slice(br#"{"recordId":""#);
            ids.push(body.len());
            record_ids.write(0, &mut body);
            body.extend_from_slice(br#"","baseVersion":"#);
            versions.push(body.len());
            let ciphertext = STANDARD.encode_to_string(ciphertext);
            write!(body, r#"{:VERSION_WIDTH$},"ciphertext":"{ciphertext}","deleted":false}}"#, "")?;
        }
        body.extend_from_slice(b"]}");
        let mut bytes = format!(
            "POST /api/sync/push HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        let start = memmem::find(&bytes, b"Bearer ").unwrap_or_default() + 7;
        let head = bytes.len();
        bytes.append(&mut body);
        ids.iter_mut().chain(&mut versions).for_each(|offset| *offset += head);
        Ok(Self { bytes, token: start..start + token.len(), record_ids, ids, versions })
    }

    /// The push of the records from number `first` on, all with the same base version; `None` inserts.
    ///
    /// # Panics
    ///
    /// If the token has another length than the one that the request was built with.
    pub(crate) fn update(&mut self, token: &str, first: u64, base_version: Option<u64>) -> &[u8] {
        self.bytes[self.token.clone()].copy_from_slice(token.as_bytes());
        let version = base_version.map_or_else(|| "null".to_owned(), |version| version.to_string());
        let mut record_id = Vec::with_capacity(self.record_ids.bytes());
        for (number, (id, offset)) in (first..).zip(self.ids.iter().zip(&self.versions)) {
            record_id.clear();
            self.record_ids.write(number, &mut record_id);
            self.bytes[*id..*id + record_id.len()].copy_from_slice(&record_id);
            let field = &mut self.bytes[*offset..*offset + VERSION_WIDTH];
            field.fill(b' ');
            field[..version.len()].copy_from_slice(version.as_bytes());
        }
        &self.bytes
    }
}

/// Replaces the contents of `request` with a pull from `cursor`.
pub(crate) fn write_pull(request: &mut Vec<u8>, host: &str, token: &str, cursor: Option<&str>) {
    request.clear();
    request.extend_from_slice(b"GET /api/sync/pull?limit=100");
    if let Some(cursor) = cursor {
        request.extend_from_slice(b"&cursor=");
        request.extend_from_slice(cursor.as_bytes());
    }
    request.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    request.extend_from_slice(host.as_bytes());
    request.extend_from_slice(b"\r\nAuthorization: Bearer ");
    request.extend_from_slice(token.as_bytes());
    request.extend_from_slice(b"\r\n\r\n");
}

/// The members at the end of a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PageEnd<'a> {
    pub(crate) next_cursor: Option<&'a str>,
    pub(crate) has_more: bool,
    /// Whether the page has the maximum number of records.
    pub(crate) is_full: bool,
}

/// Parses the end of a page, after the records.
pub(crate) fn parse_page_end(page: &[u8]) -> PageEnd<'_> {
    const END_BYTES: usize = 320;
    /// Size of a record's ciphertext in base64.
    const RECORD_BYTES: usize = CIPHERTEXT_BYTES.div_ceil(3) * 4;
    let end = &page[page.len().saturating_sub(END_BYTES)..];
    let value = memmem::rfind(end, br#""nextCursor":""#).map(|start| &end[start + 14..]);
    let next_cursor = value.and_then(|value| {
        let length = memchr::memchr(b'"', value)?;
        std::str::from_utf8(&value[..length]).ok()
    });
    PageEnd {
        next_cursor,
        has_more: memmem::rfind(end, br#""hasMore":true"#).is_some(),
        is_full: page.len() > 100 * RECORD_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use vaultsync_protocol::Push;

    use super::*;

    fn body(request: &[u8]) -> &[u8] {
        &request[memmem::find(request, b"\r\n\r\n").unwrap() + 4..]
    }

    #[test]
    fn an_updated_push_is_valid() {
        for ids in [RecordIds::Random, RecordIds::Sequential] {
            check_updates(ids);
        }
    }

    fn check_updates(ids: RecordIds) {
        let mut request = PushRequest::new("h", "aaaa", 3, ids).unwrap();
        let new = request.update("bbbb", 41, None).to_vec();
        assert!(memmem::find(&new, b"Bearer bbbb\r\n").is_some());
        let length = format!("Content-Length: {}\r\n", body(&new).len());
        assert!(memmem::find(&new, length.as_bytes()).is_some());
        let value: Value = serde_json::from_slice(body(&new)).unwrap();
        assert_eq!(value["operations"][2]["recordId"], ids.id(43));
        assert_eq!(value["operations"][2]["baseVersion"], Value::Null);
        let update: Value =
            serde_json::from_slice(body(request.update("cccc", 7, Some(12)))).unwrap();
        assert_eq!(update["operations"][0]["baseVersion"], 12);
        assert_eq!(update["operations"][0]["recordId"], ids.id(7));
        assert!(Push::from_json(body(&new), 1 << 20).is_ok());
    }

    #[test]
    fn the_end_of_a_page_is_parsed() {
        let end = br#"{"records":[],"nextCursor":"2024-01-15T10:30:00.000Z","hasMore":true,"epoch":null,"head":null}"#;
        let parsed = parse_page_end(end);
        assert_eq!(parsed.next_cursor, Some("2024-01-15T10:30:00.000Z"));
        assert!(parsed.has_more && !parsed.is_full);
        let empty = parse_page_end(br#"{"records":[],"nextCursor":null,"hasMore":false}"#);
        assert_eq!(empty, PageEnd { next_cursor: None, has_more: false, is_full: false });
    }
}
