//! G7: no vault has content that was written only to another, of the same user or not.

use super::{
    Promise, Report,
    evidence::{Evidence, Origin},
};
use crate::history::index::History;

pub(super) fn check(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    for unexplained in &evidence.unexplained {
        if let Origin::OtherVault(owner) = unexplained.origin {
            let what =
                format!("it has content that was written only to {}", history.vaults[owner].label);
            let operation = unexplained.operation;
            report.add_for_record(Promise::Tenancy, unexplained.record, operation, what);
        }
    }
}
