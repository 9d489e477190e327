//! How much more may be read.

/// Memory that a page is read into. It is asked before each record.
pub trait ReadBudget: Send + 'static {
    /// Takes room for a record with that much ciphertext; false where there is none left, and then
    /// the page ends before it. A page's first record is read all the same.
    fn take(&mut self, ciphertext_bytes: usize) -> bool;

    /// Gives back what was taken: the page is read anew from its first record.
    fn clear(&mut self);
}

/// As much room as a page can have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unbounded;

impl ReadBudget for Unbounded {
    fn take(&mut self, _: usize) -> bool {
        true
    }

    fn clear(&mut self) {}
}
