//! Storage of ciphertext: the decision on a push, and the databases. All SQL is in this crate.
//!
//! | | |
//! | --- | --- |
//! | `store.rs`, `store_error.rs` | the use cases, and the contract of every backend |
//! | `push_plan.rs`, `check_version.rs`, `receipts.rs`, `counters.rs`, `quotas.rs` | the decision on a push, for every backend |
//! | `history.rs` | which replaced versions are kept, for every backend |
//! | `pull.rs` | what the vault's head alone decides about a pull |
//! | `records.rs`, `manifest.rs`, `history_page.rs` | where a response with records by id, or a page of a manifest or of versions, ends |
//! | `revisions.rs` | where a page of a vault's kept versions ends |
//! | `rewind.rs` | which state a record had at a cursor, for every backend |
//! | `usage.rs` | what a vault's row says of its size |
//! | `sqlite/`, `postgres/` | the backends: they load, call the above, and write |
//! | `maintenance.rs` | removal of what is not kept any longer: erased vaults, old tombstones and versions |
//! | `migrations.rs` | the list of migrations of both databases |
//! | `notifier.rs`, `pubsub/` | waking waiters in this process, and in others |
//! | `request_results.rs`, `disk_room.rs` | whether a push could be served now |
//! | `postgres_client/` | addresses of PostgreSQL, and connections outside a pool |
//!
//! Not here: HTTP, JSON, authentication.

mod check_version;
mod counters;
mod disk_room;
mod history;
mod history_page;
mod maintenance;
mod manifest;
mod migrations;
mod notifier;
mod postgres;
mod postgres_client;
mod pubsub;
mod pull;
mod push_plan;
mod quotas;
mod read_budget;
mod receipts;
mod records;
mod request_results;
mod revisions;
mod rewind;
mod sqlite;
mod store;
mod store_error;
mod usage;
mod users;
mod vault;

pub use check_version::{RecordState, WriteDecision, check_version};
pub use counters::Counters;
pub use disk_room::DISK_FREE_BYTES_MIN;
pub use history::HistoryOptions;
pub use maintenance::{EraseOutcome, GcOptions, GcReport, Removed};
pub use notifier::{ChangeNotifier, Subscription};
pub use postgres::{
    DigestCheck, PostgresOptions, batch_statements, distribute, hot_statements, migrate,
    pending_distribution, pending_migrations, user_statements, validate_digests,
};
pub use postgres_client::DatabaseUrl;
pub use pubsub::{NatsUrl, PubsubBackend};
pub use pull::VaultHead;
pub use quotas::{QuotaExceeded, Quotas};
pub use read_budget::{ReadBudget, Unbounded};
pub use receipts::RECEIPTS_MAX;
pub use revisions::{Revisions, RevisionsOutcome, RevisionsRequest, VersionKey};
pub use sqlite::{SqliteReader, verify_sqlite};
pub use store::{
    HistoryOutcome, ManifestOutcome, PullOutcome, PushOutcome, RecordsOutcome, Refused, Store,
    StoreOptions,
};
pub use store_error::{OpenError, StoreError, StoreHealth};
pub use users::{OperatorStore, UserSummary};
pub use vault::{UserId, Vault, VaultId};
