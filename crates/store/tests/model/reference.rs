//! The reference model: the contract of one vault in plain maps, written from the protocol and not from a
//! backend.

use std::collections::{BTreeMap, VecDeque};

use vaultsync_protocol::Epoch;

pub(crate) const DEVICES: usize = 2;

/// Small, so that pages and conflict lists of a few records exceed it.
pub(crate) const PAGE_BYTES_MAX: usize = 12;

/// The epoch of every vault.
pub(crate) const EPOCH: Epoch = Epoch::from_bytes([7; 16]);

pub(crate) const RECORDS: [&str; 6] = ["a", "b", "c", "d", "E", "é"];
const RECEIPTS: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) version: i64,
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) deleted: bool,
    /// `None` only in the conflict with a record that does not exist.
    pub(crate) updated_at: Option<i64>,
}

/// The version that a batch gave each of its records.
type Versions = Vec<(String, i64)>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Write {
    pub(crate) id: String,
    pub(crate) base: Option<i64>,
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) deleted: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) user: usize,
    pub(crate) writes: Vec<Write>,
    pub(crate) epoch: Option<String>,
    pub(crate) now: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Applied(Versions),
    Refused(Vec<(String, Record)>, bool),
    EpochChanged,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page {
    pub(crate) records: Vec<(String, Record)>,
    pub(crate) has_more: bool,
    pub(crate) next_cursor: Option<i64>,
    pub(crate) head: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PullAnswer {
    Page(Page),
    EpochChanged,
    CursorAhead,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct VaultModel {
    pub(crate) records: BTreeMap<String, Record>,
    /// The head. `None` before the first push.
    pub(crate) clock: Option<i64>,
    /// The last applied batches, and their responses.
    receipts: VecDeque<(Vec<Write>, Versions)>,
    /// Every batch that was ever sent, for retries.
    pub(crate) sent: Vec<Vec<Write>>,
    pub(crate) cursors: [Option<i64>; DEVICES],
}

impl VaultModel {
    /// Decides a batch, and applies it if nothing conflicts.
    pub(crate) fn push(&mut self, writes: &[Write], knows_epoch: bool, now: i64) -> Answer {
        if writes.is_empty() {
            return Answer::Applied(Vec::new());
        }
        if let Some(index) = self.receipts.iter().position(|(batch, _)| batch == writes) {
            let answer = self.receipts[index].1.clone();
            let came_true: Vec<_> = writes
                .iter()
                .zip(&answer)
                .filter_map(|(write, (id, version))| {
                    let base = write.base.filter(|base| *version == 1 && *base > 1)?;
                    let record = self.records.get(id).filter(|record| record.version >= base)?;
                    Some((id.clone(), record.clone()))
                })
                .collect();
            if came_true.is_empty() {
                return Answer::Applied(answer);
            }
            // The same bytes may be a new write by now: the client decides.
            let count = within_bytes(&came_true);
            return Answer::Refused(came_true[..count].to_vec(), count < came_true.len());
        }
        let (mut answer, mut to_write, mut conflicts) = (Vec::new(), Vec::new(), Vec::new());
        for write in writes {
            let makes = write.base.unwrap_or(0) + 1;
            match self.records.get(&write.id) {
                Some(record)
                    if record.version == makes
                        && record.ciphertext == write.ciphertext
                        && record.deleted == write.deleted =>
                {
                    answer.push((write.id.clone(), makes));
                }
                Some(record) if write.base == Some(record.version) => {
                    answer.push((write.id.clone(), makes));
                    to_write.push((write, makes));
                }
                Some(record) => conflicts.push((write.id.clone(), record.clone())),
                None if knows_epoch && write.base.is_some() => {
                    let nothing = Record {
                        version: 0,
                        ciphertext: Vec::new(),
                        deleted: true,
                        updated_at: None,
                    };
                    conflicts.push((write.id.clone(), nothing));
                }
                None => {
                    answer.push((write.id.clone(), 1));
                    to_write.push((write, 1));
                }
            }
        }
        if !conflicts.is_empty() {
            let count = within_bytes(&conflicts);
            return Answer::Refused(conflicts[..count].to_vec(), count < conflicts.len());
        }
        for (write, version) in to_write {
            let time = self.clock.map_or(now, |clock| now.max(clock + 1));
            self.clock = Some(time);
            let record = Record {
                version,
                ciphertext: write.ciphertext.clone(),
                deleted: write.deleted,
                updated_at: Some(time),
            };
            self.records.insert(write.id.clone(), record);
        }
        self.receipts.push_back((writes.to_vec(), answer.clone()));
        if self.receipts.len() > RECEIPTS {
            self.receipts.pop_front();
        }
        Answer::Applied(answer)
    }

    /// The page that a pull returns.
    pub(crate) fn page(&self, cursor: Option<i64>, limit: usize) -> Page {
        let mut later: Vec<_> = self
            .records
            .iter()
            .filter(|(_, record)| record.updated_at > cursor)
            .map(|(id, record)| (id.clone(), record.clone()))
            .collect();
        later.sort_by_key(|(_, record)| record.updated_at);
        let count = within_bytes(&later).min(limit);
        let has_more = count < later.len();
        later.truncate(count);
        let next_cursor = later.last().and_then(|(_, record)| record.updated_at);
        Page { records: later, has_more, next_cursor, head: self.clock }
    }
}

/// How many of the first records fit in a page: at least one.
fn within_bytes(records: &[(String, Record)]) -> usize {
    let mut bytes = 0;
    let fits = records.iter().take_while(|(_, record)| {
        bytes += record.ciphertext.len();
        bytes <= PAGE_BYTES_MAX
    });
    fits.count().max(1).min(records.len())
}
