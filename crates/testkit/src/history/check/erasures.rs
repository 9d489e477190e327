//! G10: after an acknowledged erasure, nothing of the erased epoch is returned, and no push that names it is
//! acknowledged.

use super::{
    Promise, Report,
    evidence::{Evidence, Origin},
};
use crate::history::index::{Erasure, History, Position, PushOutcome, VaultIndex};

pub(super) fn check(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    check_requests(history, report);
    for unexplained in &evidence.unexplained {
        if let Origin::ErasedEpoch(owner) = unexplained.origin
            && let Some(erasure) = &history.vaults[owner].erasure
        {
            let what = format!("it has content that was erased with epoch {}", erasure.epoch);
            let operations = [erasure.operation].into_iter().chain(unexplained.operation);
            report.add_for_record(Promise::Erasure, unexplained.record, operations, what);
        }
    }
    check_times(history, evidence, report);
}

/// Checks what was answered to requests of an erased epoch that were sent later.
fn check_requests(history: &History, report: &mut Report<'_>) {
    let erased = |vault: VaultIndex, begin: Position| -> Option<&Erasure> {
        history.vaults[vault].erasure.as_ref().filter(|erasure| erasure.acknowledged < begin)
    };
    for attempt in &history.attempts {
        let vault = history.batches[attempt.batch].vault;
        let Some(erasure) = erased(vault, attempt.begin) else { continue };
        let what = match &attempt.outcome {
            PushOutcome::Acknowledged(_) => "a push that names an erased epoch was acknowledged",
            PushOutcome::Conflict(_) => "a push that names an erased epoch got a conflict",
            PushOutcome::Refused | PushOutcome::VaultErased | PushOutcome::Unknown => continue,
        };
        let operations = [erasure.operation, attempt.number];
        report.add_for_vault(Promise::Erasure, vault, operations, what);
    }
    for pull in &history.pulls {
        if let Some(erasure) = erased(pull.vault, pull.begin)
            && pull.page.is_some()
        {
            let operations = [erasure.operation, pull.number];
            let what = "a pull returned a page of an erased epoch";
            report.add_for_vault(Promise::Erasure, pull.vault, operations, what);
        }
    }
}

/// Checks that the times of a vault go on when it begins anew: a client that sends no epoch has a cursor.
fn check_times(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    let mut bounds = vec![None::<(i64, i64)>; history.vaults.len()];
    for (&(record, _), version) in &evidence.versions {
        if let Some(at) = version.updated_at {
            let bound = &mut bounds[history.vault_of(record)];
            let (first, last) = bound.unwrap_or((at, at));
            *bound = Some((first.min(at), last.max(at)));
        }
    }
    let mut epochs: Vec<_> = history
        .vaults
        .iter()
        .zip(bounds)
        .enumerate()
        .filter_map(|(index, (vault, bound))| Some((&vault.label, vault.number, index, bound?)))
        .collect();
    epochs.sort_unstable();
    for pair in epochs.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let [(.., (_, last)), (_, _, vault, (first, _))] = pair else { continue };
        if first <= last {
            let what = "a time is not later than those of the epoch that was erased before";
            report.add_for_vault(Promise::Erasure, *vault, [], what);
        }
    }
}
