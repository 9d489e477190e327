//! Pushes: batches of writes.

use std::{borrow::Cow, collections::HashMap};

use crate::{
    Ciphertext, Issue, Issues, KnownEpoch, OPERATIONS_MAX, RecordId, Version,
    json::{self, RawMember, RawOperation, RawOperations},
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

/// Batch of at most [`OPERATIONS_MAX`] writes to different records, applied all or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    operations: Vec<Operation>,
    epoch: Option<KnownEpoch>,
}

/// Reason why a body is not a valid push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushError {
    /// Not JSON, or nested too deeply; says where and why.
    Json(String),
    /// JSON, but not a push.
    Invalid(Vec<Issue>),
}

impl Push {
    /// Parses a request body. `ciphertext_bytes_max` is the maximum length of one decoded
    /// ciphertext.
    ///
    /// Unknown members are ignored.
    pub fn from_json(body: &[u8], ciphertext_bytes_max: usize) -> Result<Self, PushError> {
        let raw = json::parse_push(body).map_err(|error| PushError::Json(error.to_string()))?;
        let mut issues = Issues::default();
        let push = match raw {
            None => {
                issues.add("", "the body must be a JSON object");
                None
            }
            Some(raw) => {
                let epoch = epoch(raw.epoch, &mut issues);
                operations(raw.operations, ciphertext_bytes_max, &mut issues)
                    .map(|operations| Self { operations, epoch })
            }
        };
        match push {
            Some(push) if issues.is_empty() => Ok(push),
            _ => Err(PushError::Invalid(issues.into_vec())),
        }
    }

    /// Writes in the order of the request.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Epoch of the history that the client expects to write to, if it sent one.
    pub fn epoch(&self) -> Option<&KnownEpoch> {
        self.epoch.as_ref()
    }

    /// Total ciphertext bytes of all operations.
    pub fn ciphertext_bytes(&self) -> usize {
        self.operations.iter().map(|operation| operation.ciphertext.len()).sum()
    }
}

fn operations(
    raw: RawOperations<'_>,
    ciphertext_bytes_max: usize,
    issues: &mut Issues,
) -> Option<Vec<Operation>> {
    let (raw, count) = match raw {
        RawOperations::Array { operations, count } => (operations, count),
        RawOperations::NotAnArray => {
            issues.add("operations", "must be an array");
            return None;
        }
        RawOperations::Missing => {
            issues.add("operations", MISSING);
            return None;
        }
        RawOperations::Duplicate => {
            issues.add("operations", DUPLICATE);
            return None;
        }
    };
    if count > OPERATIONS_MAX {
        let message = format!("must contain at most {OPERATIONS_MAX} operations, not {count}");
        issues.add("operations", message);
    }
    let operations: Vec<Option<Operation>> = raw
        .into_iter()
        .enumerate()
        .map(|(index, raw)| {
            if raw.is_none() {
                issues.add(format!("operations[{index}]"), "must be an object");
            }
            operation(raw?, index, ciphertext_bytes_max, issues)
        })
        .collect();
    reject_repeated_records(&operations, issues);
    operations.into_iter().collect()
}

fn reject_repeated_records(operations: &[Option<Operation>], issues: &mut Issues) {
    let mut first_index = HashMap::with_capacity(operations.len());
    for (index, operation) in operations.iter().enumerate() {
        let Some(operation) = operation else { continue };
        if let Some(first) = first_index.insert(operation.record_id.as_str(), index) {
            let path = format!("operations[{index}].recordId");
            issues.add(path, format!("must not repeat the recordId of operations[{first}]"));
        }
    }
}

const MISSING: &str = "must be present";
const DUPLICATE: &str = "must not be given twice";

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

fn string(raw: RawMember<'_>) -> Result<Cow<'_, str>, String> {
    match raw {
        RawMember::String(text) => Ok(text),
        RawMember::Missing => Err(MISSING.to_owned()),
        RawMember::Duplicate => Err(DUPLICATE.to_owned()),
        _ => Err("must be a string".to_owned()),
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

fn epoch(raw: RawMember<'_>, issues: &mut Issues) -> Option<KnownEpoch> {
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

#[cfg(test)]
mod tests;
