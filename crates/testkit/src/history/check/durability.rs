//! I1: what was acknowledged, or shown to anybody, is in the final state or was superseded.

use super::{Promise, Report, facts::Facts};
use crate::history::index::History;

pub(super) fn check(history: &History, facts: &Facts, report: &mut Report<'_>) {
    for (&(record, number), version) in &facts.versions {
        for told in &version.told {
            let there = match &history.finals[record] {
                None => "is not there".to_owned(),
                Some(last) if last.version < number => format!("is at version {}", last.version),
                Some(last) if last.version == number && last.content != told.content => {
                    "holds something else under that version".to_owned()
                }
                Some(_) => continue,
            };
            let was = if told.acknowledged { "was acknowledged" } else { "was shown" };
            let what = format!("version {number} {was}, and in the end the record {there}");
            report.of_record(Promise::Durable, record, told.operation, what);
        }
    }
}
