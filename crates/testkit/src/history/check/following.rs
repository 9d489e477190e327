//! I4, in the end: whoever followed the cursor from the start holds what the server holds.
//!
//! Not here: single pages, see [`pages`](super::pages).

use std::{collections::HashMap, sync::Arc};

use super::{Promise, Report, facts::Facts};
use crate::history::index::{History, NEVER, Position, RecordIndex, Sighting, UserIndex};

/// A device that has followed the cursor since it started without one.
struct Follower {
    held: HashMap<RecordIndex, Sighting>,
    cursor: Option<i64>,
    /// The pull that brought it to the end, once all writing was over.
    arrived: Option<u64>,
}

/// Answers how many devices were followed to the end.
pub(super) fn check(history: &History, facts: &Facts, report: &mut Report<'_>) -> usize {
    let written = ends_of_writing(history);
    let mut records_of = vec![Vec::new(); history.users.len()];
    for (record, name) in history.records.iter().enumerate() {
        records_of[name.user].push(record);
    }
    let mut followers = HashMap::<(UserIndex, &Arc<str>), Follower>::new();
    for pull in &history.pulls {
        let device = (pull.user, &pull.device);
        if pull.cursor.is_none() && followers.get(&device).is_none_or(|is| is.cursor.is_some()) {
            let new = Follower { held: HashMap::new(), cursor: None, arrived: None };
            // One that had arrived is judged before it starts anew, and only once.
            if let Some(before) = followers.insert(device, new)
                && before.arrived.is_some()
            {
                let records = &records_of[pull.user];
                judge(history, facts, records, &before, report);
            }
        }
        let Some(follower) = followers.get_mut(&device) else { continue };
        if pull.cursor != follower.cursor {
            // It reads by some other cursor, and promises hold for those who follow.
            followers.remove(&device);
            continue;
        }
        let Some(page) = &pull.page else { continue };
        for seen in &page.records {
            follower.held.insert(seen.record, *seen);
        }
        follower.cursor = page.next_cursor.or(follower.cursor);
        let is_at_the_end = !page.has_more && pull.begin > written[pull.user];
        follower.arrived = is_at_the_end.then_some(pull.number);
    }
    let mut arrived = 0;
    for ((user, _), follower) in &followers {
        if follower.arrived.is_some() {
            arrived += 1;
            judge(history, facts, &records_of[*user], follower, report);
        }
    }
    arrived
}

/// When the last push of each user was over. One without an end may be at work for longer.
fn ends_of_writing(history: &History) -> Vec<Position> {
    let mut written = vec![0; history.users.len()];
    for attempt in &history.attempts {
        let end = if attempt.end == NEVER { attempt.begin } else { attempt.end };
        let user = history.batches[attempt.batch].user;
        written[user] = written[user].max(end);
    }
    written
}

fn judge(
    history: &History,
    facts: &Facts,
    records: &[RecordIndex],
    follower: &Follower,
    report: &mut Report<'_>,
) {
    for &record in records {
        let (held, last) = (follower.held.get(&record), history.finals[record]);
        if held == last.as_ref() {
            continue;
        }
        // A push that nobody heard the end of may have been applied after the last page.
        let may_be_late = last.is_some_and(|last| {
            let version = facts.version(record, last.version);
            follower.cursor.is_none_or(|cursor| last.at > cursor)
                && version.is_some_and(|version| version.acknowledged == NEVER)
        });
        if !may_be_late {
            let version = |of: Option<&Sighting>| of.map_or(0, |of| of.version);
            let (held, last) = (version(held), version(last.as_ref()));
            let what = format!(
                "a device followed to the end and holds version {held}, the server version {last}"
            );
            report.of_record(Promise::Following, record, follower.arrived, what);
        }
    }
}
