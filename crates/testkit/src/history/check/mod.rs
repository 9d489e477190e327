//! The checker: finds broken promises in a history.
//!
//! If a history leaves open what happened, for example after a push of unknown outcome, the checker decides
//! in the server's favour. Every reported violation was observed.
//!
//! Time and memory grow with the length of the history, not with its square.
//!
//! Not here: promises about anything but the records of a vault, such as responses under overload (G8); a vault
//! that was restored from a backup; pages of a replica that lags, because a pull must return everything
//! that was acknowledged before it.

mod acknowledged;
mod atomic;
mod conflicts;
mod durability;
mod erasures;
mod evidence;
mod following;
mod guards;
mod order;
mod pages;
mod retries;
mod tenancy;
mod versions;
mod violation;

use std::sync::Arc;

use self::evidence::Evidence;
pub use self::violation::{Promise, Violation};
use super::index::{Attempt, History, PushOutcome, RecordIndex, VaultIndex};

/// Counts of a history that breaks no promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pushes; each retry of a body counts.
    pub pushes: usize,
    /// Acknowledged writes; each counts once.
    pub acknowledged: usize,
    /// Pushes that were refused because of conflicting records.
    pub conflicts: usize,
    /// Requests that were refused for another reason, such as overload.
    pub refused: usize,
    /// Requests of unknown outcome.
    pub unknown: usize,
    /// Pushes that were sent again after a 200, were due the same 200, and got it.
    pub replays: usize,
    /// Pages that were returned.
    pub pages: usize,
    /// Records on these pages.
    pub pulled: usize,
    /// Devices that followed the cursor from the start until after the last write.
    pub followers: usize,
    /// Pushes with guards that were applied.
    pub guarded: usize,
    /// Erasures that were acknowledged; each epoch counts once.
    pub erasures: usize,
    /// Requests that were refused because their epoch was erased.
    pub refused_as_erased: usize,
    /// Vaults whose final state was read.
    pub vaults: usize,
    /// Records in these vaults.
    pub records: usize,
}

/// Checks guarantees G1 to G7, G9 and G10, as far as the history shows them.
///
/// # Errors
///
/// Every violation, in the order of the promises.
pub fn check(history: &History) -> Result<Counts, Vec<Violation>> {
    let evidence = Evidence::of(history);
    let mut report = Report { history, violations: Vec::new() };
    durability::check(history, &evidence, &mut report);
    atomic::check(history, &evidence, &mut report);
    versions::check(history, &evidence, &mut report);
    conflicts::check(history, &evidence, &mut report);
    let followers = following::check(history, &evidence, &mut report);
    pages::check(history, &evidence, &mut report);
    order::check(history, &evidence, &mut report);
    let replays = retries::check(history, &mut report);
    tenancy::check(history, &evidence, &mut report);
    let guarded = guards::check(history, &evidence, &mut report);
    erasures::check(history, &evidence, &mut report);
    if report.violations.is_empty() {
        Ok(Counts { replays, followers, guarded, ..counts(history, &evidence) })
    } else {
        Err(report.into_sorted())
    }
}

/// The violations that the checks have found.
struct Report<'a> {
    history: &'a History,
    violations: Vec<Violation>,
}

impl Report<'_> {
    /// Adds a violation that shows in a record.
    fn add_for_record(
        &mut self,
        promise: Promise,
        record: RecordIndex,
        operations: impl IntoIterator<Item = u64>,
        what: impl Into<String>,
    ) {
        let vault = self.history.vault_of(record);
        self.add_for_vault(promise, vault, operations, what);
        if let Some(violation) = self.violations.last_mut() {
            violation.record = Some(Arc::clone(self.history.record_id(record)));
        }
    }

    /// Adds a violation that shows in a vault.
    fn add_for_vault(
        &mut self,
        promise: Promise,
        vault: VaultIndex,
        operations: impl IntoIterator<Item = u64>,
        what: impl Into<String>,
    ) {
        self.violations.push(Violation {
            promise,
            vault: self.history.vaults[vault].label.clone(),
            record: None,
            operations: operations.into_iter().collect(),
            what: what.into(),
        });
    }

    fn into_sorted(mut self) -> Vec<Violation> {
        self.violations.sort_by(|a, b| {
            (a.promise, &a.operations, &a.vault, &a.record, &a.what).cmp(&(
                b.promise,
                &b.operations,
                &b.vault,
                &b.record,
                &b.what,
            ))
        });
        self.violations.dedup();
        self.violations
    }
}

fn counts(history: &History, evidence: &Evidence) -> Counts {
    let pushes_with = |is: fn(&PushOutcome) -> bool| {
        history.attempts.iter().filter(|attempt: &&Attempt| is(&attempt.outcome)).count()
    };
    let pages = history.pulls.iter().filter_map(|pull| pull.page.as_ref());
    let claims = evidence.versions.values().flat_map(|version| &version.claims);
    let vaults = history.vaults.iter().filter(|vault| vault.erasure.is_none()).count();
    Counts {
        pushes: history.attempts.len(),
        acknowledged: claims.filter(|claim| claim.acknowledged).count(),
        conflicts: pushes_with(|outcome| matches!(outcome, PushOutcome::Conflict(_))),
        refused: pushes_with(|outcome| matches!(outcome, PushOutcome::Refused)),
        unknown: pushes_with(|outcome| matches!(outcome, PushOutcome::Unknown))
            + history.pulls.iter().filter(|pull| pull.page.is_none() && !pull.is_erased).count(),
        replays: 0,
        pages: pages.clone().count(),
        pulled: pages.map(|page| page.records.len()).sum(),
        followers: 0,
        guarded: 0,
        erasures: history.vaults.len() - vaults,
        refused_as_erased: pushes_with(|outcome| matches!(outcome, PushOutcome::VaultErased))
            + history.pulls.iter().filter(|pull| pull.is_erased).count(),
        vaults,
        records: history.finals.iter().flatten().count(),
    }
}
