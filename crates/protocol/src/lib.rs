//! Wire types of the sync protocol: pushes, pulls, records and their validation.
//!
//! Not here: sockets, HTTP status codes, SQL, keys. Nothing in this crate blocks or reads a clock.

mod body;
mod cursor;
mod digest;
mod epoch;
mod erase;
mod events;
mod export;
mod history;
mod issue;
mod json;
mod manifest;
mod pull;
mod push;
mod push_response;
mod query;
mod record;
mod records;
mod stream;
mod timestamp;
mod usage;
mod vault_name;
mod vault_summary;

pub use body::BodyError;
pub use cursor::{Cursor, CursorError};
pub use digest::RecordDigest;
pub use epoch::{Epoch, KnownEpoch};
pub use erase::{EraseAccount, EraseVault};
pub use events::EventsRequest;
pub use export::{ExportRequest, ExportWriter};
pub use history::{
    FoundVersion, HISTORY_ENTRIES_MAX, HistoryQuery, HistoryRequest, KeptVersion, PastState,
    PastStates, RecordHistory, RecordVersion,
};
pub use issue::{Issue, Issues};
pub use manifest::{MANIFEST_ENTRIES_MAX, Manifest, ManifestEntry, ManifestRequest};
pub use pull::{PAGE_RECORDS_MAX, Page, Pull, WAIT_SECONDS_MAX};
pub use push::{Guard, Operation, Push};
pub use push_response::{Conflict, HeadChange, Written};
pub use record::{Ciphertext, DigestedRecord, Record, RecordId, Version};
pub use records::{FoundRecords, RECORD_IDS_MAX, RecordsRequest};
pub use stream::{
    StreamEnd, StreamProgress, StreamRange, StreamStart, write_line, write_record_line,
};
pub use timestamp::Timestamp;
pub use usage::Usage;
pub use vault_name::VaultName;
pub use vault_summary::VaultSummary;

/// Maximum number of operations in one push.
pub const OPERATIONS_MAX: usize = 100;

/// Maximum number of guards in one push.
pub const GUARDS_MAX: usize = 10;
