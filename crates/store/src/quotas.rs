//! Quotas: what a vault may hold, and whether a push exceeds it.

use vaultsync_protocol::Push;

use crate::{check_version::WriteDecision, counters::Counters, push_plan::LoadedRecord};

/// Records and tombstones that a vault may have for each record of its quota.
const ROWS_PER_RECORD: i64 = 10;

/// Bytes by which records that exist may exceed the quota, in total. Without it, the user of a full vault could
/// not change a passphrase.
const OVERSHOOT_BYTES: i64 = 1 << 20;

/// Ciphertext of a tombstone that is always accepted, in bytes: deleting is how a full vault gets room.
const SMALL_TOMBSTONE_BYTES: usize = 1024;

/// Quotas of every vault. `None` is no quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Records that are no tombstones. With tombstones, a vault may have ten times as many.
    pub records: Option<i64>,
    /// Bytes of ciphertext, tombstones included.
    pub bytes: Option<i64>,
}

/// What a push that is refused would exceed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaExceeded {
    /// What the vault holds.
    pub usage: Counters,
    /// Indexes of the operations that would make it hold more.
    pub operations: Vec<usize>,
}

/// What one operation adds to a vault's counters.
struct Growth {
    operation: usize,
    counters: Counters,
    is_new_record: bool,
    is_small_tombstone: bool,
}

impl Quotas {
    /// Checks the writes of a push in sum. A quota is exceeded if a counter grows past it. What a push makes
    /// smaller, or leaves as it is, is accepted even if there is too much of it.
    pub(crate) fn check(
        self,
        push: &Push,
        decisions: &[WriteDecision],
        records: &[Option<LoadedRecord>],
        usage: Counters,
    ) -> Result<(), QuotaExceeded> {
        if self == Self::default() {
            return Ok(());
        }
        let growth = growth(push, decisions, records);
        let operations = self.exceeded_by(&growth, usage);
        if operations.is_empty() { Ok(()) } else { Err(QuotaExceeded { usage, operations }) }
    }

    fn exceeded_by(self, growth: &[Growth], usage: Counters) -> Vec<usize> {
        let sum =
            |of: fn(&Counters) -> i64| growth.iter().map(|one| of(&one.counters)).sum::<i64>();
        let exceeds = |of: fn(&Counters) -> i64, quota: Option<i64>| {
            let added = sum(of);
            quota.is_some_and(|quota| added > 0 && of(&usage) + added > quota)
        };
        let live = exceeds(|counters| counters.live_records, self.records);
        let row_quota = self.records.map(|records| records.saturating_mul(ROWS_PER_RECORD));
        let rows = exceeds(|counters| counters.record_rows, row_quota);
        let grows_by_new = growth.iter().any(|one| one.is_new_record && one.counters.bytes > 0);
        let overshoot = if grows_by_new { 0 } else { OVERSHOOT_BYTES };
        let byte_quota = self.bytes.map(|bytes| bytes.saturating_add(overshoot));
        let bytes = exceeds(|counters| counters.bytes, byte_quota);
        let is_over = |one: &&Growth| {
            live && one.counters.live_records > 0
                || rows && one.counters.record_rows > 0
                || bytes && one.counters.bytes > 0 && !one.is_small_tombstone
        };
        growth.iter().filter(is_over).map(|one| one.operation).collect()
    }
}

/// What each operation that is written adds.
fn growth(
    push: &Push,
    decisions: &[WriteDecision],
    records: &[Option<LoadedRecord>],
) -> Vec<Growth> {
    let each = push.operations().iter().zip(decisions).zip(records.iter().copied()).enumerate();
    each.filter(|(_, ((_, decision), _))| decision.is_new())
        .map(|(index, ((operation, _), before))| {
            let mut counters = Counters::default();
            counters.replace(before, operation);
            let is_new_record = before.is_none();
            let is_small_tombstone = !is_new_record
                && operation.deleted
                && operation.ciphertext.len() <= SMALL_TOMBSTONE_BYTES;
            Growth { operation: index, counters, is_new_record, is_small_tombstone }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An operation that adds live records, rows and bytes.
    fn grows(live_records: i64, record_rows: i64, bytes: i64) -> Growth {
        Growth {
            operation: 0,
            counters: Counters { live_records, record_rows, bytes },
            is_new_record: record_rows > 0,
            is_small_tombstone: false,
        }
    }

    /// The operations that exceed a quota of 10 records and 100 bytes.
    #[track_caller]
    fn check(usage: (i64, i64, i64), growth: Vec<Growth>, expected: &[usize]) {
        let (live_records, record_rows, bytes) = usage;
        let growth: Vec<_> = growth
            .into_iter()
            .enumerate()
            .map(|(operation, one)| Growth { operation, ..one })
            .collect();
        let quotas = Quotas { records: Some(10), bytes: Some(100) };
        let usage = Counters { live_records, record_rows, bytes };
        assert_eq!(quotas.exceeded_by(&growth, usage), expected);
    }

    #[test]
    fn a_vault_can_be_filled_to_its_quota_and_no_further() {
        check((9, 9, 90), vec![grows(1, 1, 10)], &[]);
        check((10, 10, 0), vec![grows(1, 1, 1)], &[0]);
        check((0, 0, 90), vec![grows(1, 1, 11)], &[0]);
        check((9, 9, 0), vec![grows(1, 1, 1), grows(0, 0, 5), grows(1, 1, 1)], &[0, 2]);
    }

    #[test]
    fn what_does_not_grow_is_always_accepted() {
        check((99, 999, 9_999_999), vec![grows(0, 0, 0)], &[]);
        check((99, 999, 9_999_999), vec![grows(-1, 0, -5)], &[]);
        check((11, 11, 0), vec![grows(1, 0, 0), grows(-1, 0, 0)], &[]);
        check((11, 11, 500), vec![grows(1, 1, 10), grows(-1, 0, -10)], &[]);
    }

    #[test]
    fn tombstones_count_against_ten_times_the_quota() {
        check((0, 99, 0), vec![grows(0, 1, 0)], &[]);
        check((0, 100, 0), vec![grows(0, 1, 0)], &[0]);
        check((0, 100, 0), vec![grows(1, 0, 0)], &[]);
    }

    #[test]
    fn existing_records_may_exceed_the_bytes_by_one_mib_in_total() {
        check((1, 1, 100), vec![grows(0, 0, OVERSHOOT_BYTES)], &[]);
        check((1, 1, 101), vec![grows(0, 0, OVERSHOOT_BYTES)], &[0]);
        check((1, 1, 100), vec![grows(0, 0, 1), grows(1, 1, 0)], &[]);
        check((1, 1, 100), vec![grows(0, 0, 1), grows(1, 1, 1)], &[0, 1]);
    }

    #[test]
    fn a_small_tombstone_is_accepted_in_a_full_vault() {
        let tombstone =
            |is_small_tombstone| Growth { is_small_tombstone, ..grows(-1, 0, 2 * OVERSHOOT_BYTES) };
        check((9, 9, 100), vec![tombstone(true)], &[]);
        check((9, 9, 100), vec![tombstone(false)], &[0]);
    }

    #[test]
    fn without_quotas_nothing_is_exceeded() {
        let usage = Counters { live_records: 99, record_rows: 99, bytes: 99 };
        assert!(Quotas::default().exceeded_by(&[grows(9, 9, 9)], usage).is_empty());
    }
}
