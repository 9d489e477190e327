//! G3 for conflict responses: a conflict lists conflicting records, as they were when the push arrived.

use super::{Promise, Report, acknowledged::AcknowledgedVersions, evidence::Evidence};
use crate::history::index::{Attempt, Batch, ConflictEntry, History, PushOutcome};

pub(super) fn check(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    let acknowledged = AcknowledgedVersions::of(history, evidence);
    for attempt in &history.attempts {
        let PushOutcome::Conflict(entries) = &attempt.outcome else { continue };
        let batch = &history.batches[attempt.batch];
        if entries.is_empty() {
            let what = "a push was answered with a conflict that lists no record";
            report.add_for_vault(Promise::Versions, batch.vault, [attempt.number], what);
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

/// Whether a record in that state conflicts with one of the writes, or fails a guard. A missing record counts as
/// conflicting with any base version, which it is only if the client names an epoch.
fn is_conflicting(
    history: &History,
    batch: &Batch,
    attempt: &Attempt,
    entry: &ConflictEntry,
) -> bool {
    // A push does not write what it guards, and guards no record twice.
    if let Some(guard) = batch.guards.iter().find(|guard| guard.record == entry.record) {
        return guard.version != entry.version();
    }
    let mut on_record = batch.operations.iter().filter(|one| one.record == entry.record);
    on_record.any(|operation| {
        let Some(observed) = entry.observed else { return operation.base.is_some() };
        let is_already_applied =
            observed.version == operation.next_version() && observed.content == operation.content;
        let is_at_base = operation.base == Some(observed.version);
        // The push may have inserted the record before, and the record has reached its base version since.
        let was_inserted_ahead = operation.next_version() > 2
            && batch
                .attempts
                .iter()
                .map(|&other| &history.attempts[other])
                .any(|other| other.begin < attempt.begin && other.may_apply());
        !is_already_applied && (!is_at_base || was_inserted_ahead)
    })
}
