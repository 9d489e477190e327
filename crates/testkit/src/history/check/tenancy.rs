//! I7: nobody is shown what only another user wrote.

use super::{
    Promise, Report,
    facts::{Facts, Origin},
};
use crate::history::index::History;

pub(super) fn check(history: &History, facts: &Facts, report: &mut Report<'_>) {
    for strange in &facts.strange {
        if let Origin::Another(owner) = strange.origin {
            let what = format!("it holds what only {} wrote", history.users[owner]);
            report.of_record(Promise::Tenancy, strange.record, strange.operation, what);
        }
    }
}
