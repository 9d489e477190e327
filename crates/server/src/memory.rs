//! How much memory bodies and answers in flight may take together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vaultsync_store::Room;

/// What one permit stands for: a semaphore counts in 32 bits at a time, and bytes do not need to be
/// told apart.
const UNIT_BYTES: usize = 1024;

/// What a record takes in an answer beside its ciphertext: its id and the other members.
const RECORD_BYTES: usize = 512;

/// What the log says of a request that found none left.
pub(crate) const NO_MEMORY: &str = "no memory is left for bodies and answers";

/// The memory there is. Nobody waits for it: where there is none left, the request is refused, and
/// the client comes back.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    free: Arc<Semaphore>,
    units_max: usize,
}

/// A part of it, given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Reservation(Option<OwnedSemaphorePermit>);

impl Memory {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let units_max = (bytes_max / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(units_max)), units_max }
    }

    /// How much of it is reserved.
    pub(crate) fn bytes_taken(&self) -> usize {
        self.units_max.saturating_sub(self.free.available_permits()).saturating_mul(UNIT_BYTES)
    }

    /// Adds to a reservation until it covers `bytes`; false where there is not that much left.
    pub(crate) fn grow(&self, reservation: &mut Reservation, bytes: usize) -> bool {
        let missing = bytes.div_ceil(UNIT_BYTES).saturating_sub(reservation.units());
        let Ok(missing) = u32::try_from(missing) else { return false };
        if missing == 0 {
            return true;
        }
        let Ok(more) = Arc::clone(&self.free).try_acquire_many_owned(missing) else { return false };
        match &mut reservation.0 {
            Some(permit) => permit.merge(more),
            None => reservation.0 = Some(more),
        }
        true
    }

    /// Room for a page that is about to be read.
    pub(crate) fn room(&self) -> PageRoom {
        let reservation = Reservation::default();
        PageRoom { memory: self.clone(), reservation, bytes: 0, is_full: false }
    }
}

impl Reservation {
    /// Gives back what is not needed for `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let spare = self.units().saturating_sub(bytes.div_ceil(UNIT_BYTES));
        if let Some(permit) = &mut self.0 {
            drop(permit.split(spare));
        }
    }

    fn units(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

/// What a record takes while it is in memory as it was read and as it is answered: its ciphertext,
/// four thirds of that as base64, and the rest.
pub(crate) const fn record_bytes(ciphertext_bytes: usize) -> usize {
    ciphertext_bytes.saturating_mul(7) / 3 + RECORD_BYTES
}

/// The memory of a page: taken as the page is read, so that a small page takes little.
#[derive(Debug)]
pub(crate) struct PageRoom {
    memory: Memory,
    reservation: Reservation,
    bytes: usize,
    /// Whether a record was refused. Nothing is granted after that: the first record is read all the
    /// same, and a later one must not make it look as if it had room.
    is_full: bool,
}

impl Room for PageRoom {
    fn take(&mut self, ciphertext_bytes: usize) -> bool {
        let bytes = self.bytes + record_bytes(ciphertext_bytes);
        self.is_full = self.is_full || !self.memory.grow(&mut self.reservation, bytes);
        if !self.is_full {
            self.bytes = bytes;
        }
        !self.is_full
    }

    fn clear(&mut self) {
        self.reservation = Reservation::default();
        (self.bytes, self.is_full) = (0, false);
    }
}

impl PageRoom {
    /// The memory of a page with that many records; `None` where there was none for its first.
    pub(crate) fn into_reservation(self, records: usize) -> Option<Reservation> {
        (records == 0 || self.bytes > 0).then_some(self.reservation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_missing_until_it_is_dropped() {
        let memory = Memory::new(10 * UNIT_BYTES);
        let mut body = Reservation::default();
        assert!(memory.grow(&mut body, 1));
        assert!(memory.grow(&mut body, 6 * UNIT_BYTES));
        assert_eq!(memory.bytes_taken(), 6 * UNIT_BYTES);
        let mut answer = Reservation::default();
        assert!(!memory.grow(&mut answer, 5 * UNIT_BYTES));
        body.shrink(5 * UNIT_BYTES);
        assert!(memory.grow(&mut answer, 5 * UNIT_BYTES));
        drop((body, answer));
        assert_eq!(memory.bytes_taken(), 0);
        assert!(memory.grow(&mut Reservation::default(), 10 * UNIT_BYTES));
        assert!(!memory.grow(&mut Reservation::default(), 11 * UNIT_BYTES));
    }

    #[test]
    fn a_page_ends_where_memory_does() {
        let memory = Memory::new(10 * UNIT_BYTES);
        let mut room = memory.room();
        assert!(room.take(3 * 1024));
        assert!(!room.take(3 * 1024));
        assert!(!room.take(100), "what comes after the end is not on the page");
        let mut late = memory.room();
        assert!(!late.take(3 * 1024));
        assert!(!late.take(0));
        assert!(late.into_reservation(1).is_none(), "a first record without room");
        assert!(memory.room().into_reservation(0).is_some());
        room.clear();
        assert_eq!(memory.bytes_taken(), 0, "a page that is read anew");
        assert!(room.take(3 * 1024));
        drop(room.into_reservation(2));
        assert!(memory.room().take(3 * 1024));
    }
}
