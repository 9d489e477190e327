//! What a push and a pull are on the wire, and when they are valid.
//!
//! Not here: sockets, HTTP status codes, SQL, keys. Nothing in this crate waits or looks at a clock.

mod cursor;
mod epoch;
mod issue;
mod json;
mod pull;
mod push;
mod record;
mod timestamp;

pub use cursor::{Cursor, CursorError};
pub use epoch::{Epoch, KnownEpoch};
pub use issue::{Issue, Issues};
pub use pull::{PAGE_RECORDS_MAX, Page, Pull, WAIT_SECONDS_MAX};
pub use push::{Conflict, Operation, Push, PushError, Written};
pub use record::{Ciphertext, Record, RecordId, Version};
pub use timestamp::Timestamp;

/// The most operations one push may carry.
pub const OPERATIONS_MAX: usize = 100;
