//! Pushes: batches of writes.

mod raw;

use std::{collections::HashMap, fmt};

use self::raw::{RawGuard, RawOperation, RawPush};
use crate::{
    BodyError, Ciphertext, Cursor, GUARDS_MAX, Issues, KnownEpoch, OPERATIONS_MAX, RecordId,
    Version,
    body::{self, DUPLICATE, MISSING, all, elements, epoch, string},
    json::{RawArray, RawMember},
};

/// One write of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Id of the record to write.
    pub record_id: RecordId,
    /// Version that the client edited; `None` if it knows of none.
    pub base_version: Option<Version>,
    /// Bytes to store; empty only if `deleted` is true.
    pub ciphertext: Ciphertext,
    /// Whether the write turns the record into a tombstone.
    pub deleted: bool,
}

impl Operation {
    /// Version after this write, provided that its base version is the current one.
    pub fn next_version(&self) -> Version {
        self.base_version.unwrap_or(Version::NONE).next()
    }
}

/// Condition of a push: it is applied only if a record that it does not write is at this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Id of the record.
    pub record_id: RecordId,
    /// Version that the record must have; [`Version::NONE`] if it must not exist.
    pub version: Version,
}

/// Batch of at most [`OPERATIONS_MAX`] writes to different records, applied all or none, and at most
/// [`GUARDS_MAX`] guards on other records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    operations: Vec<Operation>,
    guards: Vec<Guard>,
    epoch: Option<KnownEpoch>,
    since: Option<Cursor>,
}

impl Push {
    /// Parses a request body. `ciphertext_bytes_max` is the maximum length of one decoded
    /// ciphertext.
    ///
    /// Unknown members are ignored.
    pub fn from_json(body: &[u8], ciphertext_bytes_max: usize) -> Result<Self, BodyError> {
        body::parse(body, |raw: RawPush<'_>, issues| {
            let epoch = epoch(raw.epoch, issues);
            let since = body::time("since", raw.since, issues);
            let operations = operations(raw.operations, ciphertext_bytes_max, issues);
            let guards = guards(raw.guards, issues);
            if operations.is_empty() && !guards.is_empty() && issues.is_empty() {
                issues.add("guards", "must be absent or empty if there are no operations");
            }
            reject_repeated_records(&operations, &guards, issues);
            Some(Self { operations: all(operations)?, guards: all(guards)?, epoch, since })
        })
    }

    /// Writes in the order of the request.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Conditions on records that the push does not write, in the order of the request.
    pub fn guards(&self) -> &[Guard] {
        &self.guards
    }

    /// Ids of all records that decide what becomes of the push: those of the operations, then those of
    /// the guards. No two are the same.
    pub fn record_ids(&self) -> impl ExactSizeIterator<Item = &RecordId> + Clone {
        let operations = self.operations.len();
        (0..operations + self.guards.len()).map(move |index| match index.checked_sub(operations) {
            None => &self.operations[index].record_id,
            Some(guard) => &self.guards[guard].record_id,
        })
    }

    /// Epoch of the history that the client expects to write to, if it sent one.
    pub fn epoch(&self) -> Option<&KnownEpoch> {
        self.epoch.as_ref()
    }

    /// The time up to which the client knows every deletion, if it sent one.
    pub fn since(&self) -> Option<Cursor> {
        self.since
    }

    /// Total ciphertext bytes of all operations.
    pub fn ciphertext_bytes(&self) -> usize {
        self.operations.iter().map(|operation| operation.ciphertext.len()).sum()
    }
}

/// The elements of the member `operations`, or an issue and none.
fn operations(
    raw: RawArray<RawOperation<'_>>,
    ciphertext_bytes_max: usize,
    issues: &mut Issues,
) -> Vec<Option<Operation>> {
    elements("operations", raw, OPERATIONS_MAX, issues, |raw, index, issues| {
        operation(raw, index, ciphertext_bytes_max, issues)
    })
}

/// The elements of the member `guards`, which may be absent.
fn guards(raw: RawArray<RawGuard<'_>>, issues: &mut Issues) -> Vec<Option<Guard>> {
    if matches!(raw, RawArray::Missing | RawArray::Null) {
        return Vec::new();
    }
    elements("guards", raw, GUARDS_MAX, issues, guard)
}

/// An element of an array in the body.
#[derive(Clone, Copy)]
struct Place {
    member: &'static str,
    index: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.member, self.index)
    }
}

fn reject_repeated_records(
    operations: &[Option<Operation>],
    guards: &[Option<Guard>],
    issues: &mut Issues,
) {
    let mut first = HashMap::with_capacity(operations.len() + guards.len());
    let operations = operations.iter().map(|one| one.as_ref().map(|one| &one.record_id));
    let guards = guards.iter().map(|one| one.as_ref().map(|one| &one.record_id));
    let place = |member| move |(index, id)| (Place { member, index }, id);
    let operations = operations.enumerate().map(place("operations"));
    let guards = guards.enumerate().map(place("guards"));
    for (place, id) in operations.chain(guards) {
        let Some(id) = id else { continue };
        if let Some(first) = first.insert(id.as_str(), place) {
            let path = format!("{place}.recordId");
            issues.add(path, format!("must not repeat the recordId of {first}"));
        }
    }
}

fn operation(
    raw: RawOperation<'_>,
    index: usize,
    ciphertext_bytes_max: usize,
    issues: &mut Issues,
) -> Option<Operation> {
    let mut add_issue = |member: &str, message: String| {
        issues.add(format!("operations[{index}].{member}"), message);
    };
    let record_id = string(raw.record_id)
        .and_then(|text| RecordId::new(&text).map_err(str::to_owned))
        .map_err(|message| add_issue("recordId", message));
    let base_version =
        base_version(&raw.base_version).map_err(|message| add_issue("baseVersion", message));
    let ciphertext = string(raw.ciphertext)
        .and_then(|text| Ciphertext::from_base64(&text, ciphertext_bytes_max))
        .map_err(|message| add_issue("ciphertext", message));
    let deleted = deleted(&raw.deleted).map_err(|message| add_issue("deleted", message));
    let operation = Operation {
        record_id: record_id.ok()?,
        base_version: base_version.ok()?,
        ciphertext: ciphertext.ok()?,
        deleted: deleted.ok()?,
    };
    if operation.ciphertext.is_empty() && !operation.deleted {
        add_issue("ciphertext", "must not be empty unless deleted is true".to_owned());
        return None;
    }
    Some(operation)
}

fn guard(raw: RawGuard<'_>, index: usize, issues: &mut Issues) -> Option<Guard> {
    let mut add_issue = |member: &str, message: String| {
        issues.add(format!("guards[{index}].{member}"), message);
    };
    let record_id = string(raw.record_id)
        .and_then(|text| RecordId::new(&text).map_err(str::to_owned))
        .map_err(|message| add_issue("recordId", message));
    let version = version(&raw.version).map_err(|message| add_issue("version", message));
    Some(Guard { record_id: record_id.ok()?, version: version.ok()? })
}

fn version(raw: &RawMember<'_>) -> Result<Version, String> {
    match raw {
        RawMember::Integer(number) if let Some(version) = Version::new(*number) => Ok(version),
        RawMember::Missing => Err(MISSING.to_owned()),
        RawMember::Duplicate => Err(DUPLICATE.to_owned()),
        _ => Err(format!("must be a whole number from 0 to {}", Version::MAX)),
    }
}

fn base_version(raw: &RawMember<'_>) -> Result<Option<Version>, String> {
    match raw {
        RawMember::Null => Ok(None),
        RawMember::Integer(number) if let Some(version) = Version::new(*number) => {
            Ok(Some(version))
        }
        RawMember::Missing => Err(MISSING.to_owned()),
        RawMember::Duplicate => Err(DUPLICATE.to_owned()),
        _ => Err(format!("must be null or a whole number from 0 to {}", Version::MAX)),
    }
}

fn deleted(raw: &RawMember<'_>) -> Result<bool, String> {
    match raw {
        RawMember::Bool(deleted) => Ok(*deleted),
        RawMember::Missing => Err(MISSING.to_owned()),
        RawMember::Duplicate => Err(DUPLICATE.to_owned()),
        _ => Err("must be true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests;
