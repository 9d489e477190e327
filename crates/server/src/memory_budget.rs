//! How much memory bodies and answers in flight may take: all together, and those of one user.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use vaultsync_store::{ReadBudget, VaultId};

use crate::Limits;

/// What a record takes in an answer beside its ciphertext: its id and the other members.
const RECORD_BYTES: usize = 512;

/// The memory there is. Nobody waits for it: where there is none left, the request is refused, and
/// the client comes back.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes_max: usize,
    bytes_per_user_max: usize,
    taken: Mutex<Taken>,
}

/// What is reserved, in bytes.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Of each user who has any.
    by_user: HashMap<VaultId, usize>,
}

/// Why nothing was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BudgetExceeded {
    /// All together hold too much.
    Server,
    /// This user does: by not reading answers, say, or by sending bodies and stalling.
    User,
}

impl MemoryBudget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Inner {
            bytes_max: limits.memory_bytes_max,
            bytes_per_user_max: limits.memory_bytes_per_user_max,
            taken: Mutex::default(),
        }))
    }

    /// How much of it is reserved.
    pub(crate) fn bytes_taken(&self) -> usize {
        self.taken().all
    }

    /// A reservation of nothing yet.
    pub(crate) fn reserve(&self, user: VaultId) -> Reservation {
        Reservation { memory: self.clone(), user, bytes: 0 }
    }

    /// Room for a page that is about to be read.
    pub(crate) fn room(&self, user: VaultId) -> PageBudget {
        PageBudget { reservation: self.reserve(user), bytes: 0, lack: None }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing in this file panics between two numbers that belong together.
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, user: VaultId, bytes: usize) -> Result<(), BudgetExceeded> {
        let mut taken = self.taken();
        let users = taken.by_user.get(&user).copied().unwrap_or(0);
        if bytes > self.0.bytes_per_user_max.saturating_sub(users) {
            return Err(BudgetExceeded::User);
        }
        if bytes > self.0.bytes_max.saturating_sub(taken.all) {
            return Err(BudgetExceeded::Server);
        }
        taken.all += bytes;
        taken.by_user.insert(user, users + bytes);
        Ok(())
    }

    fn give_back(&self, user: VaultId, bytes: usize) {
        let mut taken = self.taken();
        taken.all -= bytes;
        if let Entry::Occupied(mut users) = taken.by_user.entry(user) {
            *users.get_mut() -= bytes;
            if *users.get() == 0 {
                users.remove();
            }
        }
    }
}

/// A part of the memory, given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    memory: MemoryBudget,
    user: VaultId,
    bytes: usize,
}

impl Reservation {
    /// Adds to it until it covers `bytes`; nothing is added where there is not that much left.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        let missing = bytes.saturating_sub(self.bytes);
        if missing > 0 {
            self.memory.take(self.user, missing)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// Gives back what is not needed for `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes);
        if spare > 0 {
            self.memory.give_back(self.user, spare);
            self.bytes = bytes;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// What a record takes while it is in memory as it was read and as it is answered: its ciphertext,
/// four thirds of that as base64, and the rest.
pub(crate) const fn record_bytes(ciphertext_bytes: usize) -> usize {
    ciphertext_bytes.saturating_mul(7) / 3 + RECORD_BYTES
}

/// By how much a page's memory grows at once: to ask for each record was a tenth of the time of a page of
/// small ones.
const PAGE_STEP_BYTES: usize = 64 * 1024;

/// The memory of a page: taken as the page is read, so that a small page takes little.
#[derive(Debug)]
pub(crate) struct PageBudget {
    reservation: Reservation,
    bytes: usize,
    /// Why a record was refused. Nothing is granted after that: the first record is read all the
    /// same, and a later one must not make it look as if it had room.
    lack: Option<BudgetExceeded>,
}

impl ReadBudget for PageBudget {
    fn take(&mut self, ciphertext_bytes: usize) -> bool {
        let bytes = self.bytes + record_bytes(ciphertext_bytes);
        if self.lack.is_none() {
            let ahead = bytes.next_multiple_of(PAGE_STEP_BYTES);
            match self.reservation.grow(ahead).or_else(|_| self.reservation.grow(bytes)) {
                Ok(()) => self.bytes = bytes,
                Err(lack) => self.lack = Some(lack),
            }
        }
        self.lack.is_none()
    }

    fn clear(&mut self) {
        self.reservation.shrink(0);
        (self.bytes, self.lack) = (0, None);
    }
}

impl PageBudget {
    /// The memory of a page with that many records, where there was some for its first.
    pub(crate) fn into_reservation(self, records: usize) -> Result<Reservation, BudgetExceeded> {
        match self.lack {
            Some(lack) if records > 0 && self.bytes == 0 => Err(lack),
            _ => Ok(self.reservation),
        }
    }
}

#[cfg(test)]
mod tests {
    use vaultsync_store::Vault;

    use super::*;

    const KIB: usize = 1024;

    fn user(name: &str) -> VaultId {
        Vault::of("issuer", name).id()
    }

    /// MemoryBudget for 10 KiB, of which a user may take a part.
    fn memory(bytes_per_user_max: usize) -> MemoryBudget {
        let memory_bytes_max = 10 * KIB;
        let memory_bytes_per_user_max = bytes_per_user_max;
        MemoryBudget::new(&Limits {
            memory_bytes_max,
            memory_bytes_per_user_max,
            ..Limits::default()
        })
    }

    #[test]
    fn what_is_reserved_is_missing_until_it_is_dropped() {
        let memory = memory(10 * KIB);
        let (ada, ben) = (user("ada"), user("ben"));
        let mut body = memory.reserve(ada);
        assert_eq!(body.grow(1), Ok(()));
        assert_eq!(body.grow(6 * KIB), Ok(()));
        assert_eq!(memory.bytes_taken(), 6 * KIB);
        let mut answer = memory.reserve(ben);
        assert_eq!(answer.grow(5 * KIB), Err(BudgetExceeded::Server));
        body.shrink(5 * KIB);
        assert_eq!(answer.grow(5 * KIB), Ok(()));
        drop((body, answer));
        assert_eq!(memory.bytes_taken(), 0);
        assert!(memory.taken().by_user.is_empty(), "nobody is remembered who has nothing");
        assert_eq!(memory.reserve(ada).grow(10 * KIB), Ok(()));
        assert_eq!(memory.reserve(ada).grow(10 * KIB + 1), Err(BudgetExceeded::User));
    }

    #[test]
    fn a_user_leaves_some_to_others() {
        let memory = memory(6 * KIB);
        let (ada, ben) = (user("ada"), user("ben"));
        let (mut first, mut second) = (memory.reserve(ada), memory.reserve(ada));
        assert_eq!(first.grow(4 * KIB), Ok(()));
        assert_eq!(second.grow(2 * KIB + 1), Err(BudgetExceeded::User));
        assert_eq!(second.grow(2 * KIB), Ok(()));
        let mut others = memory.reserve(ben);
        assert_eq!(others.grow(4 * KIB), Ok(()));
        assert_eq!(others.grow(4 * KIB + 1), Err(BudgetExceeded::Server));
        drop(first);
        assert_eq!(second.grow(6 * KIB), Ok(()));
    }

    #[test]
    fn a_page_takes_its_memory_in_steps() {
        let limits = Limits { memory_bytes_max: PAGE_STEP_BYTES + 5 * KIB, ..Limits::default() };
        let memory = MemoryBudget::new(&limits);
        let mut room = memory.room(user("ada"));
        assert_eq!(memory.bytes_taken(), 0);
        for _ in 0..3 {
            assert!(room.take(KIB));
            assert_eq!(memory.bytes_taken(), PAGE_STEP_BYTES);
        }
        assert!(room.take(25 * KIB), "past the step, where there is no second one");
        assert_eq!(memory.bytes_taken(), 3 * record_bytes(KIB) + record_bytes(25 * KIB));
        assert!(!room.take(KIB));
    }

    #[test]
    fn a_page_ends_where_memory_does() {
        let memory = memory(10 * KIB);
        let (ada, ben) = (user("ada"), user("ben"));
        let mut room = memory.room(ada);
        assert!(room.take(3 * KIB));
        assert!(!room.take(3 * KIB));
        assert!(!room.take(100), "what comes after the end is not on the page");
        let mut late = memory.room(ben);
        assert!(!late.take(3 * KIB));
        assert!(!late.take(0));
        assert_eq!(
            late.into_reservation(1).unwrap_err(),
            BudgetExceeded::Server,
            "a first without room"
        );
        assert!(memory.room(ben).into_reservation(0).is_ok());
        room.clear();
        assert_eq!(memory.bytes_taken(), 0, "a page that is read anew");
        assert!(room.take(3 * KIB));
        drop(room.into_reservation(2));
        assert!(memory.room(ben).take(3 * KIB));
    }
}
