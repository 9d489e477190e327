//! G9: a push with guards is applied only if each of them holds at that moment.
//!
//! The moment is known from the time of a write that the push made, and otherwise lies between its begin and its
//! response. A push whose records may have held its writes already is left out: its guards are not checked.

use super::{
    Promise, Report,
    acknowledged::AcknowledgedVersions,
    atomic::{is_visible, versions},
    evidence::Evidence,
};
use crate::history::index::{
    Batch, BatchIndex, Guard, History, NEVER, Position, PushOutcome, RecordIndex,
};

/// Returns how many pushes with guards were certainly applied.
pub(super) fn check(history: &History, evidence: &Evidence, report: &mut Report<'_>) -> usize {
    let acknowledged = AcknowledgedVersions::of(history, evidence);
    let times = times_of_versions(history, evidence);
    let mut applied = 0;
    for (index, batch) in history.batches.iter().enumerate() {
        if batch.guards.is_empty() || !batch.possible {
            continue;
        }
        let Some(moment) = Moment::of(history, evidence, index, batch) else { continue };
        applied += 1;
        for guard in &batch.guards {
            let found = moment
                .contradiction_by_time(history, guard, &times[guard.record])
                .or_else(|| moment.contradiction_by_responses(evidence, guard, &acknowledged));
            if let Some(found) = found {
                let pushes = batch.attempts.iter().map(|&attempt| history.attempts[attempt].number);
                let what = format!(
                    "a push was applied with a guard on version {}, but {found}",
                    guard.version
                );
                report.add_for_record(Promise::Guards, guard.record, pushes, what);
            }
        }
    }
    applied
}

/// For each record, the versions whose time is known, by time.
fn times_of_versions(history: &History, evidence: &Evidence) -> Vec<Vec<(i64, u64)>> {
    let mut times = vec![Vec::new(); history.records.len()];
    for (&(record, number), version) in &evidence.versions {
        if let Some(at) = version.updated_at {
            times[record].push((at, number));
        }
    }
    for of_record in &mut times {
        of_record.sort_unstable();
    }
    times
}

/// When a push was applied.
struct Moment {
    /// The time of one of its writes.
    at: Option<i64>,
    /// It was not sent before this.
    begin: Position,
    /// It was acknowledged here.
    end: Position,
}

impl Moment {
    /// `None` if it is not certain that this push made one of its writes.
    fn of(
        history: &History,
        evidence: &Evidence,
        index: BatchIndex,
        batch: &Batch,
    ) -> Option<Self> {
        let own = batch.operations.iter().flat_map(|operation| {
            let made =
                move |version: &u64| is_visible(history, evidence, index, operation, *version);
            versions(operation).filter(made).map(|version| (operation.record, version))
        });
        let own: Vec<(RecordIndex, u64)> = own.collect();
        if own.is_empty() {
            return None;
        }
        let time = |&(record, version)| evidence.version(record, version)?.updated_at;
        let attempts = batch.attempts.iter().map(|&attempt| &history.attempts[attempt]);
        let acknowledged = attempts
            .clone()
            .filter(|attempt| matches!(attempt.outcome, PushOutcome::Acknowledged(_)));
        Some(Self {
            at: own.iter().find_map(time),
            begin: attempts
                .filter(|attempt| attempt.may_apply())
                .map(|attempt| attempt.begin)
                .min()?,
            end: acknowledged.map(|attempt| attempt.end).min().unwrap_or(NEVER),
        })
    }

    /// Times increase in commit order, so they say which version the record had.
    fn contradiction_by_time(
        &self,
        history: &History,
        guard: &Guard,
        times: &[(i64, u64)],
    ) -> Option<String> {
        let at = self.at?;
        let next = times.partition_point(|(time, _)| *time < at);
        let before = next.checked_sub(1).map_or(0, |last| times[last].1);
        if guard.version < before {
            return Some(format!("the record was at version {before} before"));
        }
        let after = times.get(next).map(|(_, version)| *version);
        let last = history.finals[guard.record].map_or(0, |last| last.version);
        let is_over = !history.is_erased(guard.record) && guard.version > last;
        let is_late = after.is_some_and(|after| guard.version >= after);
        (is_late || is_over).then(|| "the record got that version only later".to_owned())
    }

    fn contradiction_by_responses(
        &self,
        evidence: &Evidence,
        guard: &Guard,
        acknowledged: &AcknowledgedVersions,
    ) -> Option<String> {
        let latest = acknowledged.latest(guard.record, self.begin);
        if latest > guard.version {
            return Some(format!("version {latest} was acknowledged before"));
        }
        let sent = evidence.version(guard.record, guard.version).map_or(NEVER, |one| one.begin);
        let is_too_late = guard.version > 0 && self.end != NEVER && sent > self.end;
        is_too_late.then(|| "no push of that version had been sent".to_owned())
    }
}
