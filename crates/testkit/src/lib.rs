//! What the tests of Vaultsync share: real servers, real keys, real tokens.
//!
//! Not here: the tests themselves.

pub mod clock;
pub mod forge;
pub mod jwks_server;

pub use clock::ManualClock;
