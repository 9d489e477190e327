//! G3 for conflict responses: a conflict lists conflicting records, as they were when the push arrived.

use super::{Promise, Report, evidence::Evidence};
use crate::history::index::{
    Attempt, Batch, ConflictEntry, History, NEVER, Position, PushOutcome, RecordIndex,
};

pub(super) fn check(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    let acknowledged = AcknowledgedVersions::of(history, evidence);
    for attempt in &history.attempts {
        let PushOutcome::Conflict(entries) = &attempt.outcome else { continue };
        let batch = &history.batches[attempt.batch];
        if entries.is_empty() {
            let what = "a push was answered with a conflict that lists no record";
            report.add_for_user(Promise::Versions, batch.user, [attempt.number], what);
        }
        for entry in entries {
            let (record, version) = (entry.record, entry.version());
            let mut broken = |promise, what| {
                report.add_for_record(promise, record, [attempt.number], what);
            };
            if !is_conflicting(history, batch, attempt, entry) {
                let what = format!("a conflict lists version {version}, which does not conflict");
                broken(Promise::Versions, what);
            }
            let latest = acknowledged.latest(record, attempt.begin);
            if version < latest {
                let what = format!(
                    "a conflict lists version {version}, but version {latest} was acknowledged before"
                );
                broken(Promise::Durable, what);
            }
        }
    }
}

/// Whether a record in that state conflicts with one of the writes. The epoch that a client sends is not in
/// a history: with an epoch, a missing record conflicts with any base version.
fn is_conflicting(
    history: &History,
    batch: &Batch,
    attempt: &Attempt,
    entry: &ConflictEntry,
) -> bool {
    let mut on_record = batch.operations.iter().filter(|one| one.record == entry.record);
    on_record.any(|operation| {
        let Some(observed) = entry.observed else { return operation.base.is_some() };
        let is_already_applied =
            observed.version == operation.next_version() && observed.content == operation.content;
        let is_at_base = operation.base == Some(observed.version);
        // The push may have inserted the record before, and the record has reached its base version since.
        let was_inserted_ahead = operation.next_version() > 2
            && batch.attempts.iter().map(|&other| &history.attempts[other]).any(|other| {
                other.begin < attempt.begin
                    && !matches!(other.outcome, PushOutcome::Conflict(_) | PushOutcome::Refused)
            });
        !is_already_applied && (!is_at_base || was_inserted_ahead)
    })
}

/// For each record, the positions at which versions were acknowledged, each with the highest version
/// until then.
struct AcknowledgedVersions(Vec<Vec<(Position, u64)>>);

impl AcknowledgedVersions {
    fn of(history: &History, evidence: &Evidence) -> Self {
        let mut acknowledged = vec![Vec::new(); history.records.len()];
        for (&(record, number), version) in &evidence.versions {
            if version.acknowledged != NEVER {
                acknowledged[record].push((version.acknowledged, number));
            }
        }
        for of_record in &mut acknowledged {
            of_record.sort_unstable();
            let mut highest = 0;
            for (_, number) in of_record {
                highest = highest.max(*number);
                *number = highest;
            }
        }
        Self(acknowledged)
    }

    /// The highest version of a record that was acknowledged before a position, or 0.
    fn latest(&self, record: RecordIndex, before: Position) -> u64 {
        let of_record = &self.0[record];
        let count = of_record.partition_point(|(position, _)| *position < before);
        count.checked_sub(1).map_or(0, |last| of_record[last].1)
    }
}
