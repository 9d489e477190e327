//! What the parsers of request bodies share: the first step, and members that several bodies have.

use std::borrow::Cow;

use crate::{
    Cursor, Issue, Issues, KnownEpoch,
    json::{self, RawArray, RawMember, SetMember},
};

/// Reason why a body is not a valid request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Not JSON, or nested too deeply; says where and why.
    Json(String),
    /// JSON, but not this request.
    Invalid(Vec<Issue>),
}

pub(crate) const MISSING: &str = "must be present";
pub(crate) const DUPLICATE: &str = "must not be given twice";

/// Parses a body that is an object, and validates its members. `validate` returns `None` only if it adds an
/// issue.
pub(crate) fn parse<'a, R: SetMember<'a> + Default, T>(
    body: &'a [u8],
    validate: impl FnOnce(R, &mut Issues) -> Option<T>,
) -> Result<T, BodyError> {
    let raw = json::parse_object(body).map_err(|error| BodyError::Json(error.to_string()))?;
    let mut issues = Issues::default();
    let request = match raw {
        None => {
            issues.add("", "the body must be a JSON object");
            None
        }
        Some(raw) => validate(raw, &mut issues),
    };
    match request {
        Some(request) if issues.is_empty() => Ok(request),
        _ => Err(BodyError::Invalid(issues.into_vec())),
    }
}

/// Parses each element of an array of objects; `None` for one that has issues.
pub(crate) fn elements<R, T>(
    member: &str,
    raw: RawArray<R>,
    count_max: usize,
    issues: &mut Issues,
    parse: impl Fn(R, usize, &mut Issues) -> Option<T>,
) -> Vec<Option<T>> {
    let raw = array(member, raw, count_max, issues);
    let mut elements = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        if raw.is_none() {
            issues.add(format!("{member}[{index}]"), "must be an object");
        }
        elements.push(raw.and_then(|raw| parse(raw, index, issues)));
    }
    elements
}

/// The elements of a required array, or an issue and none.
pub(crate) fn array<R>(
    member: &str,
    raw: RawArray<R>,
    count_max: usize,
    issues: &mut Issues,
) -> Vec<Option<R>> {
    let (elements, count) = match raw {
        RawArray::Array { elements, count } => (elements, count),
        RawArray::NotAnArray | RawArray::Null => {
            issues.add(member, "must be an array");
            return Vec::new();
        }
        RawArray::Missing => {
            issues.add(member, MISSING);
            return Vec::new();
        }
        RawArray::Duplicate => {
            issues.add(member, DUPLICATE);
            return Vec::new();
        }
    };
    if count > count_max {
        issues.add(member, format!("must contain at most {count_max} {member}, not {count}"));
    }
    elements
}

/// All elements, if each is valid.
pub(crate) fn all<T>(elements: Vec<Option<T>>) -> Option<Vec<T>> {
    elements.into_iter().collect()
}

/// The text of a required member, or the rule that it breaks.
pub(crate) fn string(raw: RawMember<'_>) -> Result<Cow<'_, str>, String> {
    match raw {
        RawMember::String(text) => Ok(text),
        RawMember::Missing => Err(MISSING.to_owned()),
        RawMember::Duplicate => Err(DUPLICATE.to_owned()),
        _ => Err("must be a string".to_owned()),
    }
}

/// The epoch of the member `epoch`, which may be absent or null.
pub(crate) fn epoch(raw: RawMember<'_>, issues: &mut Issues) -> Option<KnownEpoch> {
    let epoch = match raw {
        RawMember::Missing | RawMember::Null => return None,
        RawMember::String(text) => KnownEpoch::new(&text),
        RawMember::Duplicate => {
            issues.add("epoch", DUPLICATE);
            return None;
        }
        _ => None,
    };
    if epoch.is_none() {
        issues.add("epoch", KnownEpoch::RULE);
    }
    epoch
}

/// The time of a member that may be absent or null.
pub(crate) fn time(member: &str, raw: RawMember<'_>, issues: &mut Issues) -> Option<Cursor> {
    let parsed = match raw {
        RawMember::Missing | RawMember::Null => return None,
        RawMember::String(text) => Cursor::parse(&text).map_err(|error| error.to_string()),
        RawMember::Duplicate => Err(DUPLICATE.to_owned()),
        _ => Err("must be null or a string".to_owned()),
    };
    parsed.map_err(|message| issues.add(member, message)).ok()
}
