//! Queries of the history, and which of their parameters go together.

use std::borrow::Cow;

use super::HISTORY_ENTRIES_MAX;
use crate::{
    Cursor, Issue, Issues, KnownEpoch, RecordId, Version,
    query::{self, digits},
};

/// Parameters of the three queries.
const PARAMETERS: [&str; 7] = ["recordId", "before", "version", "at", "after", "limit", "epoch"];

/// Request for a part of a vault's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRequest {
    /// What is asked for.
    pub query: HistoryQuery,
    /// Epoch of the history that the client expects to read, if it sent one.
    pub epoch: Option<KnownEpoch>,
}

/// What a client can ask of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryQuery {
    /// The kept versions of a record, newest first.
    Versions {
        /// The record.
        record_id: RecordId,
        /// Returns only lower versions; `None` returns all.
        before: Option<Version>,
        /// Maximum number of versions in the page, from 1 to [`HISTORY_ENTRIES_MAX`].
        limit: usize,
    },
    /// One version of a record, with its ciphertext.
    Version {
        /// The record.
        record_id: RecordId,
        /// The version, from 1.
        version: Version,
    },
    /// The states at a cursor of the records that changed after it, by record id.
    States {
        /// The cursor.
        at: Cursor,
        /// Looks only at records with a later id; `None` looks at all.
        after: Option<RecordId>,
        /// Maximum number of records to look at, from 1 to [`HISTORY_ENTRIES_MAX`].
        limit: usize,
    },
}

impl HistoryRequest {
    /// Parses the query of a request, without its `?`.
    ///
    /// Unknown parameters are ignored. An empty `before`, `after` or `epoch` counts as absent.
    pub fn from_query(query: &str) -> Result<Self, Vec<Issue>> {
        let mut parameters = Parameters::default();
        query::parse(query, PARAMETERS, |name, value| parameters.set(name, value))?;
        let mut issues = Issues::default();
        let epoch = parameters.epoch.take();
        match parameters.into_query(&mut issues) {
            Some(query) if issues.is_empty() => Ok(Self { query, epoch }),
            _ => Err(issues.into_vec()),
        }
    }
}

/// The parameters that were given, each valid in itself.
#[derive(Default)]
struct Parameters {
    record_id: Option<RecordId>,
    before: Option<Version>,
    version: Option<Version>,
    at: Option<Cursor>,
    after: Option<RecordId>,
    limit: Option<usize>,
    epoch: Option<KnownEpoch>,
}

impl Parameters {
    fn set(&mut self, name: &str, value: &str) -> Result<(), Cow<'static, str>> {
        match name {
            "before" | "after" | "epoch" if value.is_empty() => {}
            "recordId" => self.record_id = Some(RecordId::new(value)?),
            "before" => self.before = Some(version(value).ok_or_else(version_rule)?),
            "version" => self.version = Some(version(value).ok_or_else(version_rule)?),
            "at" => self.at = Some(Cursor::parse(value).map_err(|error| error.to_string())?),
            "after" => self.after = Some(RecordId::new(value)?),
            "limit" => self.limit = Some(query::limit(value, HISTORY_ENTRIES_MAX)?),
            "epoch" => self.epoch = Some(KnownEpoch::new(value).ok_or(KnownEpoch::RULE)?),
            _ => {}
        }
        Ok(())
    }

    /// The query that the parameters make together. Adds an issue for each that does not fit the others.
    fn into_query(self, issues: &mut Issues) -> Option<HistoryQuery> {
        let Self { record_id, before, version, at, after, limit, epoch: _ } = self;
        let mut refuse = |name, is_given, rule| {
            if is_given {
                issues.add(name, rule);
            }
        };
        let entries_max = limit.unwrap_or(HISTORY_ENTRIES_MAX);
        match (record_id, version, at) {
            (Some(record_id), version, None) => {
                refuse("after", after.is_some(), "must not be given without at");
                let Some(version) = version else {
                    return Some(HistoryQuery::Versions { record_id, before, limit: entries_max });
                };
                refuse("before", before.is_some(), "must not be given with version");
                refuse("limit", limit.is_some(), "must not be given with version");
                Some(HistoryQuery::Version { record_id, version })
            }
            (None, version, Some(at)) => {
                refuse("before", before.is_some(), "must not be given without recordId");
                refuse("version", version.is_some(), "must not be given without recordId");
                Some(HistoryQuery::States { at, after, limit: entries_max })
            }
            (Some(_), _, Some(_)) => {
                refuse("at", true, "must not be given with recordId");
                None
            }
            (None, _, None) => {
                refuse("recordId", true, "must be given, or at");
                None
            }
        }
    }
}

fn version(text: &str) -> Option<Version> {
    let number = digits(text).and_then(|number| i64::try_from(number).ok())?;
    Version::new(number).filter(|version| *version != Version::NONE)
}

fn version_rule() -> String {
    format!("must be a whole number from 1 to {}", Version::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    const AT: &str = "at=2024-01-15T10:30:00Z";

    fn id(text: &str) -> RecordId {
        RecordId::new(text).unwrap()
    }

    #[track_caller]
    fn check(query: &str, expected: HistoryQuery) {
        let expected = HistoryRequest { query: expected, epoch: None };
        assert_eq!(HistoryRequest::from_query(query), Ok(expected), "{query}");
    }

    #[track_caller]
    fn check_issues(query: &str, paths: &[&str]) {
        let issues = HistoryRequest::from_query(query).expect_err(query);
        let found: Vec<&str> = issues.iter().map(|issue| issue.path.as_str()).collect();
        assert_eq!(found, paths, "{query}");
    }

    #[test]
    fn each_of_the_three_queries_is_parsed() {
        let versions = |before: Option<i64>, limit| {
            let before = before.map(|number| Version::new(number).unwrap());
            HistoryQuery::Versions { record_id: id("a b"), before, limit }
        };
        check("recordId=a+b", versions(None, 1000));
        check("recordId=a%20b&before=&after=&epoch=&unknown=1", versions(None, 1000));
        check("recordId=a+b&before=7&limit=1", versions(Some(7), 1));
        check("before=9007199254740991&recordId=a+b", versions(Some(9_007_199_254_740_991), 1000));
        let version = |number| HistoryQuery::Version {
            record_id: id("é"),
            version: Version::new(number).unwrap(),
        };
        check("recordId=%C3%A9&version=1", version(1));
        check("version=9007199254740991&recordId=é&before=", version(9_007_199_254_740_991));
        let states = |after: Option<&str>, limit| HistoryQuery::States {
            at: Cursor::from(Timestamp::from_millis(1_705_314_600_000)),
            after: after.map(id),
            limit,
        };
        check(AT, states(None, 1000));
        check(&format!("{AT}&after="), states(None, 1000));
        check(&format!("after=x&limit=1000&{AT}"), states(Some("x"), 1000));
        let with_epoch = HistoryRequest::from_query("recordId=a&epoch=e").unwrap();
        assert_eq!(with_epoch.epoch, KnownEpoch::new("e"));
    }

    #[test]
    fn each_value_has_its_rule() {
        for limit in ["", "0", "1001", "-1", "+1", "1.0", "x"] {
            check_issues(&format!("recordId=a&limit={limit}"), &["limit"]);
            check_issues(&format!("{AT}&limit={limit}"), &["limit"]);
        }
        for version in ["0", "-1", "1.0", "x", "+1", "9007199254740992", "99999999999999999999"] {
            check_issues(&format!("recordId=a&version={version}"), &["version"]);
            check_issues(&format!("recordId=a&before={version}"), &["before"]);
        }
        let long = "x".repeat(256);
        for record_id in ["", "%00", "a%0A", &long] {
            check_issues(&format!("recordId={record_id}"), &["recordId"]);
        }
        for at in ["", "now", "2024-01-15", "0"] {
            check_issues(&format!("at={at}"), &["at"]);
        }
        check_issues(&format!("{AT}&after=%7F"), &["after"]);
        check_issues("recordId=a&version=", &["version"]);
        check_issues("recordId=a&recordId=a", &["recordId"]);
        check_issues(&format!("limit=0&{AT}&epoch={long}&after=%00"), &["limit", "epoch", "after"]);
    }

    #[test]
    fn parameters_that_do_not_go_together_are_named() {
        for nothing in ["", "limit=5", "before=3", "version=3", "after=a", "epoch=e", "x=1"] {
            check_issues(nothing, &["recordId"]);
        }
        check_issues(&format!("recordId=a&{AT}"), &["at"]);
        check_issues(&format!("recordId=a&{AT}&version=1"), &["at"]);
        check_issues("recordId=a&version=2&before=3", &["before"]);
        check_issues("recordId=a&version=2&limit=3", &["limit"]);
        check_issues("recordId=a&version=2&limit=3&before=3", &["before", "limit"]);
        check_issues("recordId=a&after=b", &["after"]);
        check_issues("recordId=a&version=1&after=b", &["after"]);
        check_issues(&format!("{AT}&version=1"), &["version"]);
        check_issues(&format!("{AT}&before=2"), &["before"]);
        check_issues(&format!("{AT}&version=1&before=2"), &["before", "version"]);
    }
}
