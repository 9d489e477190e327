//! History: which replaced versions of records are kept, and for how long. Both decisions are pure and made
//! here for every database.
//!
//! Not here: SQL; the states that clients read (`vaultsync_protocol::history`).

use std::time::Duration;

use vaultsync_protocol::{RecordId, Timestamp, Version};

/// Ids of records of which no replaced version is kept: messages of a pairing, which are secret and short-lived.
const PAIRING_PREFIX: &str = "vaultsync.pair.";

/// Length of the periods of the wall clock of which each keeps a version: an app that saves every few seconds
/// costs one version for each.
const PERIOD_MILLIS: i64 = 600_000;

/// How long a version must have stood if the vault's history is full.
const FULL_MIN_AGE: Duration = Duration::from_hours(1);

const HOUR_MILLIS: i64 = 3_600_000;
pub(crate) const DAY_MILLIS: i64 = 24 * HOUR_MILLIS;
const WEEK_MILLIS: i64 = 7 * DAY_MILLIS;

/// Options of the history of every vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryOptions {
    /// For how many days replaced versions are kept; 0 keeps none.
    pub days: usize,
    /// How long a version must have stood to be kept, unless it is the last one of a period of ten minutes.
    pub min_age: Duration,
    /// Bytes of ciphertext from which on a vault's history is full. A version is then kept only if it stood for
    /// an hour.
    pub bytes_max: usize,
}

impl Default for HistoryOptions {
    fn default() -> Self {
        Self { days: 30, min_age: Duration::from_mins(1), bytes_max: 1 << 30 }
    }
}

impl HistoryOptions {
    /// Whether a version is kept that was written at `written_at` and is replaced at `now`, both by the wall
    /// clock. `written_at` is `None` if the version is older than the history: what stood then has stood for
    /// long.
    pub(crate) fn keeps(
        &self,
        record_id: &RecordId,
        written_at: Option<Timestamp>,
        now: Timestamp,
        history_bytes: i64,
    ) -> bool {
        if self.days == 0 || record_id.as_str().starts_with(PAIRING_PREFIX) {
            return false;
        }
        let Some(written_at) = written_at else { return true };
        let (written_at, now) = (written_at.as_millis(), now.as_millis());
        let stood_for = |age: Duration| now.saturating_sub(written_at) >= millis(age);
        if history_bytes >= i64::try_from(self.bytes_max).unwrap_or(i64::MAX) {
            return stood_for(FULL_MIN_AGE);
        }
        stood_for(self.min_age) || period(written_at, PERIOD_MILLIS) != period(now, PERIOD_MILLIS)
    }
}

/// The number of the period of the wall clock that a time is in.
const fn period(millis: i64, length: i64) -> i64 {
    millis.div_euclid(length)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A kept version, as far as its deletion depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRevision {
    pub(crate) record_id: RecordId,
    pub(crate) version: Version,
    /// When it was replaced, by the wall clock.
    pub(crate) replaced_at: Timestamp,
    /// Length of its ciphertext.
    pub(crate) ciphertext_bytes: i64,
}

/// The versions that are not kept any longer, of some versions in the order of records and versions. Of the
/// last day all are kept, of the week before it one an hour, and then one a day, until `days` have passed.
///
/// The last version is never one of them unless it is too old: what follows it is not known. A caller that has
/// more begins the next part with it.
pub(crate) fn expired(
    kept: &[StoredRevision],
    days: usize,
    now: Timestamp,
) -> Vec<&StoredRevision> {
    let now = now.as_millis();
    let days = i64::try_from(days).unwrap_or(i64::MAX);
    let is_old = |one: &StoredRevision| {
        now.saturating_sub(one.replaced_at.as_millis()) >= days.saturating_mul(DAY_MILLIS)
    };
    let is_covered = |(index, one): (usize, &StoredRevision)| {
        let Some(next) = kept.get(index + 1).filter(|next| next.record_id == one.record_id) else {
            return false;
        };
        let length = match now.saturating_sub(one.replaced_at.as_millis()) {
            age if age < DAY_MILLIS => return false,
            age if age < WEEK_MILLIS => HOUR_MILLIS,
            _ => DAY_MILLIS,
        };
        period(one.replaced_at.as_millis(), length) == period(next.replaced_at.as_millis(), length)
    };
    let each = kept.iter().enumerate();
    each.filter(|(index, one)| is_old(one) || is_covered((*index, one)))
        .map(|(_, one)| one)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;
    const MINUTE: i64 = 60_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn id(id: &str) -> RecordId {
        RecordId::new(id).unwrap()
    }

    /// Whether a version is kept that stood from `written` to `replaced`, in milliseconds after a full ten
    /// minutes.
    fn keeps(written: i64, replaced: i64) -> bool {
        let start = NOW - NOW % PERIOD_MILLIS;
        let written = Some(at(start + written));
        HistoryOptions::default().keeps(&id("a"), written, at(start + replaced), 0)
    }

    #[test]
    fn a_version_is_kept_if_it_stood_for_a_minute_or_over_a_boundary() {
        assert!(!keeps(0, 0) && !keeps(0, MINUTE - 1) && !keeps(MINUTE, MINUTE + 1));
        assert!(keeps(0, MINUTE) && keeps(1, 5 * MINUTE) && keeps(1, 100 * MINUTE));
        assert!(!keeps(10 * MINUTE - 2, 10 * MINUTE - 1) && keeps(10 * MINUTE - 1, 10 * MINUTE));
        assert!(keeps(10 * MINUTE, 10 * MINUTE - 1), "a clock that went back over a boundary");
    }

    #[test]
    fn a_version_of_unknown_time_is_kept_and_a_pairing_never() {
        let options = HistoryOptions::default();
        assert!(options.keeps(&id("a"), None, at(NOW), i64::MAX));
        assert!(!options.keeps(&id("vaultsync.pair.x"), None, at(NOW), 0));
        assert!(options.keeps(&id("vaultsync.keyring"), None, at(NOW), 0));
        let off = HistoryOptions { days: 0, ..options };
        assert!(!off.keeps(&id("a"), None, at(NOW), 0));
    }

    #[test]
    fn a_full_history_keeps_what_stood_for_an_hour() {
        let options = HistoryOptions { bytes_max: 100, ..HistoryOptions::default() };
        let keeps = |age, bytes| options.keeps(&id("a"), Some(at(NOW - age)), at(NOW), bytes);
        assert!(keeps(MINUTE, 99) && !keeps(MINUTE, 100) && !keeps(HOUR_MILLIS - 1, 100));
        assert!(keeps(HOUR_MILLIS, 100));
    }

    /// Which versions of records expire, of `(id, version, age)`.
    #[track_caller]
    fn check_expired(versions: &[(&str, i64, i64)], days: usize, expected: &[(&str, i64)]) {
        let kept: Vec<_> = versions
            .iter()
            .map(|(record_id, version, age)| StoredRevision {
                record_id: id(record_id),
                version: Version::new(*version).unwrap(),
                replaced_at: at(NOW - age),
                ciphertext_bytes: 1,
            })
            .collect();
        let found = expired(&kept, days, at(NOW));
        let found: Vec<_> =
            found.iter().map(|one| (one.record_id.as_str(), one.version.get())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn of_the_last_day_everything_is_kept() {
        check_expired(&[("a", 1, 3), ("a", 2, 2), ("a", 3, DAY_MILLIS - 1)], 30, &[]);
        check_expired(&[("a", 1, 0), ("a", 2, 0)], 0, &[("a", 1), ("a", 2)]);
    }

    #[test]
    fn of_an_hour_of_the_last_week_and_of_an_older_day_the_last_version_is_kept() {
        let hour = NOW % HOUR_MILLIS + 2 * DAY_MILLIS;
        let one_hour = [("a", 1, hour), ("a", 2, hour - 1), ("a", 3, hour - HOUR_MILLIS + 1)];
        check_expired(&one_hour, 30, &[("a", 1), ("a", 2)]);
        let two_hours = [("a", 1, hour), ("a", 2, hour - HOUR_MILLIS)];
        check_expired(&two_hours, 30, &[]);
        check_expired(&[("a", 1, hour), ("b", 2, hour - 1)], 30, &[]);
        let day = NOW % DAY_MILLIS + 10 * DAY_MILLIS;
        let one_day = [("a", 1, day), ("a", 4, day - 9 * HOUR_MILLIS), ("a", 5, 0)];
        check_expired(&one_day, 30, &[("a", 1)]);
        check_expired(&one_day, 10, &[("a", 1), ("a", 4)]);
    }

    /// Thinning again changes nothing, and as time passes the versions that remain are a subset.
    #[test]
    fn thinning_keeps_one_version_of_each_period() {
        let ages = (0..200).rev().map(|step| step * 7 * HOUR_MILLIS / 3);
        let all: Vec<_> = ages
            .zip(1..)
            .map(|(age, version)| StoredRevision {
                record_id: id("a"),
                version: Version::new(version).unwrap(),
                replaced_at: at(NOW - age),
                ciphertext_bytes: 1,
            })
            .collect();
        let remaining: Vec<_> = {
            let gone = expired(&all, 30, at(NOW));
            all.iter().filter(|one| !gone.contains(one)).cloned().collect()
        };
        assert!(expired(&remaining, 30, at(NOW)).is_empty());
        for day in 1..19 {
            let replaced = |one: &&StoredRevision| {
                period(one.replaced_at.as_millis(), DAY_MILLIS) == period(NOW, DAY_MILLIS) - day
            };
            assert!(remaining.iter().any(|one| replaced(&one)), "day {day}");
        }
    }
}
