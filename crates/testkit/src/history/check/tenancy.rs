//! I7: nobody is shown what only another user wrote.

use super::{
    Promise, Report,
    facts::{Facts, Origin},
};
use crate::history::index::History;

pub(super) fn check(history: &History, facts: &Facts, report: &mut Report<'_>) {
    for (operation, seen) in history.sightings() {
        if let Origin::Another(owner) = facts.origin(history, seen) {
            let what = format!("it holds what only {} wrote", history.users[owner]);
            report.of_record(Promise::Tenancy, seen.record, operation, what);
        }
    }
}
