//! G7: no user gets content that only another user has written.

use super::{
    Promise, Report,
    evidence::{Evidence, Origin},
};
use crate::history::index::History;

pub(super) fn check(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    for unexplained in &evidence.unexplained {
        if let Origin::OtherUser(owner) = unexplained.origin {
            let what = format!("it has content that only {} wrote", history.users[owner]);
            let operation = unexplained.operation;
            report.add_for_record(Promise::Tenancy, unexplained.record, operation, what);
        }
    }
}
