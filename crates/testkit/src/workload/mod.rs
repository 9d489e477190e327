//! Clients that write and follow vaults at random, and write down what they see.
//!
//! They reach a server as a [`Service`]: a [`Store`](vaultsync_store::Store) in this process, nodes
//! by their addresses, or whatever a test makes up. What a client draws depends on its seed alone, so
//! that a service that is run step by step gives the same history each time.
//!
//! Not here: any judgement; see [`history`](crate::history).

mod follower;
mod http;
mod store;
mod writer;

use std::sync::Arc;

use vaultsync_protocol::Operation;

pub use follower::Follower;
pub use http::HttpService;
pub use store::{StoreService, state};
pub use writer::{Load, Writer};

use crate::history::{Outcome, Recorder};

/// A server, as one client of one user reaches it.
///
/// An error is an answer that no server should give, in words: the client records the outcome as
/// unknown, and ends.
pub trait Service: Send {
    /// Sends a push once.
    fn push(
        &mut self,
        operations: &[Operation],
    ) -> impl Future<Output = Result<Outcome, String>> + Send;

    /// Sends a pull once. With `wait`, an empty page may be held back until there is news.
    fn pull(
        &mut self,
        cursor: Option<i64>,
        limit: usize,
        wait: bool,
    ) -> impl Future<Output = Result<Outcome, String>> + Send;

    /// Lets some time pass before a request is sent again.
    fn pause(&mut self) -> impl Future<Output = ()> + Send;
}

/// Who a client is, and where it writes down what it does.
#[derive(Clone, Debug)]
pub struct Device {
    /// The history that it is part of.
    pub recorder: Recorder,
    /// Whose it is.
    pub user: Arc<str>,
    /// What it is called; no other one of the user is.
    pub name: Arc<str>,
}
