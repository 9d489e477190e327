//! I3, told by refusals: a conflict shows records that were in the way, as they were when the push came.

use super::{Promise, Report, facts::Facts};
use crate::history::index::{
    Attempt, Batch, History, InTheWay, NEVER, Position, PushOutcome, RecordIndex,
};

pub(super) fn check(history: &History, facts: &Facts, report: &mut Report<'_>) {
    let known = Known::of(history, facts);
    for attempt in &history.attempts {
        let PushOutcome::Conflict(shown) = &attempt.outcome else { continue };
        let batch = &history.batches[attempt.batch];
        if shown.is_empty() {
            let what = "a push was refused, and nothing shown that was in its way";
            report.of_user(Promise::Versions, batch.user, [attempt.number], what);
        }
        for in_the_way in shown {
            let (record, version) = (in_the_way.record, in_the_way.version());
            let mut broken = |promise, what| {
                report.of_record(promise, record, [attempt.number], what);
            };
            if !is_in_the_way(history, batch, attempt, in_the_way) {
                let what =
                    format!("version {version} is shown in the way of a push that it was not");
                broken(Promise::Versions, what);
            }
            let known = known.version(record, attempt.begin);
            if version < known {
                let what = format!(
                    "a conflict shows version {version}, and version {known} was acknowledged before"
                );
                broken(Promise::Durable, what);
            }
        }
    }
}

/// Whether a record in that state lets one of the writes not pass. What a client says of its epoch is
/// not in a history: with it, a record that is not there is in the way of any base version.
fn is_in_the_way(
    history: &History,
    batch: &Batch,
    attempt: &Attempt,
    in_the_way: &InTheWay,
) -> bool {
    let mut of_record = batch.operations.iter().filter(|one| one.record == in_the_way.record);
    of_record.any(|operation| {
        let Some(seen) = in_the_way.seen else { return operation.base.is_some() };
        let holds_it =
            seen.version == operation.next_version() && seen.content == operation.content;
        let is_at_base = operation.base == Some(seen.version);
        // It may have inserted the record before, which has come to its base version since.
        let was_ahead = operation.next_version() > 2
            && batch.attempts.iter().map(|&other| &history.attempts[other]).any(|other| {
                other.begin < attempt.begin
                    && !matches!(other.outcome, PushOutcome::Conflict(_) | PushOutcome::Refused)
            });
        !holds_it && (!is_at_base || was_ahead)
    })
}

/// The versions of each record that somebody knew of, by when, with the highest until then.
struct Known(Vec<Vec<(Position, u64)>>);

impl Known {
    fn of(history: &History, facts: &Facts) -> Self {
        let mut known = vec![Vec::new(); history.records.len()];
        for (&(record, number), version) in &facts.versions {
            if version.acknowledged != NEVER {
                known[record].push((version.acknowledged, number));
            }
        }
        for of_record in &mut known {
            of_record.sort_unstable();
            let mut highest = 0;
            for (_, number) in of_record {
                highest = highest.max(*number);
                *number = highest;
            }
        }
        Self(known)
    }

    /// The highest version of a record that was acknowledged before that position, or 0.
    fn version(&self, record: RecordIndex, before: Position) -> u64 {
        let of_record = &self.0[record];
        let count = of_record.partition_point(|(position, _)| *position < before);
        count.checked_sub(1).map_or(0, |last| of_record[last].1)
    }
}
