//! G6: a push that was answered 200 and is sent again unchanged gets the same 200, as long as fewer than
//! [`RECEIPTS_MAX`] other pushes lie in between.

use vaultsync_store::RECEIPTS_MAX;

use super::{Promise, Report};
use crate::history::index::{Attempt, Batch, History, Position, PushOutcome};

/// Returns how many retries got the 200 that they were due.
pub(super) fn check(history: &History, report: &mut Report<'_>) -> usize {
    let spans = Spans::of(history);
    let mut replays = 0;
    for batch in &history.batches {
        let attempts: Vec<_> =
            batch.attempts.iter().map(|&attempt| &history.attempts[attempt]).collect();
        if attempts.len() > 1 && !is_ahead(batch, &attempts) {
            replays += check_batch(batch, &attempts, &spans, report);
        }
    }
    replays
}

/// Whether a write inserted a record with a base version above 1: the same bytes may be a new write once
/// the record has reached that version, so nothing is promised.
fn is_ahead(batch: &Batch, attempts: &[&Attempt]) -> bool {
    attempts.iter().any(|attempt| {
        let PushOutcome::Acknowledged(results) = &attempt.outcome else { return false };
        let mut pairs = batch.operations.iter().zip(results);
        pairs.any(|(operation, (version, _))| *version == 1 && operation.next_version() > 2)
    })
}

fn check_batch(
    batch: &Batch,
    attempts: &[&Attempt],
    spans: &Spans,
    report: &mut Report<'_>,
) -> usize {
    let first = attempts
        .iter()
        .filter_map(|attempt| match &attempt.outcome {
            PushOutcome::Acknowledged(results) => Some((attempt, results)),
            _ => None,
        })
        .min_by_key(|(attempt, _)| attempt.end);
    let Some((first, answered)) = first else { return 0 };
    // It was applied by this attempt, or by an earlier one of unknown outcome.
    let begin = attempts
        .iter()
        .filter(|attempt| attempt.may_apply())
        .fold(first.begin, |begin, attempt| begin.min(attempt.begin));
    let mut replays = 0;
    for retry in attempts.iter().filter(|retry| retry.begin > first.end) {
        let own = attempts.iter().filter(|own| own.may_apply() && own.begin <= retry.end).count();
        if spans.between(batch.vault, begin, retry.end).saturating_sub(own) >= RECEIPTS_MAX {
            continue;
        }
        let versions = |results: &[(u64, Option<i64>)]| {
            results.iter().map(|(version, _)| *version).collect::<Vec<_>>()
        };
        let what = match &retry.outcome {
            PushOutcome::Refused | PushOutcome::VaultErased | PushOutcome::Unknown => continue,
            PushOutcome::Acknowledged(results) if versions(results) == versions(answered) => {
                replays += 1;
                continue;
            }
            PushOutcome::Acknowledged(_) => "a retry got other versions than its first 200",
            PushOutcome::Conflict(_) => "a retry after a 200 got a conflict",
        };
        let operations = [first.number, retry.number];
        match batch.operations.as_slice() {
            [only] => report.add_for_record(Promise::Retries, only.record, operations, what),
            _ => report.add_for_vault(Promise::Retries, batch.vault, operations, what),
        }
    }
    replays
}

/// For each vault, the begins and the ends of the pushes that may have been applied, both sorted.
struct Spans(Vec<(Vec<Position>, Vec<Position>)>);

impl Spans {
    fn of(history: &History) -> Self {
        let mut spans = vec![(Vec::new(), Vec::new()); history.vaults.len()];
        for attempt in history.attempts.iter().filter(|attempt| attempt.may_apply()) {
            let (begins, ends) = &mut spans[history.batches[attempt.batch].vault];
            begins.push(attempt.begin);
            ends.push(attempt.end);
        }
        for (begins, ends) in &mut spans {
            begins.sort_unstable();
            ends.sort_unstable();
        }
        Self(spans)
    }

    /// How many pushes may have been running between two positions: those that neither began after nor
    /// ended before.
    fn between(&self, vault: usize, from: Position, to: Position) -> usize {
        let (begins, ends) = &self.0[vault];
        let began = begins.partition_point(|&begin| begin <= to);
        let ended = ends.partition_point(|&end| end < from);
        began.saturating_sub(ended)
    }
}
