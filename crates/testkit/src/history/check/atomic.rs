//! G2: a push is all or nothing.

use std::collections::{HashMap, HashSet};

use super::{
    Promise, Report,
    evidence::{Evidence, Origin},
};
use crate::history::index::{
    Batch, BatchIndex, Content, History, Operation, Page, Pull, PushOutcome, RecordIndex,
};

pub(super) fn check(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    for unexplained in &evidence.unexplained {
        if let Origin::RefusedPush(batch) = unexplained.origin {
            let pushes = numbers(history, &history.batches[batch]).chain(unexplained.operation);
            let what =
                format!("version {} comes from a push that was refused", unexplained.version);
            report.add_for_record(Promise::Atomic, unexplained.record, pushes, what);
        }
    }
    for (index, batch) in history.batches.iter().enumerate() {
        if batch.possible && !was_acknowledged(history, batch) {
            check_unknown(history, evidence, index, report);
        }
    }
    for pull in &history.pulls {
        if let Some(page) = &pull.page
            && !page.has_more
        {
            check_page(history, evidence, pull, page, report);
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

/// Checks that no write of a push of unknown outcome is visible if another of its writes cannot have been
/// made.
fn check_unknown(
    history: &History,
    evidence: &Evidence,
    index: BatchIndex,
    report: &mut Report<'_>,
) {
    let batch = &history.batches[index];
    let visible = batch.operations.iter().find(|operation| {
        versions(operation).any(|version| is_visible(history, evidence, index, operation, version))
    });
    let missing = batch.operations.iter().find(|operation| {
        versions(operation).all(|version| is_missing(history, evidence, operation, version))
    });
    if let (Some(visible), Some(missing)) = (visible, missing)
        && visible.record != missing.record
    {
        let what = format!(
            "a push of unknown outcome wrote it, but not {}",
            history.record_id(missing.record)
        );
        report.add_for_record(Promise::Atomic, visible.record, numbers(history, batch), what);
    }
}

/// The versions that a write can make.
pub(super) fn versions(operation: &Operation) -> impl Iterator<Item = u64> {
    let next = operation.next_version();
    std::iter::once(next).chain((next != 1).then_some(1))
}

/// Whether this write was observed, and no other push can have made it.
pub(super) fn is_visible(
    history: &History,
    evidence: &Evidence,
    batch: BatchIndex,
    operation: &Operation,
    version: u64,
) -> bool {
    let claims = evidence.claims(operation.record, version);
    claims.iter().any(|claim| claim.content == operation.content)
        && sole_maker(history, evidence, operation.record, version, operation.content)
            == Some(batch)
}

fn is_missing(history: &History, evidence: &Evidence, operation: &Operation, version: u64) -> bool {
    let claims = evidence.claims(operation.record, version);
    let is_another_write =
        !claims.is_empty() && claims.iter().all(|claim| claim.content != operation.content);
    let last = history.finals[operation.record].map_or(0, |last| last.version);
    is_another_write || !history.is_erased(operation.record) && last < version
}

/// The only push that can have made a version, if there is only one.
fn sole_maker(
    history: &History,
    evidence: &Evidence,
    record: RecordIndex,
    version: u64,
    content: Content,
) -> Option<BatchIndex> {
    let mut makers = evidence.makers(history, record, version, content);
    makers.next().filter(|_| makers.next().is_none())
}

/// Checks that a last page with one write of a push has all of its writes: a page is read from one
/// snapshot.
fn check_page(
    history: &History,
    evidence: &Evidence,
    pull: &Pull,
    page: &Page,
    report: &mut Report<'_>,
) {
    let on_page: HashMap<_, _> =
        page.records.iter().map(|observed| (observed.record, observed.version)).collect();
    let mut checked = HashSet::new();
    for observed in &page.records {
        let maker =
            sole_maker(history, evidence, observed.record, observed.version, observed.content);
        let Some(batch) = maker.filter(|&batch| checked.insert(batch)) else { continue };
        for operation in &history.batches[batch].operations {
            let number = operation.next_version();
            let Some(version) = evidence.version(operation.record, number) else { continue };
            let is_own_write = is_visible(history, evidence, batch, operation, number);
            let is_after_cursor =
                version.updated_at.is_some_and(|at| pull.cursor.is_none_or(|cursor| at > cursor));
            let is_on_page = on_page.get(&operation.record).is_some_and(|&found| found >= number);
            if is_own_write && is_after_cursor && !is_on_page {
                let what = format!(
                    "the last page has {} of the same push, but lacks version {number}",
                    history.record_id(observed.record)
                );
                let operations = numbers(history, &history.batches[batch]).chain([pull.number]);
                report.add_for_record(Promise::Atomic, operation.record, operations, what);
            }
        }
    }
}
