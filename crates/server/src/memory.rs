//! How much memory bodies and answers in flight may take together.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for: a semaphore counts in 32 bits at a time, and bytes do not need to be
/// told apart.
const UNIT_BYTES: usize = 1024;

/// How long an answer waits for memory. An overloaded server is to say so within a second.
const PATIENCE: Duration = Duration::from_millis(500);

/// The memory there is.
pub(crate) struct Memory {
    free: Arc<Semaphore>,
    units_max: usize,
}

/// A part of it, given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Reservation {
    permit: Option<OwnedSemaphorePermit>,
}

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
        match &mut reservation.permit {
            Some(permit) => permit.merge(more),
            None => reservation.permit = Some(more),
        }
        true
    }

    /// Reserves `bytes`, or all there is where that is less, waiting a moment for others to finish;
    /// `None` where they do not.
    pub(crate) async fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let units = bytes.div_ceil(UNIT_BYTES).min(self.units_max);
        let units = u32::try_from(units).ok()?;
        let permit =
            tokio::time::timeout(PATIENCE, Arc::clone(&self.free).acquire_many_owned(units));
        Some(Reservation { permit: Some(permit.await.ok()?.ok()?) })
    }
}

impl Reservation {
    /// Gives back what is not needed for `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let spare = self.units().saturating_sub(bytes.div_ceil(UNIT_BYTES));
        if let Some(permit) = &mut self.permit {
            drop(permit.split(spare));
        }
    }

    fn units(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_reserved_is_missing_until_it_is_dropped() {
        let memory = Memory::new(10 * UNIT_BYTES);
        let mut body = Reservation::default();
        assert!(memory.grow(&mut body, 1));
        assert!(memory.grow(&mut body, 6 * UNIT_BYTES));
        assert_eq!(memory.bytes_taken(), 6 * UNIT_BYTES);
        assert!(!memory.grow(&mut Reservation::default(), 5 * UNIT_BYTES));
        assert!(memory.reserve(5 * UNIT_BYTES).await.is_none());
        body.shrink(5 * UNIT_BYTES);
        let answer = memory.reserve(5 * UNIT_BYTES).await.unwrap();
        drop((body, answer));
        assert_eq!(memory.bytes_taken(), 0);
        assert!(memory.reserve(99 * UNIT_BYTES).await.is_some(), "more than all is all");
    }
}
