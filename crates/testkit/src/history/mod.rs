//! What clients did and what they were told, one event a line; and whether the promises were kept.
//!
//! Clients write down the begin and the end of each request in a [`Recorder`]. The order of these
//! lines is all that is known of time: a request that ended before another began came before it, and
//! two that overlap may have come in either order. What the server holds in the end closes the
//! history. [`check`] then decides from the history alone, so that one judge serves a store in this
//! process, a cluster of built programs, and a file from another machine.
//!
//! Not here: the clients, and how the final state is read.

mod check;
mod event;
mod index;
mod recorder;

pub use check::{Counts, Promise, Violation, check};
pub use event::{Digest, Event, InTheWay, Outcome, ReadError, Request, Seen, Write, Written, read};
pub use index::{History, Malformed};
pub use recorder::Recorder;
