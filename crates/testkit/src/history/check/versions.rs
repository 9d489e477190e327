//! G3: each version is one write on top of its base version, and versions have no gaps.

use super::{
    Promise, Report,
    evidence::{Evidence, Origin},
};
use crate::history::index::{History, NEVER, PushOutcome};

pub(super) fn check(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    check_bases(history, report);
    check_origins(evidence, report);
    check_one_write_each(evidence, report);
    check_gaps(history, evidence, report);
}

/// Checks that an acknowledged version is one above the base version, or the first of its record.
fn check_bases(history: &History, report: &mut Report<'_>) {
    for attempt in &history.attempts {
        let PushOutcome::Acknowledged(results) = &attempt.outcome else { continue };
        let operations = &history.batches[attempt.batch].operations;
        for (operation, &(version, _)) in operations.iter().zip(results) {
            if !operation.may_make(version) {
                let base = operation.base.map_or("none".to_owned(), |base| base.to_string());
                let what = format!("version {version} was acknowledged on base version {base}");
                report.add_for_record(Promise::Versions, operation.record, [attempt.number], what);
            }
        }
    }
}

fn check_origins(evidence: &Evidence, report: &mut Report<'_>) {
    for unexplained in &evidence.unexplained {
        let what = match unexplained.origin {
            Origin::OtherBase => "has a write that was made on another base version",
            Origin::Unknown => "has content that no push wrote to it",
            // Reported under their own promises.
            Origin::RefusedPush(_) | Origin::OtherVault(_) | Origin::ErasedEpoch(_) => continue,
        };
        let what = format!("version {} {what}", unexplained.version);
        let operation = unexplained.operation;
        report.add_for_record(Promise::Versions, unexplained.record, operation, what);
    }
}

fn check_one_write_each(evidence: &Evidence, report: &mut Report<'_>) {
    for (&(record, number), version) in &evidence.versions {
        let [first, others @ ..] = version.claims.as_slice() else { continue };
        for other in others {
            let what = if first.acknowledged && other.acknowledged {
                format!("version {number} was acknowledged for two writes")
            } else {
                format!("version {number} was returned with the content of two writes")
            };
            let operations = first.operation.into_iter().chain(other.operation);
            report.add_for_record(Promise::Versions, record, operations, what);
        }
    }
}

/// Checks that every version up to the last was made by a push that may have been applied.
fn check_gaps(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    let mut last = vec![(0, None); history.records.len()];
    for (&(record, number), version) in &evidence.versions {
        if !version.claims.is_empty() {
            last[record] = last[record].max((number, version.first_operation()));
        }
    }
    for (record, (last, operation)) in last.into_iter().enumerate() {
        // Stops at the first gap, so that a version out of nowhere costs no more than any other.
        let is_made =
            |number| evidence.version(record, number).is_some_and(|made| made.begin != NEVER);
        if let Some(gap) = (1..=last).find(|&number| !is_made(number)) {
            let what =
                format!("there is a version {last}, but no push can have made version {gap}");
            report.add_for_record(Promise::Versions, record, operation, what);
        }
    }
}
