//! Limits of the server, each declared once.
//!
//! To add a limit, add a row to the list below and use its field. The row makes
//!
//! - a field of [`Limits`] with its default,
//! - a setting of the same name with its bounds: a flag, an environment variable, a key of the TOML
//!   file and a line of `docs/CONFIGURATION.md`, which `vaultsync` makes from [`LIMITS`],
//! - a member of `limits` in `GET /api/sync/info`, described in `docs/openapi.json`.
//!
//! A row has this form:
//!
//! ```text
//! "Help: documentation of the field, of the setting and of the member."
//! setting_name: wire_type = default, Unit(min, max);
//! ```
//!
//! The member is called like the setting, in camel case, unless the row says `as "memberName"`. A row
//! without a unit is a constant of the protocol, which clients see and no setting changes. The rows are
//! in the order in which clients and operators see them. Both documents are generated (`CONTRIBUTING.md`
//! has the commands), and a test of each fails until it is generated again.
//!
//! Not here: rules across several limits (`settings/limits.rs` of `vaultsync`).

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;
use vaultsync_protocol::{
    Epoch, GUARDS_MAX, HISTORY_ENTRIES_MAX, MANIFEST_ENTRIES_MAX, OPERATIONS_MAX, PAGE_RECORDS_MAX,
    RECORD_IDS_MAX, RecordId, Timestamp, WAIT_SECONDS_MAX,
};
use vaultsync_store::{GcOptions, HistoryOptions, Quotas, StoreOptions};

/// Unit of a limit. It decides the type of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `usize`
    Bytes,
    /// `usize`
    Count,
    /// [`Duration`], because tests need less than a second.
    Seconds,
    /// `u32`
    PerSecond,
    /// `usize`
    BytesPerSecond,
}

/// The setting of a limit.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Key of the setting, and name of the field.
    pub key: &'static str,
    /// One or more sentences of Markdown.
    pub help: &'static str,
    /// Unit of the numbers that follow.
    pub unit: Unit,
    /// The lowest value that is accepted.
    pub min: u64,
    /// The highest value that is accepted.
    pub max: u64,
    /// The value of [`Limits::default`].
    pub default: u64,
    /// Sets the field.
    pub set: fn(&mut Limits, u64),
}

/// The type of a field, by its unit.
macro_rules! field_type {
    (Seconds) => {
        Duration
    };
    (PerSecond) => {
        u32
    };
    ($unit:ident) => {
        usize
    };
}

/// The value of a field, from a setting's number. Beyond its type it is unlimited in effect.
macro_rules! field {
    (Seconds, $number:expr) => {
        Duration::from_secs($number)
    };
    (PerSecond, $number:expr) => {
        u32::try_from($number).unwrap_or(u32::MAX)
    };
    ($unit:ident, $number:expr) => {
        usize::try_from($number).unwrap_or(usize::MAX)
    };
}

/// The value of a member: of the row, or of the field if there is one.
macro_rules! member {
    ($constant:expr) => {
        $constant
    };
    ($default:expr, Seconds, $field:expr) => {
        $field.as_secs()
    };
    ($default:expr, $unit:ident, $field:expr) => {
        $field
    };
}

macro_rules! limits {
    ($(
        $help:literal
        $name:ident $(as $member:tt)?: $wire:ident = $value:expr $(, $unit:ident($min:expr, $max:expr))?;
    )*) => {
        /// Limits on what one request, one user and the whole process may use.
        ///
        /// A field has the name of its setting.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $help] pub $name: field_type!($unit),)?)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($($name: field!($unit, $value),)?)* }
            }
        }

        /// Every limit that has a setting.
        pub const LIMITS: &[Limit] = &[$($(Limit {
            key: stringify!($name),
            help: $help,
            unit: Unit::$unit,
            min: $min,
            max: $max,
            default: $value,
            set: |limits, number| limits.$name = field!($unit, number),
        },)?)*];

        /// Limits that a client can run into.
        #[derive(Debug, Serialize, ToSchema)]
        #[serde(rename_all = "camelCase")]
        pub(crate) struct LimitsInfo {
            // Shown as plain integers: `format: int64` makes clients in JavaScript use `BigInt`.
            $(#[doc = $help] $(#[serde(rename = $member)])? #[schema(value_type = usize)] $name: $wire,)*
        }

        impl From<&Limits> for LimitsInfo {
            fn from(limits: &Limits) -> Self {
                Self { $($name: member!($value $(, $unit, limits.$name)?),)* }
            }
        }
    };
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// An hour is longer than any deadline can usefully be. Most cannot be zero: no request would be served.
const HOUR: u64 = 3600;

limits! {
    "Maximum number of operations in one push."
    operations_max: usize = OPERATIONS_MAX;

    "Maximum number of guards in one push."
    guards_max: usize = GUARDS_MAX;

    "Maximum length of a record id, in bytes."
    record_id_bytes_max: usize = RecordId::BYTES_MAX;

    "Maximum size of one record's ciphertext, in bytes after base64 decoding."
    ciphertext_bytes_max: usize = MIB, Bytes(1, GIB);

    "Maximum size of a request body, in bytes. A push of one record of the maximum size must fit into it."
    body_bytes_max: usize = 16 * MIB, Bytes(KIB, GIB);

    "Maximum number of records in one page of a pull."
    page_records_max: usize = PAGE_RECORDS_MAX;

    "Maximum number of ids in one request for records."
    record_ids_max: usize = RECORD_IDS_MAX;

    "Maximum number of entries in one page of a manifest."
    manifest_entries_max: usize = MANIFEST_ENTRIES_MAX;

    "Maximum number of versions in one page of a record's history, and of records that one page of the states at a time looks at."
    history_entries_max: usize = HISTORY_ENTRIES_MAX;

    "Maximum size of the ciphertext in one page of a pull, in the records read by id, or in the conflicts of one push, in bytes after base64 decoding. The first record is returned even if it is larger."
    page_bytes_max: usize = 8 * MIB, Bytes(KIB, GIB);

    // hyper cannot buffer the head of an HTTP/1 request in less than 8 KiB.
    "Maximum size of the request line and all headers together, in bytes."
    header_bytes_max: usize = 32 * KIB, Bytes(8 * KIB, MIB);

    "Maximum size of a bearer token, in bytes. It must be below the maximum size of the headers."
    token_bytes_max: usize = 8 * KIB, Bytes(256, MIB);

    "Maximum `wait` of a pull, in seconds."
    wait_seconds_max: u64 = WAIT_SECONDS_MAX;

    "Maximum number of named vaults of one user, beside the default vault. A push that would create one more gets 507; pushes at the same time may exceed it."
    vaults_per_user_max: usize = 16, Count(0, 1000);

    "Days for which replaced versions of records are kept. 0 keeps none."
    history_days: usize = 30, Count(0, 3650);

    "Time that a version must have stood to be kept when it is replaced, in seconds. The last version of each ten minutes is kept even if it stood for less."
    history_min_age_seconds: u64 = 60, Seconds(0, HOUR);

    "Maximum size of the ciphertext of a vault's replaced versions, in bytes. Above it, a version is kept only if it stood for an hour."
    history_bytes_max: usize = GIB, Bytes(0, 1024 * GIB);

    "Maximum number of records in a vault, not counting tombstones. With tombstones, a vault may have ten times as many. 0 sets no quota; any other value requires `tombstone_days`."
    quota_records: usize = 0, Count(0, 1_000_000_000);

    "Maximum size of the ciphertext of all records of a vault, in bytes. Records that exist may exceed it by 1 MiB in total. 0 sets no quota."
    quota_bytes: usize = 0, Bytes(0, 1024 * 1024 * GIB);

    "Time between two removals of old tombstones and replaced versions by the server, in seconds. One node at a time does it. 0 leaves it to `vaultsync gc`."
    gc_interval_seconds: u64 = HOUR, Seconds(0, 7 * 24 * HOUR);

    "Time over which clients that have to start over are spread, in seconds: a 410 has a random `Retry-After` up to this. Set it before you restore a backup."
    resync_spread_seconds: u64 = 0, Seconds(0, 24 * HOUR);

    "Days after which tombstones are removed. It must be at least `history_days`. 0 keeps them for ever."
    tombstone_days: usize = 0, Count(0, 36_500);

    "Maximum number of waiting pulls and event streams of one user at a time."
    waits_per_user_max: usize = 10, Count(0, 10_000);

    "Memory budget for all request and response bodies in flight, in bytes. It must hold two of the largest body or page."
    memory_bytes_max: usize = 256 * MIB, Bytes(2 * KIB, 1024 * GIB);

    "Memory budget for one user's request and response bodies in flight, in bytes. It must hold two of the largest body or page."
    memory_bytes_per_user_max: usize = 64 * MIB, Bytes(2 * KIB, 1024 * GIB);

    "Maximum number of open connections."
    connections_max: usize = 10_000, Count(1, 1_000_000);

    "Maximum time from a new connection to its first byte, in seconds."
    first_byte_seconds: u64 = 10, Seconds(1, HOUR);

    "Maximum time from a request's first byte to the end of its headers, in seconds."
    header_seconds: u64 = 10, Seconds(1, HOUR);

    "Maximum time from the end of a request's headers to the end of its body, in seconds. A body may take longer if each such period brings as much as `body_bytes_per_second_min` asks for."
    body_seconds: u64 = 30, Seconds(1, HOUR);

    "Maximum time from the end of a request's headers to the end of its body, in seconds, for a body that arrives at the minimum rate or faster. A body that arrives at 1 MiB/s may take longer."
    body_seconds_max: u64 = 600, Seconds(1, HOUR);

    "Maximum time from the end of a request's body to the response, in seconds, without the time of a `wait`."
    handler_seconds: u64 = 10, Seconds(1, HOUR);

    "Maximum time without progress while the server writes to the client, in seconds. On Linux, a connection is also closed if sent bytes are not acknowledged for that long."
    write_stall_seconds: u64 = 30, Seconds(1, HOUR);

    "Maximum time that a connection may stay open without a request, in seconds."
    idle_seconds: u64 = 60, Seconds(1, HOUR);

    "Time that an event stream stays open after its token has expired, in seconds."
    stream_grace_seconds: u64 = 300, Seconds(0, HOUR);

    "Time from the signal to stop until no more connections are accepted, in seconds. Meanwhile `/readyz` reports 503 and everything else is served, so that a load balancer can choose other nodes."
    drain_delay_seconds: u64 = 0, Seconds(0, HOUR);

    "Maximum time for requests in flight to finish when the server is stopped, in seconds."
    drain_seconds: u64 = 20, Seconds(1, HOUR);

    "Minimum rate at which a request body arrives, in bytes per second, measured over each period of `body_seconds`."
    body_bytes_per_second_min: usize = 4 * KIB, BytesPerSecond(1, GIB);

    "Requests per second for each user, with bursts of three times as many. 0 disables all rate limits."
    rate_limit as "ratePerUser": u32 = 100, PerSecond(0, 1_000_000);

    "Requests per second for each client address, counted before sign-in, with bursts of three times as many. 0 disables this limit."
    rate_limit_address as "ratePerAddress": u32 = 500, PerSecond(0, 1_000_000);

    "Failed sign-ins per second for each client address, with bursts of three times as many. A token counts if no key of an issuer verifies it. 0 disables this limit."
    rate_limit_sign_in_failures as "signInFailuresPerAddress": u32 = 20, PerSecond(0, 1_000_000);

    "Bytes per second of request and response bodies for each user, with bursts of three times as many. They are counted once a body is complete, whether or not the client reads it. 0 disables this limit."
    rate_limit_bytes as "byteRatePerUser": usize = 64 * MIB, BytesPerSecond(0, 1024 * GIB);

    "Bytes per second of request and response bodies for each client address, with bursts of three times as many. 0 disables this limit."
    rate_limit_address_bytes as "byteRatePerAddress": usize = 256 * MIB, BytesPerSecond(0, 1024 * GIB);
}

impl Limits {
    /// When a response that outlasts its token's `exp` ends.
    pub(crate) fn stream_ends_at(&self, token_expires_at: Timestamp) -> Timestamp {
        let grace = i64::try_from(self.stream_grace_seconds.as_millis()).unwrap_or(i64::MAX);
        token_expires_at.plus_millis(grace)
    }

    /// The options of a store with these limits. `new_epoch` returns a random epoch.
    pub fn store_options(&self, new_epoch: fn() -> Epoch) -> StoreOptions {
        let history = HistoryOptions {
            days: self.history_days,
            min_age: self.history_min_age_seconds,
            bytes_max: self.history_bytes_max,
        };
        let (page_bytes_max, vaults_per_user_max) = (self.page_bytes_max, self.vaults_per_user_max);
        let quotas = self.quotas();
        StoreOptions { page_bytes_max, vaults_per_user_max, history, quotas, new_epoch }
    }

    /// What is removed at `now`.
    pub fn gc_options(&self, now: Timestamp) -> GcOptions {
        let (history_days, tombstone_days) = (self.history_days, self.tombstone_days);
        GcOptions { history_days, tombstone_days, now, dry_run: false }
    }

    /// The quotas of every vault. 0 is none.
    pub(crate) fn quotas(&self) -> Quotas {
        let quota = |limit| i64::try_from(limit).ok().filter(|limit| *limit > 0);
        Quotas { records: quota(self.quota_records), bytes: quota(self.quota_bytes) }
    }

    /// The limits in force: with `rate_limit` at 0, the other rates are off as well.
    pub(crate) fn in_force(&self) -> Self {
        let mut limits = self.clone();
        if limits.rate_limit == 0 {
            limits.rate_limit_address = 0;
            limits.rate_limit_sign_in_failures = 0;
            limits.rate_limit_bytes = 0;
            limits.rate_limit_address_bytes = 0;
        }
        limits
    }
}
