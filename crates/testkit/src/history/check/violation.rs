//! What is said of a promise that was broken.

use std::{fmt, sync::Arc};

/// What a server promises, within one epoch of a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// I1: what was acknowledged, or shown to anybody, is there or was superseded.
    Durable,
    /// I2: a push is all or nothing.
    Atomic,
    /// I3: no version stands for two writes, none is left out, and each is on top of its base.
    Versions,
    /// I4: who follows the cursor skips nothing and ends with what the server has.
    Following,
    /// I5: `updated_at` is unique in its vault and rises in the order of commits.
    Order,
    /// I6: a push sent again after its 200 gets the same 200.
    Retries,
    /// I7: nobody is shown another's.
    Tenancy,
}

impl Promise {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Durable,
        Self::Atomic,
        Self::Versions,
        Self::Following,
        Self::Order,
        Self::Retries,
        Self::Tenancy,
    ];
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, promise) = match self {
            Self::Durable => ("I1", "what was acknowledged is never lost"),
            Self::Atomic => ("I2", "a push is all or nothing"),
            Self::Versions => ("I3", "each version is one write, without gaps"),
            Self::Following => ("I4", "no reader skips a record"),
            Self::Order => ("I5", "times are unique and rise"),
            Self::Retries => ("I6", "a push sent again is answered alike"),
            Self::Tenancy => ("I7", "nobody reads another's"),
        };
        write!(f, "{name} ({promise})")
    }
}

/// A promise that was broken, and how that shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// Whose vault.
    pub user: Arc<str>,
    /// The record that it shows in.
    pub record: Option<Arc<str>>,
    /// The operations that it shows in; none where the final state alone tells.
    pub operations: Vec<u64>,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promise, user, record, operations, what } = self;
        write!(f, "{promise}: {user}")?;
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
