//! Requests for records by id as bodies.

use std::{borrow::Cow, collections::HashMap};

use serde::de::MapAccess;

use super::{RECORD_IDS_MAX, RecordsRequest};
use crate::{
    BodyError, Issues, RecordId,
    body::{self, all, array, epoch},
    json::{RawArray, RawMember, SetMember, set_once, set_strings_once, skip},
};

/// Members of a request that the protocol defines, valid or not.
#[derive(Debug, Default)]
struct RawRequest<'a> {
    record_ids: RawArray<Cow<'a, str>>,
    epoch: RawMember<'a>,
}

impl<'de> SetMember<'de> for RawRequest<'de> {
    fn set_member<A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: &mut A,
        levels_left: usize,
    ) -> Result<(), A::Error> {
        match name {
            "recordIds" => {
                set_strings_once(&mut self.record_ids, value, levels_left, RECORD_IDS_MAX)
            }
            "epoch" => set_once(&mut self.epoch, value, levels_left),
            _ => skip(value, levels_left),
        }
    }
}

impl RecordsRequest {
    /// Parses a request body. Unknown members are ignored.
    pub fn from_json(body: &[u8]) -> Result<Self, BodyError> {
        body::parse(body, |raw: RawRequest<'_>, issues| {
            let epoch = epoch(raw.epoch, issues);
            Some(Self { record_ids: record_ids(raw.record_ids, issues)?, epoch })
        })
    }
}

fn record_ids(raw: RawArray<Cow<'_, str>>, issues: &mut Issues) -> Option<Vec<RecordId>> {
    if matches!(&raw, RawArray::Array { count: 0, .. }) {
        issues.add("recordIds", "must contain at least one id");
    }
    let raw = array("recordIds", raw, RECORD_IDS_MAX, issues);
    let mut first = HashMap::with_capacity(raw.len());
    let parse = |(index, text): (usize, &Option<Cow<'_, str>>)| {
        let path = || format!("recordIds[{index}]");
        let id = text.as_deref().ok_or("must be a string").and_then(RecordId::new);
        let id = id.map_err(|message| issues.add(path(), message)).ok()?;
        if let Some(first) = first.insert(id.as_str().to_owned(), index) {
            issues.add(path(), format!("must not repeat recordIds[{first}]"));
        }
        Some(id)
    };
    all(raw.iter().enumerate().map(parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_issues(body: &str, paths: &[&str]) {
        let Err(BodyError::Invalid(issues)) = RecordsRequest::from_json(body.as_bytes()) else {
            panic!("{body}")
        };
        let found: Vec<&str> = issues.iter().map(|issue| issue.path.as_str()).collect();
        assert_eq!(found, paths, "{body}");
    }

    fn ids(count: usize) -> String {
        let ids: Vec<_> = (0..count).map(|number| format!(r#""r{number}""#)).collect();
        format!(r#"{{"recordIds":[{}]}}"#, ids.join(","))
    }

    #[test]
    fn ids_keep_their_order() {
        let body = r#"{"recordIds":["b","\u0061","é"],"epoch":"e","x":[{}]}"#;
        let request = RecordsRequest::from_json(body.as_bytes()).unwrap();
        let ids: Vec<_> = request.record_ids().iter().map(RecordId::as_str).collect();
        assert_eq!(ids, ["b", "a", "é"]);
        assert!(request.epoch().is_some());
        for count in [1, RECORD_IDS_MAX] {
            let request = RecordsRequest::from_json(self::ids(count).as_bytes()).unwrap();
            assert_eq!((request.record_ids().len(), request.epoch()), (count, None));
        }
    }

    #[test]
    fn all_issues_are_reported_at_once() {
        for value in ["null", "{}", "\"a\"", "5", "[]", "[],\"recordIds\":[\"a\"]"] {
            check_issues(&format!(r#"{{"recordIds":{value}}}"#), &["recordIds"]);
        }
        check_issues("{}", &["recordIds"]);
        check_issues("[]", &[""]);
        check_issues(&ids(RECORD_IDS_MAX + 1), &["recordIds"]);
        check_issues(&ids(100_000), &["recordIds"]);
        check_issues(
            r#"{"epoch":"","recordIds":["a",null,"","a","\n",{},["x"],1,"a"]}"#,
            &[
                "epoch",
                "recordIds[1]",
                "recordIds[2]",
                "recordIds[3]",
                "recordIds[4]",
                "recordIds[5]",
                "recordIds[6]",
                "recordIds[7]",
                "recordIds[8]",
            ],
        );
        let nested = format!(r#"{{"recordIds":[{}{}]}}"#, "[".repeat(100), "]".repeat(100));
        let parsed = RecordsRequest::from_json(nested.as_bytes());
        assert!(matches!(parsed, Err(BodyError::Json(_))));
    }
}
