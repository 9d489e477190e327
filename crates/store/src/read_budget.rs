//! The limit on how much a pull, or the conflicts of a push, read into memory.

/// Memory that a page or a list of conflicts is read into. A store asks it before it reads each record.
pub trait ReadBudget: Send + 'static {
    /// Takes memory for a record with that much ciphertext. If it returns false, the page or the list ends
    /// before the record. A page's first record is read in any case.
    fn take(&mut self, ciphertext_bytes: usize) -> bool;

    /// Returns all memory: the page is read again from its first record.
    fn clear(&mut self);
}

/// A budget without a limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unbounded;

impl ReadBudget for Unbounded {
    fn take(&mut self, _: usize) -> bool {
        true
    }

    fn clear(&mut self) {}
}

/// No reservation, and no limit.
impl ReadBudget for () {
    fn take(&mut self, _: usize) -> bool {
        true
    }

    fn clear(&mut self) {}
}
