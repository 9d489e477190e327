//! What the tests of Vaultsync share: real servers, real keys, real tokens.
//!
//! Not here: the tests themselves.

pub mod clock;
#[cfg(unix)]
pub mod cluster;
mod database;
pub mod forge;
pub mod history;
pub mod jwks_server;
mod raw;
mod server;
pub mod workload;

pub use clock::ManualClock;
pub use database::{Backend, TestDatabase};
pub use raw::RawClient;
pub use server::{Answer, Setup, TestServer, operation, push_of, send};
