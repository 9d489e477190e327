//! Histories: what clients requested and what the server returned, one event per line, and a checker of
//! the promises.
//!
//! Clients record the begin and the end of each request in a [`Recorder`]. The order of these events is the
//! only notion of time: a request that ended before another began happened before it, and two requests that
//! overlap may have happened in either order. The final state of each vault closes the history. [`check`]
//! decides from the history alone, so the same checker serves a store in this process, a cluster of built
//! servers, and a file from another machine.
//!
//! Not here: the clients, and how the final state is read.

mod check;
mod epochs;
mod event;
mod index;
mod indexer;
mod recorder;

pub use check::{Counts, Promise, Violation, check};
pub use event::{
    ConflictEntry, Digest, Event, GuardView, Outcome, ReadError, RecordView, Request, VaultLabel,
    Write, WriteResult, read,
};
pub use index::History;
pub use indexer::Malformed;
pub use recorder::Recorder;
