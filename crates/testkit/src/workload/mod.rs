//! Clients that write to and follow vaults at random, and record what they see.
//!
//! They reach a server through a [`Service`]: a [`Store`](vaultsync_store::Store) in this process, servers
//! at HTTP addresses, or a store that a test makes up. The choices of a client depend only on its seed, so
//! that a service that is run step by step gives the same history each time.
//!
//! Not here: the checks, see [`history`](crate::history).

mod client;
mod clients;
mod eraser;
mod follower;
mod http;
mod push_body;
mod store;
mod tally;
mod writer;

use vaultsync_protocol::{Guard, Operation};

pub use client::Client;
pub use clients::{Clients, local_token};
pub use eraser::Eraser;
pub use follower::Follower;
pub use http::{Addresses, HttpService};
pub use store::{StoreService, state};
pub use tally::{Tally, Totals};
pub use writer::{Writer, WriterConfig};

use crate::history::Outcome;

/// A push as a client sends it.
#[derive(Clone, Copy, Debug)]
pub struct PushRequest<'a> {
    /// The writes.
    pub operations: &'a [Operation],
    /// Conditions on records that it does not write.
    pub guards: &'a [Guard],
    /// The epoch that it names.
    pub epoch: Option<&'a str>,
}

/// A pull as a client sends it.
#[derive(Clone, Copy, Debug)]
pub struct PullRequest<'a> {
    /// Only later changes are requested, in milliseconds since 1970; `None` starts at the beginning.
    pub cursor: Option<i64>,
    /// Maximum number of records in the page.
    pub limit: usize,
    /// Whether the server may hold back an empty page until something changes.
    pub wait: bool,
    /// The epoch that it names.
    pub epoch: Option<&'a str>,
}

/// A server as one client of one vault reaches it.
///
/// An error describes a response that no server should give: the client records the outcome as unknown,
/// notes the fault, and stops.
pub trait Service: Send {
    /// Sends a push once.
    fn push(
        &mut self,
        push: PushRequest<'_>,
    ) -> impl Future<Output = Result<Outcome, String>> + Send;

    /// Sends a pull once.
    fn pull(
        &mut self,
        pull: PullRequest<'_>,
    ) -> impl Future<Output = Result<Outcome, String>> + Send;

    /// Asks once to erase the vault that has this epoch.
    fn erase(&mut self, epoch: &str) -> impl Future<Output = Result<Outcome, String>> + Send;

    /// Waits before a request is sent again.
    fn pause(&mut self) -> impl Future<Output = ()> + Send;
}
