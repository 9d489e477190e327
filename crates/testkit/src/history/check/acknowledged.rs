//! Which versions of a record were acknowledged at a position of the history.

use super::evidence::Evidence;
use crate::history::index::{History, NEVER, Position, RecordIndex};

/// For each record, the positions at which versions were acknowledged, each with the highest version
/// until then.
pub(super) struct AcknowledgedVersions(Vec<Vec<(Position, u64)>>);

impl AcknowledgedVersions {
    pub(super) fn of(history: &History, evidence: &Evidence) -> Self {
        let mut acknowledged = vec![Vec::new(); history.records.len()];
        for (&(record, number), version) in &evidence.versions {
            if version.acknowledged != NEVER {
                acknowledged[record].push((version.acknowledged, number));
            }
        }
        for of_record in &mut acknowledged {
            of_record.sort_unstable();
            let mut highest = 0;
            for (_, number) in of_record {
                highest = highest.max(*number);
                *number = highest;
            }
        }
        Self(acknowledged)
    }

    /// The highest version of a record that was acknowledged before a position, or 0.
    pub(super) fn latest(&self, record: RecordIndex, before: Position) -> u64 {
        let of_record = &self.0[record];
        let count = of_record.partition_point(|(position, _)| *position < before);
        count.checked_sub(1).map_or(0, |last| of_record[last].1)
    }
}
