//! The reference model: the contract of one vault in plain maps, written from the protocol and not from a
//! backend.
//!
//! Not here: the versions of a record (`record.rs`); what is removed (`maintenance.rs`).

use std::collections::{BTreeMap, VecDeque};

use vaultsync_store::Quotas;

use crate::record::{PastVersion, RecordModel, RecordView};

/// Small, so that pages and conflict lists of a few records exceed it.
pub(crate) const PAGE_BYTES_MAX: usize = 12;

pub(crate) const VAULTS_PER_USER_MAX: usize = 1;

/// In byte order. Of the last two, tombstones are never removed, and of the last no version is kept.
pub(crate) const RECORDS: [&str; 7] =
    ["E", "a", "b", "c", "vaultsync.key", "vaultsync.pair.x", "é"];

const RECEIPTS: usize = 32;

/// The version that a batch gave each of its records.
type Versions = Vec<(String, i64)>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    pub(crate) id: String,
    pub(crate) base: Option<i64>,
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) deleted: bool,
}

/// What a push repeats: two equal batches are the same push.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Batch {
    pub(crate) writes: Vec<Write>,
    /// The version that each of these records must have.
    pub(crate) guards: Vec<(String, i64)>,
}

/// The epoch that a request names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum EpochName {
    /// The n-th epoch of the vault.
    Own(usize),
    /// The n-th epoch of another vault.
    Of { vault: usize, epoch: usize },
    /// A text that names no epoch.
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) vault: usize,
    pub(crate) batch: Batch,
    pub(crate) epoch: Option<EpochName>,
    pub(crate) since: Option<i64>,
    pub(crate) now: i64,
}

/// What decides about a push besides its vault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) quotas: Quotas,
    /// Named vaults of the user, if the vault is a named one: all but this.
    pub(crate) other_named_vaults: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Applied { versions: Versions, head_change: Option<(Option<i64>, i64)> },
    Refused { conflicts: Vec<(String, RecordView, IsGuard)>, has_more: bool },
    EpochChanged,
    VaultErased,
    Erasing,
    TooManyVaults,
    QuotaExceeded { usage: Usage, operations: Vec<usize> },
    CursorExpired,
}

pub(crate) type IsGuard = bool;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) records: i64,
    pub(crate) tombstones: i64,
    pub(crate) bytes: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PullRequest {
    pub(crate) cursor: Option<i64>,
    pub(crate) limit: usize,
    pub(crate) epoch: Option<EpochName>,
    pub(crate) since: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page {
    pub(crate) records: Vec<(String, RecordView)>,
    pub(crate) has_more: bool,
    pub(crate) next_cursor: Option<i64>,
    /// The number of the vault's epoch.
    pub(crate) epoch: Option<usize>,
    pub(crate) head: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PullAnswer {
    Page(Page),
    EpochChanged,
    VaultErased,
    CursorAhead,
    CursorExpired,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Status {
    /// Nothing was ever pushed.
    #[default]
    Absent,
    Live,
    /// It was erased, and its rows remain.
    Erasing,
    Erased,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct VaultModel {
    pub(crate) records: BTreeMap<String, RecordModel>,
    /// The last time that was assigned. It outlives an erasure.
    pub(crate) clock: Option<i64>,
    pub(crate) status: Status,
    /// How many epochs there were, with the current one.
    pub(crate) epochs: usize,
    /// The newest tombstone that was purged in this epoch.
    pub(crate) purged_at: Option<i64>,
    /// Whether anything was ever purged or erased.
    pub(crate) has_removed: bool,
    /// The last applied batches, and their versions.
    pub(crate) receipts: VecDeque<(Batch, Versions)>,
    /// Every batch that was ever sent, for retries.
    pub(crate) sent: Vec<Batch>,
}

/// What a push finds.
enum Check<'a> {
    Applied,
    Write(&'a Write, i64),
    Conflict,
}

impl VaultModel {
    /// The number of the vault's epoch, if it has one.
    pub(crate) fn current_epoch(&self) -> Option<usize> {
        (self.status == Status::Live).then(|| self.epochs - 1)
    }

    pub(crate) fn head(&self) -> Option<i64> {
        self.clock.filter(|_| self.status == Status::Live)
    }

    /// Whether an epoch is the vault's. `Err` says whether it was erased.
    fn check_epoch(&self, named: Option<EpochName>) -> Result<(), bool> {
        match named {
            None => Ok(()),
            Some(EpochName::Own(number)) if Some(number) == self.current_epoch() => Ok(()),
            Some(EpochName::Own(_)) => Err(true),
            Some(EpochName::Of { .. } | EpochName::Unknown) => Err(false),
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for record in self.records.values() {
            let current = record.current();
            usage.records += i64::from(!current.deleted);
            usage.tombstones += i64::from(current.deleted);
            usage.bytes += length(&current.ciphertext);
        }
        usage
    }

    pub(crate) fn history_bytes(&self) -> usize {
        self.records.values().map(RecordModel::history_bytes).sum()
    }

    /// Decides a push, and applies it if nothing stands against it.
    pub(crate) fn push(&mut self, request: &Request, limits: Limits) -> Answer {
        let batch = &request.batch;
        if let Err(is_erased) = self.check_epoch(request.epoch) {
            return if is_erased { Answer::VaultErased } else { Answer::EpochChanged };
        }
        if batch.writes.is_empty() {
            return Answer::Applied { versions: Vec::new(), head_change: None };
        }
        if self.status == Status::Erasing {
            return Answer::Erasing;
        }
        if let Some((_, versions)) = self.receipts.iter().find(|(before, _)| before == batch) {
            return self.answer_retry(batch, versions.clone());
        }
        if request.since.is_some_and(|since| self.purged_at > Some(since)) {
            return Answer::CursorExpired;
        }
        let checks: Vec<_> =
            batch.writes.iter().map(|write| self.check(write, request.epoch.is_some())).collect();
        let is_applied = checks.iter().all(|check| matches!(check, Check::Applied));
        let guards = batch.guards.iter().filter(|(id, version)| {
            !is_applied && *version != self.records.get(id).map_or(0, RecordModel::version)
        });
        let mut conflicts: Vec<_> = guards.map(|(id, _)| self.conflict(id, true)).collect();
        let pairs = batch.writes.iter().zip(&checks);
        let conflicting = pairs.filter(|(_, check)| matches!(check, Check::Conflict));
        conflicts.extend(conflicting.map(|(write, _)| self.conflict(&write.id, false)));
        if !conflicts.is_empty() {
            return refused(conflicts);
        }
        let is_new = self.status != Status::Live;
        if is_new && limits.other_named_vaults.is_some_and(|count| count >= VAULTS_PER_USER_MAX) {
            return Answer::TooManyVaults;
        }
        let operations = self.over_quota(&checks, limits.quotas);
        if !operations.is_empty() {
            return Answer::QuotaExceeded { usage: self.usage(), operations };
        }
        self.apply(batch, &checks, request.now)
    }

    /// The answer to a batch that has a receipt.
    fn answer_retry(&self, batch: &Batch, versions: Versions) -> Answer {
        // The same bytes may be a new write by now: the client decides.
        let came_true = batch.writes.iter().zip(&versions).filter_map(|(write, (id, version))| {
            let base = write.base.filter(|base| *version == 1 && *base > 1)?;
            let record = self.records.get(id).filter(|record| record.version() >= base)?;
            Some((id.clone(), record.view(), false))
        });
        let came_true: Vec<_> = came_true.collect();
        if came_true.is_empty() {
            return Answer::Applied { versions, head_change: None };
        }
        refused(came_true)
    }

    fn check<'a>(&self, write: &'a Write, knows_epoch: bool) -> Check<'a> {
        let makes = write.base.unwrap_or(0) + 1;
        match self.records.get(&write.id) {
            Some(record)
                if record.version() == makes
                    && record.current().ciphertext == write.ciphertext
                    && record.current().deleted == write.deleted =>
            {
                Check::Applied
            }
            Some(record) if write.base == Some(record.version()) => Check::Write(write, makes),
            Some(_) => Check::Conflict,
            None if knows_epoch && write.base.is_some() => Check::Conflict,
            None => Check::Write(write, 1),
        }
    }

    fn conflict(&self, id: &str, is_guard: IsGuard) -> (String, RecordView, IsGuard) {
        let view = self.records.get(id).map_or(RecordView::NOTHING, RecordModel::view);
        (id.to_owned(), view, is_guard)
    }

    /// The writes that make the vault exceed a quota. With 7 small records, neither the rows nor the room for
    /// changes of records that exist is ever used up.
    fn over_quota(&self, checks: &[Check<'_>], quotas: Quotas) -> Vec<usize> {
        let usage = self.usage();
        // What each write adds: live records, bytes, and whether its record is new.
        let growth: Vec<_> = checks
            .iter()
            .map(|check| {
                let Check::Write(write, _) = check else { return (0, 0, false) };
                let before = self.records.get(&write.id).map(RecordModel::current);
                let was_live = before.is_some_and(|before| !before.deleted);
                let bytes_before = before.map_or(0, |before| length(&before.ciphertext));
                let bytes = length(&write.ciphertext) - bytes_before;
                (i64::from(!write.deleted) - i64::from(was_live), bytes, before.is_none())
            })
            .collect();
        let records: i64 = growth.iter().map(|(records, ..)| records).sum();
        let bytes: i64 = growth.iter().map(|(_, bytes, _)| bytes).sum();
        let over_records =
            records > 0 && quotas.records.is_some_and(|quota| usage.records + records > quota);
        let over_bytes = bytes > 0
            && growth.iter().any(|(_, bytes, is_new)| *is_new && *bytes > 0)
            && quotas.bytes.is_some_and(|quota| usage.bytes + bytes > quota);
        let grows = |index: &usize| {
            let (records, bytes, is_new) = growth[*index];
            let deletes = matches!(checks[*index], Check::Write(write, _) if write.deleted);
            over_records && records > 0 || over_bytes && bytes > 0 && (is_new || !deletes)
        };
        (0..checks.len()).filter(grows).collect()
    }

    fn apply(&mut self, batch: &Batch, checks: &[Check<'_>], now: i64) -> Answer {
        let head_before = self.head();
        if self.status != Status::Live {
            self.status = Status::Live;
            self.epochs += 1;
        }
        let (mut versions, mut head_change) = (Vec::new(), None);
        for (write, check) in batch.writes.iter().zip(checks) {
            let made = match check {
                Check::Write(_, version) => *version,
                _ => write.base.unwrap_or(0) + 1,
            };
            versions.push((write.id.clone(), made));
            if matches!(check, Check::Applied) {
                continue;
            }
            let updated_at = self.clock.map_or(now, |clock| now.max(clock + 1));
            self.clock = Some(updated_at);
            head_change = Some((head_before, updated_at));
            let version = PastVersion {
                ciphertext: write.ciphertext.clone(),
                deleted: write.deleted,
                updated_at,
                written_at: now,
                replacement: None,
            };
            let history_bytes = self.history_bytes();
            let record = self.records.entry(write.id.clone()).or_default();
            record.write(&write.id, version, history_bytes);
        }
        self.receipts.push_back((batch.clone(), versions.clone()));
        if self.receipts.len() > RECEIPTS {
            self.receipts.pop_front();
        }
        Answer::Applied { versions, head_change }
    }

    /// The answer to a pull.
    pub(crate) fn pull(&self, request: &PullRequest) -> PullAnswer {
        let &PullRequest { cursor, limit, epoch, since } = request;
        if let Err(is_erased) = self.check_epoch(epoch) {
            return if is_erased { PullAnswer::VaultErased } else { PullAnswer::EpochChanged };
        }
        if epoch.is_some() && cursor > self.head() {
            return PullAnswer::CursorAhead;
        }
        if cursor.is_some() && since.is_some() && self.purged_at > cursor.max(since) {
            return PullAnswer::CursorExpired;
        }
        let views = self.records.iter().map(|(id, record)| (id.clone(), record.view()));
        let mut later: Vec<_> = views.filter(|(_, record)| record.updated_at > cursor).collect();
        later.sort_by_key(|(_, record)| record.updated_at);
        let count = within_bytes(later.iter().map(|(_, record)| record)).min(limit);
        let has_more = count < later.len();
        later.truncate(count);
        let next_cursor = later.last().and_then(|(_, record)| record.updated_at);
        let (epoch, head) = (self.current_epoch(), self.head());
        PullAnswer::Page(Page { records: later, has_more, next_cursor, epoch, head })
    }
}

fn refused(mut conflicts: Vec<(String, RecordView, IsGuard)>) -> Answer {
    let count = within_bytes(conflicts.iter().map(|(_, record, _)| record));
    let has_more = count < conflicts.len();
    conflicts.truncate(count);
    Answer::Refused { conflicts, has_more }
}

/// How many of the first records fit in a page: at least one, if there is one.
fn within_bytes<'a>(records: impl ExactSizeIterator<Item = &'a RecordView>) -> usize {
    let (mut bytes, all) = (0, records.len());
    let fits = records.take_while(|record| {
        bytes += record.ciphertext.len();
        bytes <= PAGE_BYTES_MAX
    });
    fits.count().max(1).min(all)
}

fn length(ciphertext: &[u8]) -> i64 {
    i64::try_from(ciphertext.len()).expect("a small number")
}
