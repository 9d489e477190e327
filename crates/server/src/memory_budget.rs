//! Memory budget for request and response bodies in flight, of the whole server and of each user.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use vaultsync_store::{ReadBudget, UserId};

use crate::Limits;

/// The part of each budget that bodies may hold that are slow to arrive: a quarter. They hold their
/// memory for minutes, and the rest must stay for others.
const SLOW_PART: usize = 4;

/// Bytes of a record in a response besides its ciphertext: its id and the other members.
const RECORD_BYTES: usize = 512;

/// The budget. A request that exceeds it is refused at once and does not wait: the client retries.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes_max: usize,
    bytes_per_user_max: usize,
    reserved: Mutex<Reserved>,
}

/// Reserved memory.
#[derive(Debug, Default)]
struct Reserved {
    total: Bytes,
    /// By user; a user without a reservation has no entry.
    by_user: HashMap<UserId, Bytes>,
}

/// Reserved memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes {
    all: usize,
    /// Those of `all` that belong to slow bodies.
    slow: usize,
}

/// Which budget is exceeded. Nothing was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BudgetExceeded {
    /// The budget of the whole server.
    Server,
    /// The budget of this user, who does not read responses, say, or sends bodies and stalls.
    User,
    /// The part of either budget for slow bodies.
    SlowBodies,
}

impl MemoryBudget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Inner {
            bytes_max: limits.memory_bytes_max,
            bytes_per_user_max: limits.memory_bytes_per_user_max,
            reserved: Mutex::default(),
        }))
    }

    /// Bytes reserved by all users.
    pub(crate) fn reserved_bytes(&self) -> usize {
        self.reserved().total.all
    }

    /// An empty reservation, to be grown.
    pub(crate) fn reserve(&self, user: UserId) -> Reservation {
        Reservation { memory: self.clone(), user, bytes: 0, is_slow: false }
    }

    /// The budget of a page that is about to be read.
    pub(crate) fn page_budget(&self, user: UserId) -> PageBudget {
        PageBudget { reservation: self.reserve(user), bytes: 0, exceeded: None }
    }

    fn reserved(&self) -> MutexGuard<'_, Reserved> {
        // No code in this file panics between two updates that belong together.
        self.0.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, user: UserId, bytes: usize, is_slow: bool) -> Result<(), BudgetExceeded> {
        let mut reserved = self.reserved();
        let of_user = reserved.by_user.get(&user).copied().unwrap_or_default();
        if bytes > self.0.bytes_per_user_max.saturating_sub(of_user.all) {
            return Err(BudgetExceeded::User);
        }
        if bytes > self.0.bytes_max.saturating_sub(reserved.total.all) {
            return Err(BudgetExceeded::Server);
        }
        if is_slow {
            self.check_slow(reserved.total, of_user, bytes)?;
        }
        let slow = if is_slow { bytes } else { 0 };
        reserved.total.all += bytes;
        reserved.total.slow += slow;
        let of_user = Bytes { all: of_user.all + bytes, slow: of_user.slow + slow };
        reserved.by_user.insert(user, of_user);
        Ok(())
    }

    /// Makes that many reserved bytes part of what slow bodies hold.
    fn mark_slow(&self, user: UserId, bytes: usize) -> Result<(), BudgetExceeded> {
        let mut reserved = self.reserved();
        let of_user = reserved.by_user.get(&user).copied().unwrap_or_default();
        self.check_slow(reserved.total, of_user, bytes)?;
        reserved.total.slow += bytes;
        // An empty reservation has no entry, and needs none.
        if let Some(of_user) = reserved.by_user.get_mut(&user) {
            of_user.slow += bytes;
        }
        Ok(())
    }

    fn check_slow(&self, total: Bytes, of_user: Bytes, bytes: usize) -> Result<(), BudgetExceeded> {
        let has_room = |bytes_max: usize, reserved: Bytes| {
            bytes <= (bytes_max / SLOW_PART).saturating_sub(reserved.slow)
        };
        if has_room(self.0.bytes_max, total) && has_room(self.0.bytes_per_user_max, of_user) {
            Ok(())
        } else {
            Err(BudgetExceeded::SlowBodies)
        }
    }

    fn give_back(&self, user: UserId, bytes: usize, is_slow: bool) {
        let slow = if is_slow { bytes } else { 0 };
        let mut reserved = self.reserved();
        reserved.total.all -= bytes;
        reserved.total.slow -= slow;
        if let Entry::Occupied(mut of_user) = reserved.by_user.entry(user) {
            let left = of_user.get_mut();
            left.all -= bytes;
            left.slow -= slow;
            if left.all == 0 {
                of_user.remove();
            }
        }
    }
}

/// A guard of reserved memory, which is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    memory: MemoryBudget,
    user: UserId,
    bytes: usize,
    is_slow: bool,
}

impl Reservation {
    /// Grows the reservation to at least `bytes`. On an error it keeps its size.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        let missing = bytes.saturating_sub(self.bytes);
        if missing > 0 {
            self.memory.take(self.user, missing, self.is_slow)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// Counts the reservation, and what it grows by, as that of a body that is slow to arrive. On an
    /// error it is not counted so.
    pub(crate) fn mark_slow(&mut self) -> Result<(), BudgetExceeded> {
        if !self.is_slow {
            self.memory.mark_slow(self.user, self.bytes)?;
            self.is_slow = true;
        }
        Ok(())
    }

    /// Counts the reservation as any other again: the body has arrived.
    pub(crate) fn unmark_slow(&mut self) {
        if std::mem::take(&mut self.is_slow) {
            let mut reserved = self.memory.reserved();
            reserved.total.slow -= self.bytes;
            if let Some(of_user) = reserved.by_user.get_mut(&self.user) {
                of_user.slow -= self.bytes;
            }
        }
    }

    /// Gives back what exceeds `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes);
        if spare > 0 {
            self.memory.give_back(self.user, spare, self.is_slow);
            self.bytes = bytes;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

/// Memory of a record that is held both as read and as encoded: its ciphertext, four thirds of that
/// as base64, and the other members.
pub(crate) const fn record_bytes(ciphertext_bytes: usize) -> usize {
    ciphertext_bytes.saturating_mul(7) / 3 + RECORD_BYTES
}

/// Step in which a page's reservation grows. Growing for each record took a tenth of the time of a
/// page of small records.
const PAGE_STEP_BYTES: usize = 64 * 1024;

/// Memory of one page. It grows while the page is read, so that a small page reserves little.
#[derive(Debug)]
pub(crate) struct PageBudget {
    reservation: Reservation,
    bytes: usize,
    /// Why a record was refused. No record is granted after that: the store reads a page's first
    /// record even if it is refused, and a later grant would hide that the first one had no memory.
    exceeded: Option<BudgetExceeded>,
}

impl ReadBudget for PageBudget {
    fn take(&mut self, ciphertext_bytes: usize) -> bool {
        let bytes = self.bytes + record_bytes(ciphertext_bytes);
        if self.exceeded.is_none() {
            let rounded_up = bytes.next_multiple_of(PAGE_STEP_BYTES);
            match self.reservation.grow(rounded_up).or_else(|_| self.reservation.grow(bytes)) {
                Ok(()) => self.bytes = bytes,
                Err(exceeded) => self.exceeded = Some(exceeded),
            }
        }
        self.exceeded.is_none()
    }

    fn clear(&mut self) {
        self.reservation.shrink(0);
        (self.bytes, self.exceeded) = (0, None);
    }
}

impl PageBudget {
    /// The reservation of a page with that many records.
    ///
    /// Fails if the page has records and there was no memory for the first one.
    pub(crate) fn into_reservation(self, records: usize) -> Result<Reservation, BudgetExceeded> {
        match self.exceeded {
            Some(exceeded) if records > 0 && self.bytes == 0 => Err(exceeded),
            _ => Ok(self.reservation),
        }
    }
}

/// Memory of a push, given to the store: the body that was parsed, until the push has ended, and the conflicts
/// that are read, for as long as the route needs them.
#[derive(Debug)]
pub(crate) struct PushBudget {
    _body: Reservation,
    conflicts: ConflictBudget,
}

/// Memory of the conflicts of a push. The store grows it, and the route takes it when the store has returned.
#[derive(Clone, Debug)]
pub(crate) struct ConflictBudget(Arc<Mutex<PageBudget>>);

impl MemoryBudget {
    /// The budget of a push whose body is reserved.
    pub(crate) fn push_budget(&self, body: Reservation) -> (PushBudget, ConflictBudget) {
        let conflicts = ConflictBudget(Arc::new(Mutex::new(self.page_budget(body.user))));
        (PushBudget { _body: body, conflicts: conflicts.clone() }, conflicts)
    }
}

impl ConflictBudget {
    /// The reservation, once the store has returned the conflicts.
    ///
    /// Fails if there was no memory for the first one, so that the store did not read it.
    pub(crate) fn into_reservation(self) -> Result<Reservation, BudgetExceeded> {
        let mut budget = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = budget.reservation.memory.page_budget(budget.reservation.user);
        std::mem::replace(&mut *budget, empty).into_reservation(1)
    }
}

impl ReadBudget for PushBudget {
    fn take(&mut self, ciphertext_bytes: usize) -> bool {
        let mut conflicts = self.conflicts.0.lock().unwrap_or_else(PoisonError::into_inner);
        conflicts.take(ciphertext_bytes)
    }

    fn clear(&mut self) {
        self.conflicts.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use vaultsync_store::Vault;

    use super::*;

    const KIB: usize = 1024;

    fn user(name: &str) -> UserId {
        Vault::of("issuer", name).user()
    }

    /// A budget of 10 KiB, of which one user may reserve a part.
    fn memory(bytes_per_user_max: usize) -> MemoryBudget {
        MemoryBudget::new(&Limits {
            memory_bytes_max: 10 * KIB,
            memory_bytes_per_user_max: bytes_per_user_max,
            ..Limits::default()
        })
    }

    #[test]
    fn reserved_memory_is_unavailable_until_it_is_dropped() {
        let memory = memory(10 * KIB);
        let (ada, ben) = (user("ada"), user("ben"));
        let mut body = memory.reserve(ada);
        assert_eq!(body.grow(1), Ok(()));
        assert_eq!(body.grow(6 * KIB), Ok(()));
        assert_eq!(memory.reserved_bytes(), 6 * KIB);
        let mut response = memory.reserve(ben);
        assert_eq!(response.grow(5 * KIB), Err(BudgetExceeded::Server));
        body.shrink(5 * KIB);
        assert_eq!(response.grow(5 * KIB), Ok(()));
        drop((body, response));
        assert_eq!(memory.reserved_bytes(), 0);
        assert!(memory.reserved().by_user.is_empty(), "no entry without a reservation");
        assert_eq!(memory.reserve(ada).grow(10 * KIB), Ok(()));
        assert_eq!(memory.reserve(ada).grow(10 * KIB + 1), Err(BudgetExceeded::User));
    }

    #[test]
    fn one_user_cannot_use_up_the_budget() {
        let memory = memory(6 * KIB);
        let (ada, ben) = (user("ada"), user("ben"));
        let (mut first, mut second) = (memory.reserve(ada), memory.reserve(ada));
        assert_eq!(first.grow(4 * KIB), Ok(()));
        assert_eq!(second.grow(2 * KIB + 1), Err(BudgetExceeded::User));
        assert_eq!(second.grow(2 * KIB), Ok(()));
        let mut of_ben = memory.reserve(ben);
        assert_eq!(of_ben.grow(4 * KIB), Ok(()));
        assert_eq!(of_ben.grow(4 * KIB + 1), Err(BudgetExceeded::Server));
        drop(first);
        assert_eq!(second.grow(6 * KIB), Ok(()));
    }

    #[test]
    fn slow_bodies_leave_most_of_the_budget() {
        let memory = memory(8 * KIB);
        let [ada, ben, eve] = ["ada", "ben", "eve"].map(user);
        let slow = |user, bytes| {
            let mut body = memory.reserve(user);
            body.grow(bytes).unwrap();
            body.mark_slow().map(|()| body)
        };
        let mut of_ada = slow(ada, KIB).unwrap();
        assert_eq!(of_ada.grow(2 * KIB), Ok(()));
        assert_eq!(of_ada.grow(2 * KIB + 1), Err(BudgetExceeded::SlowBodies), "a quarter of 8 KiB");
        assert_eq!(slow(ada, 1).unwrap_err(), BudgetExceeded::SlowBodies);
        let of_ben = slow(ben, KIB / 2).unwrap();
        assert_eq!(slow(eve, 1).unwrap_err(), BudgetExceeded::SlowBodies, "a quarter of 10 KiB");
        assert_eq!(memory.reserve(eve).grow(7 * KIB), Ok(()), "others are not affected");
        of_ada.unmark_slow();
        let of_eve = slow(eve, KIB).unwrap();
        drop((of_ada, of_ben, of_eve));
        let reserved = memory.reserved();
        assert_eq!((reserved.total.all, reserved.total.slow), (0, 0));
        assert!(reserved.by_user.is_empty());
    }

    #[test]
    fn a_page_reserves_memory_in_steps() {
        let limits = Limits { memory_bytes_max: PAGE_STEP_BYTES + 5 * KIB, ..Limits::default() };
        let memory = MemoryBudget::new(&limits);
        let mut page = memory.page_budget(user("ada"));
        assert_eq!(memory.reserved_bytes(), 0);
        for _ in 0..3 {
            assert!(page.take(KIB));
            assert_eq!(memory.reserved_bytes(), PAGE_STEP_BYTES);
        }
        assert!(page.take(25 * KIB), "past the step, although a second one does not fit");
        assert_eq!(memory.reserved_bytes(), 3 * record_bytes(KIB) + record_bytes(25 * KIB));
        assert!(!page.take(KIB));
    }

    #[test]
    fn a_page_ends_when_the_budget_is_used_up() {
        let memory = memory(10 * KIB);
        let (ada, ben) = (user("ada"), user("ben"));
        let mut page = memory.page_budget(ada);
        assert!(page.take(3 * KIB));
        assert!(!page.take(3 * KIB));
        assert!(!page.take(100), "no record follows a refused one");
        let mut late = memory.page_budget(ben);
        assert!(!late.take(3 * KIB));
        assert!(!late.take(0));
        assert_eq!(
            late.into_reservation(1).unwrap_err(),
            BudgetExceeded::Server,
            "no memory for the first record"
        );
        assert!(memory.page_budget(ben).into_reservation(0).is_ok());
        page.clear();
        assert_eq!(memory.reserved_bytes(), 0, "the page is read again from its start");
        assert!(page.take(3 * KIB));
        drop(page.into_reservation(2));
        assert!(memory.page_budget(ben).take(3 * KIB));
    }

    #[test]
    fn conflicts_are_reserved_before_they_are_read_and_for_as_long_as_they_are_needed() {
        let memory = memory(10 * KIB);
        let ada = user("ada");
        let mut body = memory.reserve(ada);
        body.grow(KIB).unwrap();
        let (mut push, conflicts) = memory.push_budget(body);
        assert!(push.take(2 * KIB));
        assert!(!push.take(3 * KIB), "the second conflict does not fit");
        drop(push);
        assert_eq!(memory.reserved_bytes(), record_bytes(2 * KIB), "the body is free again");
        let response = conflicts.into_reservation().unwrap();
        assert_eq!(memory.reserved_bytes(), record_bytes(2 * KIB));
        drop(response);
        assert_eq!(memory.reserved_bytes(), 0);
        let (mut push, conflicts) = memory.push_budget(memory.reserve(ada));
        assert!(!push.take(5 * KIB));
        assert_eq!(conflicts.into_reservation().unwrap_err(), BudgetExceeded::User);
    }
}
