//! Where Vaultsync keeps ciphertext: the judging rule, and the databases.
//!
//! Not here: HTTP, JSON, who a caller is. SQL is nowhere else.

mod check_version;
mod notifier;
mod postgres;
mod pubsub;
mod pull;
mod push;
mod read_budget;
mod receipts;
mod sqlite;
mod store;
mod vault;

pub use check_version::{RecordState, WriteDecision, check_remembered, check_version};
pub use notifier::{ChangeNotifier, Subscription};
pub use postgres::{
    DatabaseUrl, PostgresOptions, distribute, hot_statements, joined_statements, migrate,
    pending_migrations,
};
pub use pubsub::{NatsUrl, PubsubBackend};
pub use read_budget::{ReadBudget, Unbounded};
pub use receipts::RECEIPTS_MAX;
pub use store::{OpenError, PullOutcome, PushOutcome, Refused, Store, StoreError, StoreOptions};
pub use vault::{Vault, VaultId};
