//! G4 page by page: a page skips nothing that is due, shows nothing at or before its cursor, and returns
//! the right cursor.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};

use super::{Promise, Report, evidence::Evidence};
use crate::history::index::{History, NEVER, Page, Position, Pull, RecordIndex};

pub(super) fn check(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    for pull in &history.pulls {
        if let Some(page) = &pull.page {
            check_form(pull, page, report);
        }
    }
    check_skips(history, evidence, report);
}

fn check_form(pull: &Pull, page: &Page, report: &mut Report<'_>) {
    let mut broken = |what: &str| {
        report.add_for_vault(Promise::Following, pull.vault, [pull.number], what);
    };
    if page.records.len() > pull.limit {
        broken("the page has more records than were requested");
    }
    if page.has_more && page.records.is_empty() {
        broken("the page is empty but says that there is more");
    }
    if page.next_cursor != page.records.last().map(|last| last.updated_at) {
        broken("the page's cursor is not that of its last record");
    }
    if let (Some(cursor), Some(first)) = (pull.cursor, page.records.first())
        && first.updated_at <= cursor
    {
        broken("the page begins at or before its cursor");
    }
}

/// A step in the order of the history.
enum Step<'a> {
    /// The version may exist from here on.
    Appears(VersionKey),
    /// The version may have been superseded from here on.
    Superseded(VersionKey),
    /// A page was returned.
    Returned(&'a Pull, &'a Page),
}

/// A version by its position in its vault's order: `updated_at`, record, version number.
type VersionKey = (i64, RecordIndex, u64);

/// Walks through the history with the set of versions of each vault that may be current.
///
/// A page that ends at its `nextCursor` was read when everything before that cursor was written, so every
/// version between its cursors is on it unless a later version may exist. A page without more has
/// everything that was acknowledged before it was requested.
fn check_skips(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    let mut current = vec![BTreeSet::<VersionKey>::new(); history.vaults.len()];
    for (_, step) in steps(history, evidence) {
        match step {
            Step::Appears(key) => {
                current[history.vault_of(key.1)].insert(key);
            }
            Step::Superseded(key) => {
                current[history.vault_of(key.1)].remove(&key);
            }
            Step::Returned(pull, page) => {
                check_page(evidence, pull, page, &current[pull.vault], report);
            }
        }
    }
}

fn steps<'a>(history: &'a History, evidence: &Evidence) -> Vec<(Position, Step<'a>)> {
    let mut steps = Vec::with_capacity(2 * evidence.versions.len() + history.pulls.len());
    for (&(record, number), version) in &evidence.versions {
        if let Some(at) = version.updated_at
            && version.begin < version.superseded
        {
            let key = (at, record, number);
            steps.push((version.begin, Step::Appears(key)));
            steps.push((version.superseded, Step::Superseded(key)));
        }
    }
    for pull in &history.pulls {
        if let Some(page) = &pull.page {
            steps.push((pull.end, Step::Returned(pull, page)));
        }
    }
    steps.sort_unstable_by_key(|(position, _)| *position);
    steps
}

fn check_page(
    evidence: &Evidence,
    pull: &Pull,
    page: &Page,
    current: &BTreeSet<VersionKey>,
    report: &mut Report<'_>,
) {
    let on_page: HashMap<_, _> =
        page.records.iter().map(|observed| (observed.record, observed.version)).collect();
    let lower = pull.cursor.map_or(Unbounded, |cursor| Excluded((cursor, usize::MAX, u64::MAX)));
    let end = page.next_cursor.or(pull.cursor);
    let upper = match end {
        _ if !page.has_more => Unbounded,
        Some(end) => Included((end, usize::MAX, u64::MAX)),
        None => return,
    };
    if matches!((pull.cursor, end), (Some(cursor), Some(end)) if end < cursor) {
        return; // `check_form` reports a cursor that goes back, and it makes no valid range.
    }
    for &(at, record, number) in current.range((lower, upper)) {
        let is_before_end = end.is_some_and(|end| at <= end);
        let version = evidence.version(record, number);
        let acknowledged = version.map_or(NEVER, |version| version.acknowledged);
        let is_due = is_before_end || acknowledged < pull.begin;
        let is_on_page = on_page.get(&record).is_some_and(|&found| found >= number);
        if is_due && !is_on_page {
            let what = format!("the page skips version {number}");
            report.add_for_record(Promise::Following, record, [pull.number], what);
        }
    }
}
