//! The judgement on a history: which promises were broken, and how that shows.
//!
//! Where a history leaves open what happened, as with a push that nobody heard the end of, it is
//! judged in the server's favour. What is reported was seen.
//!
//! Work and memory grow with the length of the history, not with its square.
//!
//! Not here: promises that are not of one vault's records, such as answers under overload; a vault
//! whose history was put back; pages of a replica that lags, since a pull is held to what was
//! acknowledged before it.

mod atomic;
mod conflicts;
mod durability;
mod facts;
mod following;
mod order;
mod pages;
mod retries;
mod tenancy;
mod versions;
mod violation;

use std::sync::Arc;

use self::facts::Facts;
pub use self::violation::{Promise, Violation};
use super::index::{Attempt, History, PushOutcome, RecordIndex, UserIndex};

/// What there was of everything, in a history that breaks no promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pushes, each sending of a body apart.
    pub pushes: usize,
    /// Writes that were acknowledged, each once.
    pub acknowledged: usize,
    /// Pushes that were refused because of what stood in their way.
    pub conflicts: usize,
    /// Requests that were refused for lack of something.
    pub refused: usize,
    /// Requests of unknown outcome.
    pub unknown: usize,
    /// Pushes sent again after a 200, where the promise holds that they get it again.
    pub replays: usize,
    /// Pages that were answered.
    pub pages: usize,
    /// Records on these pages.
    pub pulled: usize,
    /// Devices that followed the cursor from the start to the end of all writing.
    pub followers: usize,
    /// Vaults whose final state was read.
    pub vaults: usize,
    /// Records in them.
    pub records: usize,
}

/// Decides whether the promises I1 to I7 were kept, as far as the history tells.
///
/// # Errors
///
/// Everything that was broken, in the order of the promises.
pub fn check(history: &History) -> Result<Counts, Vec<Violation>> {
    let facts = Facts::of(history);
    let mut report = Report { history, violations: Vec::new() };
    durability::check(history, &facts, &mut report);
    atomic::check(history, &facts, &mut report);
    versions::check(history, &facts, &mut report);
    conflicts::check(history, &facts, &mut report);
    let followers = following::check(history, &facts, &mut report);
    pages::check(history, &facts, &mut report);
    order::check(history, &facts, &mut report);
    let replays = retries::check(history, &mut report);
    tenancy::check(history, &facts, &mut report);
    if report.violations.is_empty() {
        Ok(Counts { replays, followers, ..counts(history, &facts) })
    } else {
        Err(report.into_sorted())
    }
}

/// Where the checks write down what they find.
struct Report<'a> {
    history: &'a History,
    violations: Vec<Violation>,
}

impl Report<'_> {
    /// A promise to the owner of that record is broken.
    fn of_record(
        &mut self,
        promise: Promise,
        record: RecordIndex,
        operations: impl IntoIterator<Item = u64>,
        what: impl Into<String>,
    ) {
        let user = self.history.user_of(record);
        self.of_user(promise, user, operations, what);
        if let Some(violation) = self.violations.last_mut() {
            violation.record = Some(Arc::clone(self.history.record_id(record)));
        }
    }

    /// A promise to a user is broken.
    fn of_user(
        &mut self,
        promise: Promise,
        user: UserIndex,
        operations: impl IntoIterator<Item = u64>,
        what: impl Into<String>,
    ) {
        self.violations.push(Violation {
            promise,
            user: Arc::clone(&self.history.users[user]),
            record: None,
            operations: operations.into_iter().collect(),
            what: what.into(),
        });
    }

    fn into_sorted(mut self) -> Vec<Violation> {
        self.violations.sort_by(|a, b| {
            (a.promise, &a.operations, &a.user, &a.record, &a.what).cmp(&(
                b.promise,
                &b.operations,
                &b.user,
                &b.record,
                &b.what,
            ))
        });
        self.violations.dedup();
        self.violations
    }
}

fn counts(history: &History, facts: &Facts) -> Counts {
    let of = |is: fn(&PushOutcome) -> bool| {
        history.attempts.iter().filter(|attempt: &&Attempt| is(&attempt.outcome)).count()
    };
    let pages = history.pulls.iter().filter_map(|pull| pull.page.as_ref());
    let told = facts.versions.values().flat_map(|version| &version.told);
    Counts {
        pushes: history.attempts.len(),
        acknowledged: told.filter(|told| told.acknowledged).count(),
        conflicts: of(|outcome| matches!(outcome, PushOutcome::Conflict(_))),
        refused: of(|outcome| matches!(outcome, PushOutcome::Refused)),
        unknown: of(|outcome| matches!(outcome, PushOutcome::Unknown))
            + history.pulls.iter().filter(|pull| pull.page.is_none()).count(),
        replays: 0,
        pages: pages.clone().count(),
        pulled: pages.map(|page| page.records.len()).sum(),
        followers: 0,
        vaults: history.users.len(),
        records: history.finals.iter().flatten().count(),
    }
}
