//! I4, page by page: none skips what is due, shows what is behind its cursor, or leads astray.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};

use super::{Promise, Report, facts::Facts};
use crate::history::index::{History, NEVER, Page, Position, Pull, RecordIndex};

pub(super) fn check(history: &History, facts: &Facts, report: &mut Report<'_>) {
    for pull in &history.pulls {
        if let Some(page) = &pull.page {
            check_form(pull, page, report);
        }
    }
    check_skips(history, facts, report);
}

fn check_form(pull: &Pull, page: &Page, report: &mut Report<'_>) {
    let mut broken = |what: &str| {
        report.of_user(Promise::Following, pull.user, [pull.number], what);
    };
    if page.records.len() > pull.limit {
        broken("the page has more records than were asked for");
    }
    if page.has_more && page.records.is_empty() {
        broken("the page is empty and says that there is more");
    }
    if page.next_cursor != page.records.last().map(|last| last.at) {
        broken("the page's cursor is not that of its last record");
    }
    if let (Some(cursor), Some(first)) = (pull.cursor, page.records.first())
        && first.at <= cursor
    {
        broken("the page begins at or before its cursor");
    }
}

/// What happens to the versions that a page must show, in the order of the history.
enum Step<'a> {
    /// From here on it may be there.
    Comes(Due),
    /// From here on it may have moved on.
    Goes(Due),
    Answers(&'a Pull, &'a Page),
}

/// A version by its place in its vault's order.
type Due = (i64, RecordIndex, u64);

/// Goes through the history with the versions of each vault that may be current, by time.
///
/// A page that ends at its `nextCursor` was read when all before it was written, so that every version
/// between the cursors is on it, unless a later one may have come; and one without more has all
/// that was acknowledged before it was asked for.
fn check_skips(history: &History, facts: &Facts, report: &mut Report<'_>) {
    let mut current = vec![BTreeSet::<Due>::new(); history.users.len()];
    for (_, step) in steps(history, facts) {
        match step {
            Step::Comes(due) => {
                current[history.user_of(due.1)].insert(due);
            }
            Step::Goes(due) => {
                current[history.user_of(due.1)].remove(&due);
            }
            Step::Answers(pull, page) => {
                check_page(facts, pull, page, &current[pull.user], report);
            }
        }
    }
}

fn steps<'a>(history: &'a History, facts: &Facts) -> Vec<(Position, Step<'a>)> {
    let mut steps = Vec::with_capacity(2 * facts.versions.len() + history.pulls.len());
    for (&(record, number), version) in &facts.versions {
        if let Some(at) = version.at
            && version.begin < version.superseded
        {
            let due = (at, record, number);
            steps.push((version.begin, Step::Comes(due)));
            steps.push((version.superseded, Step::Goes(due)));
        }
    }
    for pull in &history.pulls {
        if let Some(page) = &pull.page {
            steps.push((pull.end, Step::Answers(pull, page)));
        }
    }
    steps.sort_unstable_by_key(|(position, _)| *position);
    steps
}

fn check_page(
    facts: &Facts,
    pull: &Pull,
    page: &Page,
    current: &BTreeSet<Due>,
    report: &mut Report<'_>,
) {
    let shown: HashMap<_, _> =
        page.records.iter().map(|seen| (seen.record, seen.version)).collect();
    let lower = pull.cursor.map_or(Unbounded, |cursor| Excluded((cursor, usize::MAX, u64::MAX)));
    let end = page.next_cursor.or(pull.cursor);
    let upper = match end {
        _ if !page.has_more => Unbounded,
        Some(end) => Included((end, usize::MAX, u64::MAX)),
        None => return,
    };
    if matches!((pull.cursor, end), (Some(cursor), Some(end)) if end < cursor) {
        return; // A cursor that goes back is told by `check_form`, and makes no range.
    }
    for &(at, record, number) in current.range((lower, upper)) {
        let is_before_the_end = end.is_some_and(|end| at <= end);
        let acknowledged = facts.version(record, number).map_or(NEVER, |of| of.acknowledged);
        let is_due = is_before_the_end || acknowledged < pull.begin;
        let is_there = shown.get(&record).is_some_and(|&there| there >= number);
        if is_due && !is_there {
            let what = format!("the page skips version {number}");
            report.of_record(Promise::Following, record, [pull.number], what);
        }
    }
}
