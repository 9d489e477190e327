//! G4 at the end: a client that has followed the cursor from the start has the same records as the server.
//!
//! Not here: single pages, see [`pages`](super::pages).

use std::{collections::HashMap, sync::Arc};

use super::{Promise, Report, evidence::Evidence};
use crate::history::index::{History, NEVER, Observation, Position, RecordIndex, VaultIndex};

/// A device that has followed the cursor since it started without one.
struct Follower {
    records: HashMap<RecordIndex, Observation>,
    cursor: Option<i64>,
    /// The pull with which it reached the end after the last write.
    caught_up: Option<u64>,
}

/// Returns how many devices have followed to the end.
pub(super) fn check(history: &History, evidence: &Evidence, report: &mut Report<'_>) -> usize {
    let last_writes = last_writes(history);
    let mut records_of = vec![Vec::new(); history.vaults.len()];
    for (record, name) in history.records.iter().enumerate() {
        records_of[name.vault].push(record);
    }
    let mut followers = HashMap::<(VaultIndex, &Arc<str>), Follower>::new();
    for pull in &history.pulls {
        let device = (pull.vault, &pull.device);
        let has_moved = |follower: &Follower| follower.cursor.is_some();
        if pull.cursor.is_none() && followers.get(&device).is_none_or(has_moved) {
            let new = Follower { records: HashMap::new(), cursor: None, caught_up: None };
            // A follower that has caught up is checked before it starts again, and only once.
            if let Some(before) = followers.insert(device, new)
                && before.caught_up.is_some()
                && history.vaults[pull.vault].erasure.is_none()
            {
                check_follower(history, evidence, &records_of[pull.vault], &before, report);
            }
        }
        let Some(follower) = followers.get_mut(&device) else { continue };
        if pull.cursor != follower.cursor {
            // It reads from another cursor, and the promise holds for clients that follow.
            followers.remove(&device);
            continue;
        }
        let Some(page) = &pull.page else { continue };
        for observed in &page.records {
            follower.records.insert(observed.record, *observed);
        }
        follower.cursor = page.next_cursor.or(follower.cursor);
        let has_caught_up = !page.has_more && pull.begin > last_writes[pull.vault];
        follower.caught_up = has_caught_up.then_some(pull.number);
    }
    let mut count = 0;
    for ((vault, _), follower) in &followers {
        if follower.caught_up.is_some() && history.vaults[*vault].erasure.is_none() {
            count += 1;
            check_follower(history, evidence, &records_of[*vault], follower, report);
        }
    }
    count
}

/// When the last push of each vault ended. A push without an end may be running for longer.
fn last_writes(history: &History) -> Vec<Position> {
    let mut last_writes = vec![0; history.vaults.len()];
    for attempt in &history.attempts {
        let end = if attempt.end == NEVER { attempt.begin } else { attempt.end };
        let vault = history.batches[attempt.batch].vault;
        last_writes[vault] = last_writes[vault].max(end);
    }
    last_writes
}

fn check_follower(
    history: &History,
    evidence: &Evidence,
    records: &[RecordIndex],
    follower: &Follower,
    report: &mut Report<'_>,
) {
    for &record in records {
        let (own, last) = (follower.records.get(&record), history.finals[record]);
        if own == last.as_ref() {
            continue;
        }
        // A push of unknown outcome may have been applied after the last page.
        let may_be_late = last.is_some_and(|last| {
            let version = evidence.version(record, last.version);
            follower.cursor.is_none_or(|cursor| last.updated_at > cursor)
                && version.is_some_and(|version| version.acknowledged == NEVER)
        });
        if !may_be_late {
            let version = |of: Option<&Observation>| of.map_or(0, |of| of.version);
            let (own, last) = (version(own), version(last.as_ref()));
            let what = format!(
                "a device followed to the end and has version {own}, but the server has version {last}"
            );
            report.add_for_record(Promise::Following, record, follower.caught_up, what);
        }
    }
}
