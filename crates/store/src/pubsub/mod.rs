//! Change notifications between processes that serve from one database.
//!
//! A notification only wakes waiters, which then read the database. So every part of this may fail: a lost
//! notification only delays.
//!
//! Not here: the waiters (`notifier.rs`).

mod inbox;
mod link_status;
mod message;
mod nats;
mod notify;
mod outbox;
mod relay;

pub(crate) use self::relay::Relay;
pub use self::{nats::NatsUrl, relay::PubsubBackend};
