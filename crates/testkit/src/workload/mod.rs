//! Clients that write to and follow vaults at random, and record what they see.
//!
//! They reach a server through a [`Service`]: a [`Store`](vaultsync_store::Store) in this process, servers
//! at HTTP addresses, or a store that a test makes up. The choices of a client depend only on its seed, so
//! that a service that is run step by step gives the same history each time.
//!
//! Not here: the checks, see [`history`](crate::history).

mod client;
mod clients;
mod follower;
mod http;
mod push_body;
mod store;
mod tally;
mod writer;

use vaultsync_protocol::Operation;

pub use client::Client;
pub use clients::{Clients, local_token};
pub use follower::Follower;
pub use http::{Addresses, HttpService};
pub use store::{StoreService, state};
pub use tally::{Tally, Totals};
pub use writer::{Writer, WriterConfig};

use crate::history::Outcome;

/// A server as one client of one user reaches it.
///
/// An error describes a response that no server should give: the client records the outcome as unknown,
/// notes the fault, and stops.
pub trait Service: Send {
    /// Sends a push once.
    fn push(
        &mut self,
        operations: &[Operation],
    ) -> impl Future<Output = Result<Outcome, String>> + Send;

    /// Sends a pull once. With `wait`, the server may hold back an empty page until something changes.
    fn pull(
        &mut self,
        cursor: Option<i64>,
        limit: usize,
        wait: bool,
    ) -> impl Future<Output = Result<Outcome, String>> + Send;

    /// Waits before a request is sent again.
    fn pause(&mut self) -> impl Future<Output = ()> + Send;
}
