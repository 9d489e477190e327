//! The promises, and the report of one that was broken.

use std::{fmt, sync::Arc};

use crate::history::VaultLabel;

/// What a server promises. All but the last are about one epoch of a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// G1: a version that was acknowledged or returned exists or was superseded.
    Durable,
    /// G2: a push is all or nothing.
    Atomic,
    /// G3: each version is one write on top of its base version, and versions have no gaps.
    Versions,
    /// G4: a client that follows the cursor skips nothing and ends with the server's state.
    Following,
    /// G5: `updated_at` is unique in its vault and increases in commit order.
    Order,
    /// G6: a push sent again after its 200 gets the same 200.
    Retries,
    /// G7: no vault shows the content of another, of the same user or not.
    Tenancy,
    /// G9: a push with guards is applied only if each of them holds at that moment.
    Guards,
    /// G10: nothing of an erased epoch is returned, and no push that names it is acknowledged.
    Erasure,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, promise) = match self {
            Self::Durable => ("G1", "an acknowledged write is never lost"),
            Self::Atomic => ("G2", "a push is all or nothing"),
            Self::Versions => ("G3", "each version is one write, without gaps"),
            Self::Following => ("G4", "no reader skips a record"),
            Self::Order => ("G5", "times are unique and increase"),
            Self::Retries => ("G6", "a retry gets the same response"),
            Self::Tenancy => ("G7", "no vault shows another's content"),
            Self::Guards => ("G9", "a push is applied only if its guards hold"),
            Self::Erasure => ("G10", "an erased epoch is gone for ever"),
        };
        write!(f, "{name} ({promise})")
    }
}

/// A promise that was broken, and how that shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The broken promise.
    pub promise: Promise,
    /// The vault.
    pub vault: VaultLabel,
    /// The record in which it shows, if it is one record.
    pub record: Option<Arc<str>>,
    /// The operations in which it shows; empty if only the final state shows it.
    pub operations: Vec<u64>,
    /// A description.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promise, vault, record, operations, what } = self;
        write!(f, "{promise}: {vault}")?;
        if let Some(record) = record {
            write!(f, ", record {record}")?;
        }
        write!(f, ": {what}")?;
        match operations.as_slice() {
            [] => Ok(()),
            operations => write!(f, " (operations {operations:?})"),
        }
    }
}
