//! The reference model of what is removed: replaced versions, tombstones, and erased vaults.

use std::collections::BTreeMap;

use crate::{
    record::DAY,
    reference::{Status, VaultModel},
};

/// What one run of gc removes. The ages are in days.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gc {
    pub(crate) history_days: i64,
    /// 0 keeps tombstones for ever.
    pub(crate) tombstone_days: i64,
    pub(crate) now: i64,
    pub(crate) dry_run: bool,
}

/// Rows and bytes that were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Removed {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl Removed {
    fn add(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
    }
}

/// What a run of gc has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct GcCounts {
    pub(crate) tombstones: Removed,
    pub(crate) versions: Removed,
}

impl VaultModel {
    /// Removes what is old, and adds it to the counts.
    pub(crate) fn gc(&mut self, gc: Gc, counts: &mut GcCounts) {
        for record in self.records.values_mut() {
            let expired = record.expired(gc.history_days, gc.now);
            for number in &expired {
                counts.versions.add(record.versions[number - 1].ciphertext.len());
            }
            if !gc.dry_run {
                record.forget(&expired);
            }
        }
        if gc.tombstone_days == 0 {
            return;
        }
        let before = gc.now - gc.tombstone_days * DAY;
        let old = self.records.iter().filter(|(id, record)| {
            let current = record.current();
            let is_old = current.written_at.max(current.updated_at) < before;
            current.deleted && is_old && !id.starts_with("vaultsync.")
        });
        let old: BTreeMap<_, _> =
            old.map(|(id, record)| (id.clone(), record.current().clone())).collect();
        for (id, tombstone) in old {
            counts.tombstones.add(tombstone.ciphertext.len());
            if !gc.dry_run {
                self.records.remove(&id);
                self.purged_at = self.purged_at.max(Some(tombstone.updated_at));
                self.receipts.clear();
                self.has_removed = true;
            }
        }
    }

    /// Erases the vault if it has this epoch. Returns whether the epoch is erased now.
    pub(crate) fn erase(&mut self, generation: usize) -> bool {
        if self.current_epoch() != Some(generation) {
            return generation < self.epochs;
        }
        self.records.clear();
        self.receipts.clear();
        self.purged_at = None;
        self.clock = self.clock.map(|clock| clock + 1);
        self.status = Status::Erasing;
        self.has_removed = true;
        true
    }

    /// Removes the rows of the vault if it is being erased. Returns whether it was.
    pub(crate) fn finish_erasure(&mut self) -> bool {
        let is_erasing = self.status == Status::Erasing;
        if is_erasing {
            self.status = Status::Erased;
        }
        is_erasing
    }
}
