//! Pulls as request bodies.

use serde::de::MapAccess;

use super::{Pull, limit, limit_rule, wait, wait_rule};
use crate::{
    BodyError, Issues,
    body::{self, DUPLICATE, epoch, time},
    json::{RawMember, SetMember, set_once, skip},
};

/// Members of a pull that the protocol defines, valid or not.
#[derive(Debug, Default)]
struct RawPull<'a> {
    cursor: RawMember<'a>,
    limit: RawMember<'a>,
    wait: RawMember<'a>,
    epoch: RawMember<'a>,
    since: RawMember<'a>,
}

impl<'de> SetMember<'de> for RawPull<'de> {
    fn set_member<A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: &mut A,
        levels_left: usize,
    ) -> Result<(), A::Error> {
        match name {
            "cursor" => set_once(&mut self.cursor, value, levels_left),
            "limit" => set_once(&mut self.limit, value, levels_left),
            "wait" => set_once(&mut self.wait, value, levels_left),
            "epoch" => set_once(&mut self.epoch, value, levels_left),
            "since" => set_once(&mut self.since, value, levels_left),
            _ => skip(value, levels_left),
        }
    }
}

impl Pull {
    /// Parses a request body. Unknown members are ignored.
    pub fn from_json(body: &[u8]) -> Result<Self, BodyError> {
        body::parse(body, |raw: RawPull<'_>, issues| {
            let default = Self::default();
            Some(Self {
                cursor: time("cursor", raw.cursor, issues),
                limit: number("limit", &raw.limit, limit, limit_rule, issues)
                    .unwrap_or(default.limit),
                wait: number("wait", &raw.wait, wait, wait_rule, issues).unwrap_or(default.wait),
                epoch: epoch(raw.epoch, issues),
                since: time("since", raw.since, issues),
            })
        })
    }
}

/// The number of a member that may be absent.
fn number<T>(
    member: &str,
    raw: &RawMember<'_>,
    in_range: fn(u64) -> Option<T>,
    rule: fn() -> String,
    issues: &mut Issues,
) -> Option<T> {
    let parsed = match raw {
        RawMember::Missing => return None,
        RawMember::Integer(number) => {
            u64::try_from(*number).ok().and_then(in_range).ok_or_else(rule)
        }
        RawMember::Duplicate => Err(DUPLICATE.to_owned()),
        _ => Err(rule()),
    };
    parsed.map_err(|message| issues.add(member, message)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_issues(body: &str, paths: &[&str]) {
        let Err(BodyError::Invalid(issues)) = Pull::from_json(body.as_bytes()) else {
            panic!("{body}")
        };
        let found: Vec<&str> = issues.iter().map(|issue| issue.path.as_str()).collect();
        assert_eq!(found, paths, "{body}");
    }

    #[test]
    fn a_body_and_a_query_say_the_same() {
        for (body, query) in [
            ("{}", ""),
            (r#"{"cursor":null,"epoch":null,"since":null,"x":[{"limit":0}]}"#, ""),
            (
                r#"{"cursor":"2024-01-15T11:30:00.5+01:00","limit":7,"wait":55,"epoch":"e","since":"1970-01-01T00:00:00Z"}"#,
                "cursor=2024-01-15T11:30:00.5%2B01:00&limit=7&wait=55&epoch=e&since=1970-01-01T00:00:00Z",
            ),
            (r#"{"limit":1.0,"wait":0e0}"#, "limit=1&wait=0"),
        ] {
            let pull = Pull::from_json(body.as_bytes()).expect(body);
            assert_eq!(Ok(pull), Pull::from_query(query), "{body}");
        }
    }

    #[test]
    fn all_issues_are_reported_at_once() {
        for limit in ["null", "0", "101", "-1", "1.5", "1e9", "\"5\"", "[]", "{}", "true"] {
            check_issues(&format!(r#"{{"limit":{limit}}}"#), &["limit"]);
        }
        for wait in ["null", "56", "-1", "0.5", "\"1\""] {
            check_issues(&format!(r#"{{"wait":{wait}}}"#), &["wait"]);
        }
        for time in ["\"\"", "\"now\"", "0", "[]", "{}", "false"] {
            check_issues(&format!(r#"{{"cursor":{time},"since":{time}}}"#), &["cursor", "since"]);
        }
        check_issues(r#"{"cursor":null,"cursor":null}"#, &["cursor"]);
        check_issues(r#"{"epoch":"","limit":1,"limit":1}"#, &["limit", "epoch"]);
        check_issues("[]", &[""]);
        assert!(matches!(Pull::from_json(b""), Err(BodyError::Json(_))));
    }
}
