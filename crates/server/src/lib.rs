//! The HTTP side of Vaultsync: sign-in, limits, routes.
//!
//! Not here: SQL (`vaultsync-store`), settings and their sources (`vaultsync`), any cryptography
//! that could open a record.

pub mod auth;
mod clock;
mod limits;

pub use clock::{Clock, SystemClock};
pub use limits::Limits;
