//! I2: a push is all or nothing.

use std::collections::{HashMap, HashSet};

use super::{
    Promise, Report,
    facts::{Facts, Origin},
};
use crate::history::index::{
    Batch, BatchIndex, Content, History, Operation, Page, Pull, PushOutcome, RecordIndex,
};

pub(super) fn check(history: &History, facts: &Facts, report: &mut Report<'_>) {
    for (operation, seen) in history.sightings() {
        if let Origin::Refused(batch) = facts.origin(history, seen) {
            let pushes = numbers(history, &history.batches[batch]);
            let what = format!("version {} is of a push that was told: nothing", seen.version);
            report.of_record(Promise::Atomic, seen.record, pushes.chain(operation), what);
        }
    }
    for (index, batch) in history.batches.iter().enumerate() {
        if batch.possible && !was_acknowledged(history, batch) {
            check_unknown(history, facts, index, report);
        }
    }
    for pull in &history.pulls {
        if let Some(page) = &pull.page
            && !page.has_more
        {
            check_page(history, facts, pull, page, report);
        }
    }
}

fn numbers<'a>(history: &'a History, batch: &'a Batch) -> impl Iterator<Item = u64> + 'a {
    batch.attempts.iter().map(|&attempt| history.attempts[attempt].number)
}

fn was_acknowledged(history: &History, batch: &Batch) -> bool {
    batch
        .attempts
        .iter()
        .any(|&attempt| matches!(history.attempts[attempt].outcome, PushOutcome::Acknowledged(_)))
}

/// Of a push that nobody heard the end of, no write may be seen where another one cannot have been
/// made.
fn check_unknown(history: &History, facts: &Facts, index: BatchIndex, report: &mut Report<'_>) {
    let batch = &history.batches[index];
    let seen = batch.operations.iter().find(|operation| {
        versions(operation).any(|version| is_shown_of(history, facts, index, operation, version))
    });
    let missing = batch.operations.iter().find(|operation| {
        versions(operation).all(|version| is_missing(history, facts, operation, version))
    });
    if let (Some(seen), Some(missing)) = (seen, missing)
        && seen.record != missing.record
    {
        let what = format!(
            "a push of unknown outcome wrote it, but not {}",
            history.record_id(missing.record)
        );
        report.of_record(Promise::Atomic, seen.record, numbers(history, batch), what);
    }
}

/// The versions that a write can make.
fn versions(operation: &Operation) -> impl Iterator<Item = u64> {
    let next = operation.next_version();
    std::iter::once(next).chain((next != 1).then_some(1))
}

/// Whether somebody was told of this write, and no other push can have made it.
pub(super) fn is_shown_of(
    history: &History,
    facts: &Facts,
    batch: BatchIndex,
    operation: &Operation,
    version: u64,
) -> bool {
    let told = facts.version(operation.record, version).map_or(&[][..], |known| &known.told);
    told.iter().any(|told| told.content == operation.content)
        && sole_maker(history, facts, operation.record, version, operation.content) == Some(batch)
}

fn is_missing(history: &History, facts: &Facts, operation: &Operation, version: u64) -> bool {
    let told = facts.version(operation.record, version).map_or(&[][..], |known| &known.told);
    let is_another = !told.is_empty() && told.iter().all(|told| told.content != operation.content);
    let last = history.finals[operation.record].map_or(0, |last| last.version);
    is_another || last < version
}

/// The only push that can have made that version of it, if there is only one.
fn sole_maker(
    history: &History,
    facts: &Facts,
    record: RecordIndex,
    version: u64,
    content: Content,
) -> Option<BatchIndex> {
    let mut makers = facts.makers(history, record, version, content);
    makers.next().filter(|_| makers.next().is_none())
}

/// A page that goes to the end and shows one write of a push shows every one: it is read from one
/// snapshot.
fn check_page(history: &History, facts: &Facts, pull: &Pull, page: &Page, report: &mut Report<'_>) {
    let shown: HashMap<_, _> =
        page.records.iter().map(|seen| (seen.record, seen.version)).collect();
    let mut looked_at = HashSet::new();
    for seen in &page.records {
        let maker = sole_maker(history, facts, seen.record, seen.version, seen.content);
        let Some(batch) = maker.filter(|&batch| looked_at.insert(batch)) else { continue };
        for operation in &history.batches[batch].operations {
            let number = operation.next_version();
            let Some(version) = facts.version(operation.record, number) else { continue };
            let is_of_it = is_shown_of(history, facts, batch, operation, number);
            let is_later = version.at.is_some_and(|at| pull.cursor.is_none_or(|from| at > from));
            let is_there = shown.get(&operation.record).is_some_and(|&there| there >= number);
            if is_of_it && is_later && !is_there {
                let what = format!(
                    "the page has {} of the same push, goes to the end, and lacks version {number}",
                    history.record_id(seen.record)
                );
                let operations = numbers(history, &history.batches[batch]).chain([pull.number]);
                report.of_record(Promise::Atomic, operation.record, operations, what);
            }
        }
    }
}
