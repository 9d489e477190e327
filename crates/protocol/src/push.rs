//! A batch of writes.

use std::{borrow::Cow, collections::HashMap};

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    Ciphertext, Issue, Issues, KnownEpoch, OPERATIONS_MAX, RecordId, Timestamp, Version,
    json::{self, Found, FoundOperation, FoundOperations},
};

/// One write of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which record.
    pub record_id: RecordId,
    /// The version that the client edited; `None` where it knows of none.
    pub base_version: Option<Version>,
    /// What to store; empty only where `deleted` is true.
    pub ciphertext: Ciphertext,
    /// Whether the write leaves a tombstone.
    pub deleted: bool,
}

impl Operation {
    /// The version that this write makes where its base version is the current one.
    pub fn next_version(&self) -> Version {
        self.base_version.unwrap_or(Version::NONE).next()
    }
}

/// A batch of writes to apply all or none: at most [`OPERATIONS_MAX`], no record twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    operations: Vec<Operation>,
    epoch: Option<KnownEpoch>,
}

/// Why a body is no push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushError {
    /// It is not JSON, or nested too deep: where, and what stands there.
    Json(String),
    /// It is JSON, but these things are wrong with it.
    Invalid(Vec<Issue>),
}

impl Push {
    /// Reads a request body whose ciphertexts are at most `ciphertext_bytes_max` long when decoded.
    ///
    /// Unknown members are ignored.
    pub fn from_json(body: &[u8], ciphertext_bytes_max: usize) -> Result<Self, PushError> {
        let found = json::read(body).map_err(|error| PushError::Json(error.to_string()))?;
        let mut issues = Issues::default();
        let push = match found {
            None => {
                issues.add("", "the body must be an object");
                None
            }
            Some(found) => {
                let epoch = epoch(found.epoch, &mut issues);
                operations(found.operations, ciphertext_bytes_max, &mut issues)
                    .map(|operations| Self { operations, epoch })
            }
        };
        match push {
            Some(push) if issues.is_empty() => Ok(push),
            _ => Err(PushError::Invalid(issues.into_vec())),
        }
    }

    /// The writes, in the client's order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The history that the client believes to write to, if it says so.
    pub fn epoch(&self) -> Option<&KnownEpoch> {
        self.epoch.as_ref()
    }

    /// Bytes of ciphertext in all operations together.
    pub fn ciphertext_bytes(&self) -> usize {
        self.operations.iter().map(|operation| operation.ciphertext.len()).sum()
    }
}

fn operations(
    found: FoundOperations<'_>,
    ciphertext_bytes_max: usize,
    issues: &mut Issues,
) -> Option<Vec<Operation>> {
    let (found, count) = match found {
        FoundOperations::Array(found, count) => (found, count),
        FoundOperations::NoArray => {
            issues.add("operations", "must be an array");
            return None;
        }
        FoundOperations::Nothing => {
            issues.add("operations", MISSING);
            return None;
        }
        FoundOperations::Twice => {
            issues.add("operations", TWICE);
            return None;
        }
    };
    if count > OPERATIONS_MAX {
        issues
            .add("operations", format!("must be at most {OPERATIONS_MAX}, and there are {count}"));
    }
    let read: Vec<Option<Operation>> = found
        .into_iter()
        .enumerate()
        .map(|(index, found)| {
            if found.is_none() {
                issues.add(format!("operations[{index}]"), "must be an object");
            }
            operation(found?, index, ciphertext_bytes_max, issues)
        })
        .collect();
    refuse_repeated_records(&read, issues);
    read.into_iter().collect()
}

fn refuse_repeated_records(read: &[Option<Operation>], issues: &mut Issues) {
    let mut first_index = HashMap::with_capacity(read.len());
    for (index, operation) in read.iter().enumerate() {
        let Some(operation) = operation else { continue };
        if let Some(first) = first_index.insert(operation.record_id.as_str(), index) {
            let path = format!("operations[{index}].recordId");
            issues.add(path, format!("must not repeat that of operations[{first}]"));
        }
    }
}

const MISSING: &str = "must be present";
const TWICE: &str = "must not be given twice";

fn operation(
    found: FoundOperation<'_>,
    index: usize,
    ciphertext_bytes_max: usize,
    issues: &mut Issues,
) -> Option<Operation> {
    let mut keep = |member: &str, message: String| {
        issues.add(format!("operations[{index}].{member}"), message);
    };
    let record_id = text(found.record_id)
        .and_then(|text| RecordId::new(&text).map_err(str::to_owned))
        .map_err(|message| keep("recordId", message));
    let base_version =
        base_version(&found.base_version).map_err(|message| keep("baseVersion", message));
    let ciphertext = text(found.ciphertext)
        .and_then(|text| Ciphertext::from_base64(&text, ciphertext_bytes_max))
        .map_err(|message| keep("ciphertext", message));
    let deleted = deleted(&found.deleted).map_err(|message| keep("deleted", message));
    let operation = Operation {
        record_id: record_id.ok()?,
        base_version: base_version.ok()?,
        ciphertext: ciphertext.ok()?,
        deleted: deleted.ok()?,
    };
    if operation.ciphertext.is_empty() && !operation.deleted {
        keep("ciphertext", "must not be empty unless deleted is true".to_owned());
        return None;
    }
    Some(operation)
}

fn text(found: Found<'_>) -> Result<Cow<'_, str>, String> {
    match found {
        Found::Text(text) => Ok(text),
        Found::Nothing => Err(MISSING.to_owned()),
        Found::Twice => Err(TWICE.to_owned()),
        _ => Err("must be a string".to_owned()),
    }
}

fn base_version(found: &Found<'_>) -> Result<Option<Version>, String> {
    match found {
        Found::Null => Ok(None),
        Found::Whole(number) if let Some(version) = Version::new(*number) => Ok(Some(version)),
        Found::Nothing => Err(MISSING.to_owned()),
        Found::Twice => Err(TWICE.to_owned()),
        _ => Err(format!("must be null or a whole number from 0 to {}", Version::MAX)),
    }
}

fn deleted(found: &Found<'_>) -> Result<bool, String> {
    match found {
        Found::Bool(deleted) => Ok(*deleted),
        Found::Nothing => Err(MISSING.to_owned()),
        Found::Twice => Err(TWICE.to_owned()),
        _ => Err("must be true or false".to_owned()),
    }
}

fn epoch(found: Found<'_>, issues: &mut Issues) -> Option<KnownEpoch> {
    let known = match found {
        Found::Nothing | Found::Null => return None,
        Found::Text(text) => KnownEpoch::new(&text),
        Found::Twice => {
            issues.add("epoch", TWICE);
            return None;
        }
        _ => None,
    };
    if known.is_none() {
        issues.add("epoch", KnownEpoch::RULE);
    }
    known
}

/// What a push wrote to one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// Which record.
    #[schema(value_type = String, example = "note-1")]
    pub record_id: RecordId,
    /// The version it has since.
    #[schema(value_type = u64, minimum = 1, example = 1)]
    pub version: Version,
}

/// A record that stood in the way of a push, as it is on the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Conflict {
    /// Which record.
    #[serde(rename = "recordId")]
    #[schema(value_type = String, example = "note-1")]
    pub record_id: RecordId,
    /// Its version; 0 where the server has no such record.
    #[serde(rename = "currentVersion")]
    #[schema(value_type = u64, example = 2)]
    pub current_version: Version,
    /// Its ciphertext; empty where the server has no such record.
    #[schema(value_type = String, content_encoding = "base64", example = "aGVsbG8=")]
    pub ciphertext: Ciphertext,
    /// Whether it is a tombstone; true where the server has no such record.
    pub deleted: bool,
    /// Where it stands in the vault's order; null where the server has no such record.
    #[schema(required = true, value_type = Option<String>, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    pub updated_at: Option<Timestamp>,
}

impl Conflict {
    /// The conflict of a write on top of a record that the server does not have.
    pub fn with_nothing(record_id: RecordId) -> Self {
        Self {
            record_id,
            current_version: Version::NONE,
            ciphertext: Ciphertext::default(),
            deleted: true,
            updated_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CIPHERTEXT_BYTES_MAX: usize = 12;

    fn read(body: &str) -> Result<Push, PushError> {
        Push::from_json(body.as_bytes(), CIPHERTEXT_BYTES_MAX)
    }

    /// A push of one operation: the usual members, with `members` after or instead of them.
    fn one(members: &str) -> String {
        format!(r#"{{"operations":[{{{members}}}]}}"#)
    }

    #[track_caller]
    fn check_issues(body: &str, paths: &[&str]) {
        let Err(PushError::Invalid(issues)) = read(body) else { panic!("{body} {:?}", read(body)) };
        let found: Vec<&str> = issues.iter().map(|issue| issue.path.as_str()).collect();
        assert_eq!(found, paths, "{body}");
    }

    #[test]
    fn a_whole_body_is_read() {
        let push = read(
            r#"{"operations":[
                {"recordId":"a","baseVersion":null,"ciphertext":"aGk=","deleted":false},
                {"recordId":"\u0062","baseVersion":7,"ciphertext":"","deleted":true,"mood":[{}]},
                {"recordId":"c","baseVersion":9007199254740991,"ciphertext":"aGk=","deleted":true},
                {"recordId":"d","baseVersion":1.0,"ciphertext":"\u0061Gk=","deleted":false}
            ],"epoch":"e","unknown":{"epoch":3}}"#,
        )
        .unwrap();
        let seen: Vec<_> = push
            .operations()
            .iter()
            .map(|op| {
                let base = op.base_version.map(Version::get);
                (op.record_id.as_str(), base, op.ciphertext.as_bytes(), op.deleted)
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("a", None, &b"hi"[..], false),
                ("b", Some(7), b"", true),
                ("c", Some(9_007_199_254_740_991), b"hi", true),
                ("d", Some(1), b"hi", false),
            ]
        );
        assert_eq!(push.epoch(), KnownEpoch::new("e").as_ref());
        assert_eq!(push.ciphertext_bytes(), 6);
    }

    #[test]
    fn no_operations_are_a_push_too() {
        assert_eq!(read(r#"{"operations":[]}"#).unwrap().operations(), []);
        assert_eq!(read(r#"{"operations":[],"epoch":null}"#).unwrap().epoch(), None);
    }

    #[test]
    fn everything_wrong_is_told_at_once_and_where() {
        let at = |member: &str| format!("operations[0].{member}");
        check_issues("[]", &[""]);
        check_issues("null", &[""]);
        check_issues("{}", &["operations"]);
        check_issues(r#"{"operations":{}}"#, &["operations"]);
        check_issues(r#"{"operations":null}"#, &["operations"]);
        check_issues(r#"{"operations":[],"operations":[]}"#, &["operations"]);
        check_issues(r#"{"operations":[],"epoch":""}"#, &["epoch"]);
        check_issues(r#"{"operations":[],"epoch":5}"#, &["epoch"]);
        check_issues(r#"{"operations":[],"epoch":"a","epoch":"a"}"#, &["epoch"]);
        check_issues(
            r#"{"operations":[1,null,[]]}"#,
            &["operations[0]", "operations[1]", "operations[2]"],
        );
        check_issues(
            &one(""),
            &[&at("recordId"), &at("baseVersion"), &at("ciphertext"), &at("deleted")],
        );
        check_issues(
            &one(r#""recordId":1,"baseVersion":"1","ciphertext":{},"deleted":"no""#),
            &[&at("recordId"), &at("baseVersion"), &at("ciphertext"), &at("deleted")],
        );
        let rest = r#""ciphertext":"aGk=","deleted":false"#;
        for base in ["-1", "1.5", "9007199254740992", "18446744073709551615", "true", "[]", "1e300"]
        {
            let body = one(&format!(r#""recordId":"a","baseVersion":{base},{rest}"#));
            check_issues(&body, &[&at("baseVersion")]);
        }
        let head = r#""recordId":"a","baseVersion":null"#;
        for ciphertext in ["aGk", "aGl=", "aGk=\\n", "a-_=", "=", "AAAAAAAAAAAAAAAAAA==", "é"] {
            let body = one(&format!(r#"{head},"ciphertext":"{ciphertext}","deleted":false"#));
            check_issues(&body, &[&at("ciphertext")]);
        }
        check_issues(
            &one(&format!(r#"{head},"ciphertext":"","deleted":false"#)),
            &[&at("ciphertext")],
        );
        check_issues(&one(&format!(r#"{head},{rest},"deleted":false"#)), &[&at("deleted")]);
        check_issues(
            &one(&format!(r#""recordId":"a\u0000","baseVersion":0,{rest}"#)),
            &[&at("recordId")],
        );
    }

    #[test]
    fn what_is_wrong_is_told_as_it_is() {
        #[track_caller]
        fn check(body: &str, told: &[&str]) {
            let Err(PushError::Invalid(issues)) = read(body) else { panic!("{body}") };
            let found: Vec<&str> = issues.iter().map(|issue| issue.message.as_str()).collect();
            assert_eq!(found, told, "{body}");
        }
        let base = format!("must be null or a whole number from 0 to {}", Version::MAX.get());
        check(&one(""), &[MISSING; 4]);
        let (text, flag) = ("must be a string", "must be true or false");
        for other in ["[1]", r#"{"a":1}"#] {
            let members = ["recordId", "baseVersion", "ciphertext", "deleted"]
                .map(|member| format!(r#""{member}":{other}"#));
            check(&one(&members.join(",")), &[text, &base, text, flag]);
            check(&one(&[members.join(","), members.join(",")].join(",")), &[TWICE; 4]);
            check(&format!(r#"{{"operations":[],"epoch":{other}}}"#), &[KnownEpoch::RULE]);
        }
        check(r#"{"operations":[],"epoch":"a","epoch":"a"}"#, &[TWICE]);
        let long =
            r#""recordId":"a","baseVersion":0,"ciphertext":"AAAAAAAAAAAAAAAAAAAA","deleted":false"#;
        check(&one(long), &["must be at most 12 bytes when decoded"]);
        check_issues(r#"{"operations":[[1],2]}"#, &["operations[0]", "operations[1]"]);
        check_issues(r#"{"operations":{"a":[1]},"epoch":5}"#, &["epoch", "operations"]);
    }

    #[test]
    fn a_record_may_stand_in_a_batch_once() {
        let op = |id: &str| {
            format!(r#"{{"recordId":"{id}","baseVersion":0,"ciphertext":"aGk=","deleted":false}}"#)
        };
        let body = format!(r#"{{"operations":[{},{},{}]}}"#, op("a"), op("b"), op("\\u0061"));
        check_issues(&body, &["operations[2].recordId"]);
    }

    #[test]
    fn a_batch_ends_at_its_bound_and_so_does_the_list_of_issues() {
        let batch = |count: usize| {
            let ops: Vec<_> = (0..count)
                .map(|n| {
                    format!(r#"{{"recordId":"{n}","baseVersion":null,"ciphertext":"aGk=","deleted":true}}"#)
                })
                .collect();
            format!(r#"{{"operations":[{}]}}"#, ops.join(","))
        };
        assert_eq!(read(&batch(100)).unwrap().operations().len(), 100);
        check_issues(&batch(101), &["operations"]);
        let Err(PushError::Invalid(issues)) =
            read(&format!(r#"{{"operations":[{}1]}}"#, "1,".repeat(99)))
        else {
            panic!("a number is no operation")
        };
        assert_eq!(issues.len(), Issues::MAX);
    }

    #[test]
    fn what_is_not_json_or_too_deep_is_told_apart() {
        let nested = |levels: usize| {
            format!(r#"{{"operations":[],"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels))
        };
        assert!(read(&nested(json::NESTING_MAX - 1)).is_ok());
        for body in [
            "",
            " ",
            "{",
            "{\"operations\":[]",
            "nul",
            "{'operations':[]}",
            "{\"operations\":[],}",
            "{\"operations\":[]}x",
            "{\"operations\":[]}{}",
            "\u{feff}{\"operations\":[]}",
            r#"{"operations":[{"recordId":"\ud800"}]}"#,
            "{\"operations\":[1e999]}",
            &nested(json::NESTING_MAX),
            &nested(100_000),
        ] {
            assert!(matches!(read(body), Err(PushError::Json(_))), "{body:.60}");
        }
        assert!(matches!(Push::from_json(b"\"\xff\"", 9), Err(PushError::Json(_))));
    }

    proptest! {
        #[test]
        fn no_body_makes_the_reader_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Push::from_json(&body, CIPHERTEXT_BYTES_MAX);
        }

        #[test]
        fn no_json_makes_the_reader_panic(body in r#"(\{|\}|\[|\]|:|,|"(operations|recordId|baseVersion|ciphertext|deleted|epoch|aGk=|)"|null|true|1|-1|1\.5){0,30}"#) {
            let _ = read(&body);
        }
    }
}
