//! Where Vaultsync keeps ciphertext: the judging rule, and the databases.
//!
//! Not here: HTTP, JSON, who a caller is. SQL is nowhere else.

mod heads;
mod hints;
mod judge;
mod postgres;
mod pull;
mod push;
mod receipts;
mod room;
mod sqlite;
mod store;
mod vault;

pub use heads::{HeadListener, Heads};
pub use hints::{HintsVia, NatsUrl};
pub use judge::{Head, Verdict, judge, judge_remembered};
pub use postgres::{
    DatabaseUrl, PostgresOptions, distribute, hot_statements, joined_statements, migrate,
    pending_migrations,
};
pub use receipts::RECEIPTS_MAX;
pub use room::{Room, Unbounded};
pub use store::{OpenError, PullOutcome, PushOutcome, Refused, Store, StoreError, StoreOptions};
pub use vault::{Vault, VaultId};
