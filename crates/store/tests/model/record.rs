//! The reference model of one record: every version that it ever had, and which of them are kept.

use std::collections::BTreeSet;

pub(crate) const MINUTE: i64 = 60_000;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const DAY: i64 = 24 * HOUR;

/// Small, so that the history of a vault is often full.
pub(crate) const HISTORY_BYTES_MAX: usize = 40;

/// A record as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RecordView {
    pub(crate) version: i64,
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) deleted: bool,
    /// `None` only in the conflict with a record that does not exist.
    pub(crate) updated_at: Option<i64>,
}

impl RecordView {
    /// What a conflict has if there is no such record.
    pub(crate) const NOTHING: Self =
        Self { version: 0, ciphertext: Vec::new(), deleted: true, updated_at: None };
}

/// One version that a record had, or has.
#[derive(Clone, Debug)]
pub(crate) struct PastVersion {
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) deleted: bool,
    pub(crate) updated_at: i64,
    /// By the wall clock.
    pub(crate) written_at: i64,
    /// `None` if it is the current version.
    pub(crate) replacement: Option<Replacement>,
}

/// The replacement of a version by the next one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replacement {
    /// The `updated_at` of the next version.
    pub(crate) at: i64,
    /// By the wall clock.
    pub(crate) wall: i64,
    pub(crate) is_kept: bool,
}

/// The state of a record at a cursor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PastState {
    /// It did not exist.
    Absent,
    /// It was at this version, or at a later one that is not kept if that is not exact.
    At { version: usize, exact: bool },
    /// It existed, and nothing is known of it.
    Unknown,
}

/// A record that exists. Version 1 is the first of its versions.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordModel {
    pub(crate) versions: Vec<PastVersion>,
}

impl RecordModel {
    pub(crate) fn current(&self) -> &PastVersion {
        self.versions.last().expect("a record has a version")
    }

    pub(crate) fn version(&self) -> i64 {
        i64::try_from(self.versions.len()).expect("a small number")
    }

    pub(crate) fn view(&self) -> RecordView {
        let current = self.current();
        RecordView {
            version: self.version(),
            ciphertext: current.ciphertext.clone(),
            deleted: current.deleted,
            updated_at: Some(current.updated_at),
        }
    }

    /// Adds a version. `history_bytes` is what the vault keeps before.
    pub(crate) fn write(&mut self, id: &str, version: PastVersion, history_bytes: usize) {
        if let Some(last) = self.versions.last_mut() {
            let (from, to) = (last.written_at, version.written_at);
            let stood_for = to - from;
            let crossed = from.div_euclid(10 * MINUTE) != to.div_euclid(10 * MINUTE);
            let is_kept = !id.starts_with("vaultsync.pair.")
                && if history_bytes >= HISTORY_BYTES_MAX {
                    stood_for >= HOUR
                } else {
                    stood_for >= MINUTE || crossed
                };
            last.replacement = Some(Replacement { at: version.updated_at, wall: to, is_kept });
        }
        self.versions.push(version);
    }

    /// The numbers of the kept versions, oldest first.
    pub(crate) fn kept(&self) -> Vec<usize> {
        let numbered = (1..).zip(&self.versions);
        numbered
            .filter(|(_, version)| version.replacement.is_some_and(|one| one.is_kept))
            .map(|(number, _)| number)
            .collect()
    }

    /// Bytes of the kept versions.
    pub(crate) fn history_bytes(&self) -> usize {
        self.kept().iter().map(|number| self.versions[number - 1].ciphertext.len()).sum()
    }

    /// The state at a cursor, if the record has changed since.
    pub(crate) fn state(&self, at: i64) -> Option<PastState> {
        if self.current().updated_at <= at {
            return None;
        }
        let before = self.versions.iter().take_while(|one| one.updated_at <= at).count();
        if before == 0 {
            return Some(PastState::Absent);
        }
        let kept = self.kept().into_iter().rfind(|&number| number <= before);
        Some(match kept {
            Some(version) => PastState::At { version, exact: version == before },
            None => PastState::Unknown,
        })
    }

    /// The kept versions that are not kept any longer: those that are too old, and of a day all but one an hour, or
    /// one a day after a week.
    pub(crate) fn expired(&self, history_days: i64, now: i64) -> BTreeSet<usize> {
        let kept = self.kept();
        let wall = |number: usize| self.versions[number - 1].replacement.expect("a kept one").wall;
        let is_expired = |(index, &number): (usize, &usize)| {
            let age = now - wall(number);
            let period = match age {
                _ if age >= history_days * DAY => return Some(number),
                _ if age < DAY => return None,
                _ if age < 7 * DAY => HOUR,
                _ => DAY,
            };
            let next = kept.get(index + 1)?;
            (wall(number).div_euclid(period) == wall(*next).div_euclid(period)).then_some(number)
        };
        kept.iter().enumerate().filter_map(is_expired).collect()
    }

    /// Drops some of the kept versions.
    pub(crate) fn forget(&mut self, numbers: &BTreeSet<usize>) {
        for number in numbers {
            if let Some(replacement) = &mut self.versions[number - 1].replacement {
                replacement.is_kept = false;
            }
        }
    }
}
