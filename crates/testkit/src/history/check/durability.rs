//! G1: a version that was acknowledged or returned is in the final state or was superseded.

use super::{Promise, Report, evidence::Evidence};
use crate::history::index::History;

pub(super) fn check(history: &History, evidence: &Evidence, report: &mut Report<'_>) {
    for (&(record, number), version) in &evidence.versions {
        if history.is_erased(record) {
            continue;
        }
        for claim in &version.claims {
            let final_state = match &history.finals[record] {
                None => "does not exist".to_owned(),
                Some(last) if last.version < number => format!("is at version {}", last.version),
                Some(last) if last.version == number && last.content != claim.content => {
                    "has another content under that version".to_owned()
                }
                Some(_) => continue,
            };
            let was = if claim.acknowledged { "was acknowledged" } else { "was returned" };
            let what = format!("version {number} {was}, but in the end the record {final_state}");
            report.add_for_record(Promise::Durable, record, claim.operation, what);
        }
    }
}
