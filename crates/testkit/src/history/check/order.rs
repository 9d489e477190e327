//! G5: `updated_at` is unique in its vault and increases in commit order.

use super::{
    Promise, Report,
    atomic::is_visible,
    evidence::{Evidence, Version},
};
use crate::history::index::{History, NEVER, Position};

pub(super) fn check(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    check_constant(history, evidence, report);
    check_unique(history, evidence, report);
    check_pages(history, report);
    check_batches(history, evidence, report);
    check_versions(evidence, report);
    check_real_time(history, evidence, report);
}

/// Checks that a version keeps its `updated_at`.
fn check_constant(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    for (operation, observed) in history.observations() {
        let version = evidence.version(observed.record, observed.version);
        let first = version.and_then(|version| version.updated_at);
        if first.is_some_and(|first| first != observed.updated_at) {
            let what = format!("version {} was returned with two times", observed.version);
            report.add_for_record(Promise::Order, observed.record, operation, what);
        }
    }
}

fn check_unique(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    let mut times: Vec<_> = evidence
        .versions
        .iter()
        .filter_map(|(&(record, number), version)| {
            Some((history.vault_of(record), version.updated_at?, record, number))
        })
        .collect();
    times.sort_unstable();
    for pair in times.windows(2).filter(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1)) {
        let [(_, _, other, other_number), (_, _, record, number)] = pair else { continue };
        let other = history.record_id(*other);
        let what =
            format!("version {number} has the same time as version {other_number} of {other}");
        let version = evidence.version(*record, *number);
        let operation = version.and_then(Version::first_operation);
        report.add_for_record(Promise::Order, *record, operation, what);
    }
}

fn check_pages(history: &History, report: &mut Report<'_>) {
    for pull in &history.pulls {
        let records = pull.page.as_ref().map_or(&[][..], |page| &page.records);
        if let Some(pair) = records.windows(2).find(|pair| pair[0].updated_at >= pair[1].updated_at)
        {
            let what = "the page's records are not in the order of their times";
            report.add_for_record(Promise::Order, pair[1].record, [pull.number], what);
        }
    }
}

/// Checks that times increase in the order of a push's writes. Writes that another push may have made, so
/// that this push found them already applied, are left out.
fn check_batches(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    for (index, batch) in history.batches.iter().enumerate().filter(|(_, batch)| batch.possible) {
        let mut last = None;
        for operation in &batch.operations {
            let (record, number) = (operation.record, operation.next_version());
            let at = evidence.version(record, number).and_then(|version| version.updated_at);
            let is_own_write = is_visible(history, evidence, index, operation, number);
            let Some(at) = at.filter(|_| is_own_write) else { continue };
            if last.is_some_and(|last| last >= at) {
                let pushes = batch.attempts.iter().map(|&attempt| history.attempts[attempt].number);
                let what = "its time is not later than that of an earlier write of the same push";
                report.add_for_record(Promise::Order, record, pushes, what);
            }
            last = Some(at);
        }
    }
}

/// Checks that the times of a record's versions increase.
fn check_versions(evidence: &Evidence, report: &mut Report<'_>) {
    for (&(record, number), version) in &evidence.versions {
        let before = number.checked_sub(1).and_then(|before| evidence.version(record, before));
        if let (Some(at), Some(before)) =
            (version.updated_at, before.and_then(|before| before.updated_at))
            && before >= at
        {
            let what = format!("version {number} is not later than the version before it");
            report.add_for_record(Promise::Order, record, version.first_operation(), what);
        }
    }
}

/// Checks that everything acknowledged before a push was sent is earlier than what the push wrote.
fn check_real_time(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    let mut acknowledged = vec![Vec::<(Position, i64)>::new(); history.vaults.len()];
    for (&(record, _), version) in &evidence.versions {
        if let Some(at) = version.updated_at
            && version.acknowledged != NEVER
        {
            acknowledged[history.vault_of(record)].push((version.acknowledged, at));
        }
    }
    for of_vault in &mut acknowledged {
        of_vault.sort_unstable();
        let mut latest = i64::MIN;
        for (_, at) in of_vault {
            latest = latest.max(*at);
            *at = latest;
        }
    }
    for (&(record, number), version) in &evidence.versions {
        let Some(at) = version.updated_at.filter(|_| version.begin != NEVER) else { continue };
        let of_vault = &acknowledged[history.vault_of(record)];
        let before = of_vault.partition_point(|(end, _)| *end < version.begin);
        if before > 0 && of_vault[before - 1].1 >= at {
            let what = format!(
                "version {number} is earlier than a write that was acknowledged before it was sent"
            );
            report.add_for_record(Promise::Order, record, version.first_operation(), what);
        }
    }
}
