//! Requests as bytes: made once, and filled in where they differ.
//!
//! Every push has ciphertext of its own slot, at random, so nothing is gained by compressing; only ids,
//! versions and the token change from one request to the next, and each has always the same width.

use std::io::Write as _;

use base64_simd::STANDARD;
use memchr::memmem;

/// Ciphertext of a record, in bytes.
pub(crate) const CIPHERTEXT_BYTES: usize = 1024;

const ID_DIGITS: usize = 12;
const VERSION_WIDTH: usize = 10;

/// A push of a fixed number of operations.
#[derive(Debug)]
pub(crate) struct PushRequest {
    bytes: Vec<u8>,
    token: std::ops::Range<usize>,
    /// Where the digits of each id begin.
    ids: Vec<usize>,
    /// Where each base version begins.
    versions: Vec<usize>,
}

impl PushRequest {
    /// A push to `host` by whoever has a token as long as this one.
    pub(crate) fn new(host: &str, token: &str, operations: usize) -> anyhow::Result<Self> {
        let mut body = Vec::new();
        let (mut ids, mut versions) = (Vec::new(), Vec::new());
        body.extend_from_slice(br#"{"operations":["#);
        let mut ciphertext = [0; CIPHERTEXT_BYTES];
        for index in 0..operations {
            getrandom::fill(&mut ciphertext)?;
            body.extend_from_slice(if index > 0 { b"," } else { b"" });
            body.extend_from_slice(br#"{"recordId":"record-"#);
            ids.push(body.len());
            write!(body, r#"{:0ID_DIGITS$}","baseVersion":"#, 0)?;
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
        ids.iter_mut().chain(&mut versions).for_each(|place| *place += head);
        Ok(Self { bytes, token: start..start + token.len(), ids, versions })
    }

    /// The push of the records from number `first` on, all of them at that version; `None`: new.
    ///
    /// # Panics
    ///
    /// Where the token has another length than the one that the request was made with.
    pub(crate) fn fill(&mut self, token: &str, first: u64, base_version: Option<u64>) -> &[u8] {
        self.bytes[self.token.clone()].copy_from_slice(token.as_bytes());
        let version = base_version.map_or_else(|| "null".to_owned(), |version| version.to_string());
        for (number, (id, place)) in (first..).zip(self.ids.iter().zip(&self.versions)) {
            let id = &mut self.bytes[*id..*id + ID_DIGITS];
            write_digits(id, number);
            let field = &mut self.bytes[*place..*place + VERSION_WIDTH];
            field.fill(b' ');
            field[..version.len()].copy_from_slice(version.as_bytes());
        }
        &self.bytes
    }
}

fn write_digits(field: &mut [u8], mut number: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(number % 10).unwrap_or_default()];
        number /= 10;
    }
}

/// Writes a pull after `cursor` into `request`.
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

/// What is needed of a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen<'a> {
    pub(crate) next_cursor: Option<&'a str>,
    pub(crate) has_more: bool,
    /// Whether it has as many records as a page may have.
    pub(crate) is_full: bool,
}

/// Looks at the end of a page, where its members other than the records are.
pub(crate) fn look(page: &[u8]) -> Seen<'_> {
    const END_BYTES: usize = 320;
    /// Of base64.
    const RECORD_BYTES: usize = CIPHERTEXT_BYTES.div_ceil(3) * 4;
    let end = &page[page.len().saturating_sub(END_BYTES)..];
    let value = memmem::rfind(end, br#""nextCursor":""#).map(|place| &end[place + 14..]);
    let next_cursor = value.and_then(|value| {
        let length = memchr::memchr(b'"', value)?;
        std::str::from_utf8(&value[..length]).ok()
    });
    Seen {
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
    fn a_push_that_is_filled_in_is_a_push() {
        let mut request = PushRequest::new("h", "aaaa", 3).unwrap();
        let new = request.fill("bbbb", 41, None).to_vec();
        assert!(memmem::find(&new, b"Bearer bbbb\r\n").is_some());
        let length = format!("Content-Length: {}\r\n", body(&new).len());
        assert!(memmem::find(&new, length.as_bytes()).is_some());
        let value: Value = serde_json::from_slice(body(&new)).unwrap();
        assert_eq!(value["operations"][2]["recordId"], "record-000000000043");
        assert_eq!(value["operations"][2]["baseVersion"], Value::Null);
        let update: Value =
            serde_json::from_slice(body(request.fill("cccc", 7, Some(12)))).unwrap();
        assert_eq!(update["operations"][0]["baseVersion"], 12);
        assert_eq!(update["operations"][0]["recordId"], "record-000000000007");
        assert!(Push::from_json(body(&new), 1 << 20).is_ok());
    }

    #[test]
    fn a_page_tells_its_end() {
        let end = br#"{"records":[],"nextCursor":"2024-01-15T10:30:00.000Z","hasMore":true,"epoch":null,"head":null}"#;
        let seen = look(end);
        assert_eq!(seen.next_cursor, Some("2024-01-15T10:30:00.000Z"));
        assert!(seen.has_more && !seen.is_full);
        let empty = look(br#"{"records":[],"nextCursor":null,"hasMore":false}"#);
        assert_eq!(empty, Seen { next_cursor: None, has_more: false, is_full: false });
    }
}
