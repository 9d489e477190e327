//! Test kit of Vaultsync: servers, databases, keys and tokens, projects in Node, clients that generate load, and
//! the checker of their histories.
//!
//! Not here: the tests themselves.

pub mod clock;
#[cfg(unix)]
pub mod cluster;
mod consistency;
mod database;
pub mod forge;
pub mod history;
pub mod jwks_server;
pub mod node_project;
#[cfg(unix)]
pub mod process;
mod raw;
mod server;
#[cfg(unix)]
mod stored;
pub mod workload;

pub use clock::ManualClock;
pub use consistency::inconsistencies;
pub use database::{Backend, TestDatabase};
pub use raw::RawClient;
pub use server::{Answer, Setup, TestServer, operation, push_of, send};
#[cfg(unix)]
pub use stored::stored_in_postgres;
