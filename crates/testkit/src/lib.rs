//! What the tests of Vaultsync share: real servers, real keys, real tokens.

mod server;

pub use server::{Answer, Setup, TestServer, operation, push_of, send};
