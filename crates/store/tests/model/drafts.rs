//! Random pushes and pulls as drafts, which the versions of the vault complete.

use proptest::prelude::*;

use crate::{
    record::{DAY, HOUR, MINUTE, RecordModel},
    reference::{Batch, RECORDS, VaultModel, Write},
};

/// The base version that a client sends, or the version of a guard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base {
    Null,
    /// Relative to the current version, which is 0 for a record that does not exist.
    Relative(i64),
    Absolute(i64),
}

#[derive(Clone, Debug)]
pub(crate) struct Draft {
    record: usize,
    base: Base,
    ciphertext: Vec<u8>,
    deleted: bool,
}

/// A push before its versions are known. Records that it does not write may have guards.
#[derive(Clone, Debug)]
pub(crate) struct DraftBatch {
    writes: Vec<Draft>,
    guards: Vec<(usize, Base)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum NamedEpoch {
    None,
    Current,
    /// An older one, if there is one.
    Older,
    OfAnotherVault,
    Unknown,
}

/// The `since` of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Since {
    None,
    /// Relative to the newest purged tombstone, or the head.
    NearPurged(i64),
}

/// What a request sends besides its batch or cursor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub(crate) vault: usize,
    pub(crate) epoch: NamedEpoch,
    pub(crate) since: Since,
    /// How much time passes before it.
    pub(crate) time: i64,
}

pub(crate) fn base() -> impl Strategy<Value = Base> {
    prop_oneof![
        3 => Just(Base::Null),
        7 => Just(Base::Relative(0)),
        1 => (-2_i64..=2).prop_map(Base::Relative),
        1 => (0_i64..4).prop_map(Base::Absolute),
    ]
}

pub(crate) fn draft_batch() -> impl Strategy<Value = DraftBatch> {
    // Few different ciphertexts, so that two devices often write the same one.
    let ciphertext = prop_oneof![Just(vec![1]), Just(vec![2; 5]), Just(vec![3; 11])];
    let draft = (base().boxed(), ciphertext, prop::bool::weighted(0.4), any::<bool>());
    let shuffled =
        |records: std::ops::Range<usize>| Just(records.collect::<Vec<_>>()).prop_shuffle();
    // Most writes are to three records, so that these often exist.
    let records = prop_oneof![
        2 => (shuffled(0..3), shuffled(3..RECORDS.len()))
            .prop_map(|(first, others)| [first, others].concat())
            .boxed(),
        1 => shuffled(0..RECORDS.len()).boxed(),
    ];
    let drafts = prop_oneof![
        3 => prop::collection::vec(draft.clone(), 1..=2),
        1 => prop::collection::vec(draft, 0..=4),
    ];
    let guards = prop_oneof![
        2 => Just(Vec::new()).boxed(),
        1 => prop::collection::vec(base(), 1..=2).boxed(),
    ];
    (records, drafts, guards).prop_map(|(records, drafts, guards)| {
        let mut records = records.into_iter();
        let mut writes = Vec::new();
        for (base, ciphertext, deleted, empty) in drafts {
            let ciphertext = if deleted && empty { Vec::new() } else { ciphertext };
            let record = records.next().expect("there are more records than drafts");
            writes.push(Draft { record, base, ciphertext, deleted });
        }
        // A push without operations has no guards.
        let guards = if writes.is_empty() { Vec::new() } else { records.zip(guards).collect() };
        DraftBatch { writes, guards }
    })
}

pub(crate) fn context() -> impl Strategy<Value = Context> {
    let epoch = prop_oneof![
        16 => Just(NamedEpoch::None),
        8 => Just(NamedEpoch::Current),
        2 => Just(NamedEpoch::Older),
        1 => Just(NamedEpoch::OfAnotherVault),
        1 => Just(NamedEpoch::Unknown),
    ];
    let since = prop_oneof![
        1 => Just(Since::None),
        1 => (-2_i64..=2).prop_map(Since::NearPurged),
    ];
    let time = prop_oneof![
        5 => Just(0),
        4 => 1_i64..20,
        3 => 0..3 * MINUTE,
        2 => -HOUR..0,
        1 => 0..3 * HOUR,
        1 => 0..2 * DAY,
    ];
    (vault(), epoch, since, time).prop_map(|(vault, epoch, since, time)| Context {
        vault,
        epoch,
        since,
        time,
    })
}

/// Most steps are about one vault, so that much happens to it.
pub(crate) fn vault() -> impl Strategy<Value = usize> {
    prop_oneof![9 => Just(0), 3 => Just(1), 1 => Just(2), 1 => Just(3)]
}

impl VaultModel {
    /// The batch of a client that knows the vault's current versions.
    pub(crate) fn batch(&self, draft: &DraftBatch) -> Batch {
        let guards = draft.guards.iter().map(|&(record, version)| self.guard(record, version));
        Batch {
            writes: draft.writes.iter().map(|draft| self.write(draft)).collect(),
            guards: guards.collect(),
        }
    }

    pub(crate) fn guard(&self, record: usize, version: Base) -> (String, i64) {
        let id = RECORDS[record];
        (id.to_owned(), self.base(id, version).unwrap_or(0))
    }

    fn write(&self, draft: &Draft) -> Write {
        Write {
            id: RECORDS[draft.record].to_owned(),
            base: self.base(RECORDS[draft.record], draft.base),
            ciphertext: draft.ciphertext.clone(),
            deleted: draft.deleted,
        }
    }

    fn base(&self, id: &str, base: Base) -> Option<i64> {
        let current = self.records.get(id).map_or(0, RecordModel::version);
        match base {
            Base::Null => None,
            // For a record that the server does not have, a client sends `null`.
            Base::Relative(0) if current == 0 => None,
            Base::Relative(offset) => Some((current + offset).max(0)),
            Base::Absolute(version) => Some(version),
        }
    }

    pub(crate) fn since(&self, since: Since) -> Option<i64> {
        match since {
            Since::None => None,
            Since::NearPurged(offset) => self.purged_at.or(self.clock).map(|at| at + offset),
        }
    }
}

/// The next version of the second record.
pub(crate) fn another_version() -> DraftBatch {
    of_one(Draft { record: 1, base: Base::Relative(0), ciphertext: vec![4], deleted: false })
}

/// The next version of a record is a tombstone.
pub(crate) fn deletion(record: usize) -> DraftBatch {
    of_one(Draft { record, base: Base::Relative(0), ciphertext: Vec::new(), deleted: true })
}

/// The next versions of all records that exist.
pub(crate) fn rewrite(
    vault: &VaultModel,
    bytes: usize,
    every_other_is_deleted: bool,
) -> DraftBatch {
    let exists = |record: &usize| vault.records.contains_key(RECORDS[*record]);
    let writes = (0..RECORDS.len()).filter(exists).enumerate().map(|(index, record)| {
        let ciphertext = vec![5; bytes];
        let deleted = every_other_is_deleted && index % 2 == 0;
        Draft { record, base: Base::Relative(0), ciphertext, deleted }
    });
    DraftBatch { writes: writes.collect(), guards: Vec::new() }
}

fn of_one(write: Draft) -> DraftBatch {
    DraftBatch { writes: vec![write], guards: Vec::new() }
}
