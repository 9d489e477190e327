//! What a push and a pull are on the wire, and when they are valid.
//!
//! Not here: sockets, HTTP status codes, SQL, keys. Nothing in this crate waits or looks at a clock.

mod timestamp;

pub use timestamp::Timestamp;

/// The most operations one push may carry.
pub const OPERATIONS_MAX: usize = 100;
