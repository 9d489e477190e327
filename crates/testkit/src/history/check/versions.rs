//! I3: no version stands for two writes, none is left out, and each is on top of its base.

use super::{
    Promise, Report,
    facts::{Facts, Origin},
};
use crate::history::index::{History, NEVER, PushOutcome};

pub(super) fn check(history: &History, facts: &Facts, report: &mut Report<'_>) {
    check_bases(history, report);
    check_origins(history, facts, report);
    check_one_write_each(facts, report);
    check_gaps(history, facts, report);
}

/// An acknowledged version is one past the base, or the first of its record.
fn check_bases(history: &History, report: &mut Report<'_>) {
    for attempt in &history.attempts {
        let PushOutcome::Acknowledged(results) = &attempt.outcome else { continue };
        let operations = &history.batches[attempt.batch].operations;
        for (operation, &(version, _)) in operations.iter().zip(results) {
            if !operation.may_make(version) {
                let base = operation.base.map_or("none".to_owned(), |base| base.to_string());
                let what = format!("version {version} was acknowledged on base version {base}");
                report.of_record(Promise::Versions, operation.record, [attempt.number], what);
            }
        }
    }
}

fn check_origins(history: &History, facts: &Facts, report: &mut Report<'_>) {
    for (operation, seen) in history.sightings() {
        let what = match facts.origin(history, seen) {
            Origin::OtherBase(_) => "holds a write that was made on another base",
            Origin::Nobody => "holds what nobody wrote to it",
            // Those are told under their own promises.
            Origin::Refused(_) | Origin::Another(_) | Origin::Possible => continue,
        };
        let what = format!("version {} {what}", seen.version);
        report.of_record(Promise::Versions, seen.record, operation, what);
    }
}

fn check_one_write_each(facts: &Facts, report: &mut Report<'_>) {
    for (&(record, number), version) in &facts.versions {
        let [first, others @ ..] = version.told.as_slice() else { continue };
        for other in others {
            let what = if first.acknowledged && other.acknowledged {
                format!("version {number} was acknowledged for two writes")
            } else {
                format!("version {number} was told to hold two writes")
            };
            let operations = first.operation.into_iter().chain(other.operation);
            report.of_record(Promise::Versions, record, operations, what);
        }
    }
}

/// Every version up to the last was made by a push that was acknowledged, or may have been applied.
fn check_gaps(history: &History, facts: &Facts, report: &mut Report<'_>) {
    let mut last = vec![(0, None); history.records.len()];
    for (&(record, number), version) in &facts.versions {
        if let Some(told) = version.told.first() {
            last[record] = last[record].max((number, told.operation));
        }
    }
    for (record, (last, operation)) in last.into_iter().enumerate() {
        // Ends at the first gap, so that a version out of nowhere costs no more than any other.
        let made = |number| facts.version(record, number).is_some_and(|made| made.begin != NEVER);
        if let Some(gap) = (1..=last).find(|&number| !made(number)) {
            let what =
                format!("there is a version {last}, and no push can have made version {gap}");
            report.of_record(Promise::Versions, record, operation, what);
        }
    }
}
