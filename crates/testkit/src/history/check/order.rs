//! I5: `updated_at` is unique in its vault, and rises in the order of commits.

use super::{Promise, Report, atomic::is_shown_of, facts::Facts};
use crate::history::index::{History, NEVER, Position};

pub(super) fn check(history: &History, facts: &Facts, report: &mut Report<'_>) {
    check_one_time_each(history, facts, report);
    check_unique(history, facts, report);
    check_pages(history, report);
    check_batches(history, facts, report);
    check_versions(facts, report);
    check_real_time(history, facts, report);
}

/// A version keeps its time.
fn check_one_time_each(history: &History, facts: &Facts, report: &mut Report<'_>) {
    for (operation, seen) in history.sightings() {
        let known = facts.version(seen.record, seen.version).and_then(|version| version.at);
        if known.is_some_and(|known| known != seen.at) {
            let what = format!("version {} is shown with two times", seen.version);
            report.of_record(Promise::Order, seen.record, operation, what);
        }
    }
}

fn check_unique(history: &History, facts: &Facts, report: &mut Report<'_>) {
    let mut times: Vec<_> = facts
        .versions
        .iter()
        .filter_map(|(&(record, number), version)| {
            Some((history.user_of(record), version.at?, record, number))
        })
        .collect();
    times.sort_unstable();
    for pair in times.windows(2).filter(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1)) {
        let [(_, _, other, of), (_, _, record, number)] = pair else { continue };
        let other = history.record_id(*other);
        let what = format!("version {number} has the time of version {of} of {other}");
        let told = facts.version(*record, *number).and_then(|version| version.told.first());
        let operation = told.and_then(|told| told.operation);
        report.of_record(Promise::Order, *record, operation, what);
    }
}

fn check_pages(history: &History, report: &mut Report<'_>) {
    for pull in &history.pulls {
        let records = pull.page.as_ref().map_or(&[][..], |page| &page.records);
        if let Some(pair) = records.windows(2).find(|pair| pair[0].at >= pair[1].at) {
            let what = "the page's records are not in the order of their times";
            report.of_record(Promise::Order, pair[1].record, [pull.number], what);
        }
    }
}

/// Inside a push, times rise in the order of its writes. Those that another push may have made, so
/// that this one found them there, are left out.
fn check_batches(history: &History, facts: &Facts, report: &mut Report<'_>) {
    for (index, batch) in history.batches.iter().enumerate().filter(|(_, batch)| batch.possible) {
        let mut last = None;
        for operation in &batch.operations {
            let (record, number) = (operation.record, operation.next_version());
            let at = facts.version(record, number).and_then(|version| version.at);
            let is_of_it = is_shown_of(history, facts, index, operation, number);
            let Some(at) = at.filter(|_| is_of_it) else { continue };
            if last.is_some_and(|last| last >= at) {
                let pushes = batch.attempts.iter().map(|&attempt| history.attempts[attempt].number);
                let what = "its time is not later than that of a write before it in the push";
                report.of_record(Promise::Order, record, pushes, what);
            }
            last = Some(at);
        }
    }
}

/// The versions of a record have rising times.
fn check_versions(facts: &Facts, report: &mut Report<'_>) {
    for (&(record, number), version) in &facts.versions {
        let before = number.checked_sub(1).and_then(|before| facts.version(record, before));
        if let (Some(at), Some(before)) = (version.at, before.and_then(|before| before.at))
            && before >= at
        {
            let what = format!("version {number} is not later than the version before it");
            let operations = version.told.first().and_then(|told| told.operation);
            report.of_record(Promise::Order, record, operations, what);
        }
    }
}

/// What was acknowledged before a push was sent is earlier than what that push wrote.
fn check_real_time(history: &History, facts: &Facts, report: &mut Report<'_>) {
    let mut acknowledged = vec![Vec::<(Position, i64)>::new(); history.users.len()];
    for (&(record, _), version) in &facts.versions {
        if let Some(at) = version.at
            && version.acknowledged != NEVER
        {
            acknowledged[history.user_of(record)].push((version.acknowledged, at));
        }
    }
    for of_user in &mut acknowledged {
        of_user.sort_unstable();
        let mut latest = i64::MIN;
        for (_, at) in of_user {
            latest = latest.max(*at);
            *at = latest;
        }
    }
    for (&(record, number), version) in &facts.versions {
        let Some(at) = version.at.filter(|_| version.begin != NEVER) else { continue };
        let of_user = &acknowledged[history.user_of(record)];
        let before = of_user.partition_point(|(end, _)| *end < version.begin);
        if before > 0 && of_user[before - 1].1 >= at {
            let what = format!(
                "version {number} is earlier than what was acknowledged before it was sent"
            );
            let operations = version.told.first().and_then(|told| told.operation);
            report.of_record(Promise::Order, record, operations, what);
        }
    }
}
