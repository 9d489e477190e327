//! Lines of a streamed pull: each is a JSON object.

use serde::Serialize;

use crate::{Epoch, Page, Record, Timestamp};

/// First line of a streamed pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StreamStart {
    /// Name of the vault's history; null if nothing was ever pushed.
    pub epoch: Option<Epoch>,
    /// The vault's clock when the stream began. No later record is in the stream.
    pub head: Option<Timestamp>,
}

/// Last line of a streamed pull. A stream without it is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamEnd {
    /// The `updated_at` of the last record; null if there is none, and the client keeps its cursor.
    pub next_cursor: Option<Timestamp>,
    /// Whether the vault has changed since the stream began.
    pub has_more: bool,
}

/// The part of a vault's changes that one stream returns: those up to the head of its first page.
#[derive(Clone, Copy, Debug)]
pub struct StreamRange {
    /// The head of the first page.
    head: Option<Timestamp>,
    /// The time of the last record that was returned.
    last: Option<Timestamp>,
}

/// Whether a stream ends with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamProgress {
    /// Another page follows.
    Continues,
    /// The page reaches the head of the first one.
    Ended,
    /// There are no further pages, although the head of the first one is not reached: the database lost what it
    /// had.
    EndsTooEarly,
}

impl StreamRange {
    /// The range of a stream with this first page.
    pub const fn new(first: &Page) -> Self {
        Self { head: first.head, last: None }
    }

    /// The head of the first page. Later records are not returned.
    pub const fn head(&self) -> Option<Timestamp> {
        self.head
    }

    /// The time of the last record that was returned, if there is one.
    pub const fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// Removes the records of the next page that are later than the range.
    pub fn cut(&mut self, page: &mut Page) -> StreamProgress {
        if page.head < self.head && !page.has_more {
            return StreamProgress::EndsTooEarly;
        }
        let read = page.records.len();
        page.records.retain(|record| Some(record.updated_at) <= self.head);
        self.last = page.records.last().map(|record| record.updated_at).or(self.last);
        if !page.has_more || page.records.len() < read || self.last == self.head {
            StreamProgress::Ended
        } else {
            StreamProgress::Continues
        }
    }
}

/// Appends a line.
pub fn write_line(lines: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *lines, line).expect("a line serializes to JSON");
    lines.push(b'\n');
}

/// Appends the line of a record, which is the same JSON as in a page.
pub fn write_record_line(lines: &mut Vec<u8>, record: &Record) {
    record.write_json(lines);
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ciphertext, RecordId, Version};

    #[test]
    fn every_line_is_an_object_of_its_own() {
        let mut lines = Vec::new();
        write_line(&mut lines, &StreamStart { epoch: None, head: None });
        let record = Record {
            record_id: RecordId::new("a\u{2028}b").unwrap(),
            version: Version::new(1).unwrap(),
            deleted: false,
            updated_at: Timestamp::from_millis(0),
            ciphertext: Ciphertext::from_bytes(b"hello".to_vec()),
        };
        write_record_line(&mut lines, &record);
        let next_cursor = Some(record.updated_at);
        write_line(&mut lines, &StreamEnd { next_cursor, has_more: true });
        let expected = format!(
            "{{\"epoch\":null,\"head\":null}}\n{}\n{{\"nextCursor\":\"1970-01-01T00:00:00.000Z\",\"hasMore\":true}}\n",
            serde_json::to_string(&record).unwrap()
        );
        assert_eq!(String::from_utf8(lines).unwrap(), expected);
    }
}
