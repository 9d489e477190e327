//! `GET /api/sync/info`

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::ToSchema;
use vaultsync_protocol::{OPERATIONS_MAX, PAGE_RECORDS_MAX, RecordId, WAIT_SECONDS_MAX};

use crate::{Limits, app::App, error::Failure, response};

/// Identity, features and limits of this server.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    /// Always `vaultsync`.
    #[schema(example = "vaultsync")]
    name: &'static str,
    /// The server's version.
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// The protocol versions that the server supports. A client must support one of them.
    #[schema(example = json!([1]))]
    protocols: [u32; 1],
    /// Features besides push and pull.
    #[schema(example = json!(["epoch", "events", "wait"]))]
    features: [&'static str; 3],
    /// Limits on requests, users and the server.
    limits: LimitsInfo,
}

/// The limits that a client can reach. Times are in seconds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LimitsInfo {
    /// Operations in one push.
    operations_max: usize,
    /// Bytes of a record id.
    record_id_bytes_max: usize,
    /// Bytes of one record's ciphertext, decoded.
    ciphertext_bytes_max: usize,
    /// Bytes of one request body.
    body_bytes_max: usize,
    /// Records in one page.
    page_records_max: usize,
    /// Bytes of ciphertext, decoded, in one page or in the conflicts of one push.
    page_bytes_max: usize,
    /// Bytes of the request line and all headers together.
    header_bytes_max: usize,
    /// Bytes of a bearer token.
    token_bytes_max: usize,
    /// Longest `wait` of a pull, in seconds.
    wait_seconds_max: u64,
    /// Concurrent waiting pulls and event streams of one user.
    waits_per_user_max: usize,
    /// Bytes of request and response bodies in flight, of all users together.
    memory_bytes_max: usize,
    /// Bytes of request and response bodies in flight, of one user.
    memory_bytes_per_user_max: usize,
    /// Concurrent connections.
    connections_max: usize,
    /// Seconds from a new connection to its first byte.
    first_byte_seconds: u64,
    /// Seconds from a request's first byte to the end of its headers.
    header_seconds: u64,
    /// Seconds from the end of the headers to the end of the body. A body that takes longer at 1 MiB/s
    /// gets that long.
    body_seconds: u64,
    /// Seconds from the end of the body to the response, not counting `wait`.
    handler_seconds: u64,
    /// Seconds during which the client reads nothing of a response.
    write_stall_seconds: u64,
    /// Seconds between two requests on a connection.
    idle_seconds: u64,
    /// Seconds from the expiry of a token to the end of the event streams opened with it.
    stream_grace_seconds: u64,
    /// Seconds from the signal to stop until requests in flight are aborted.
    drain_seconds: u64,
    /// Requests per second of each user; 0 means no limit.
    rate_per_user: u32,
    /// Requests per second from each address; 0 means no limit.
    rate_per_address: u32,
    /// Failed sign-ins per second from each address; 0 means no limit.
    sign_in_failures_per_address: u32,
}

/// Returns the server's version, features and limits, without sign-in.
#[utoipa::path(
    get,
    path = "/api/sync/info",
    tag = "sync",
    responses(
        (status = 200, description = "Version, features and limits.", body = Info),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = u64, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 503, description = "`unavailable`: the server is overloaded.", body = Failure, headers(("Retry-After" = u64, description = "Seconds."))),
    ),
)]
pub(super) async fn info(State(app): State<App>) -> Response {
    response::ok(&Info {
        name: "vaultsync",
        version: env!("CARGO_PKG_VERSION"),
        protocols: [1],
        features: ["epoch", "events", "wait"],
        limits: LimitsInfo::of(&app.limits),
    })
}

impl LimitsInfo {
    fn of(limits: &Limits) -> Self {
        let rate = |rate| if limits.rate_per_user == 0 { 0 } else { rate };
        Self {
            operations_max: OPERATIONS_MAX,
            record_id_bytes_max: RecordId::BYTES_MAX,
            ciphertext_bytes_max: limits.ciphertext_bytes_max,
            body_bytes_max: limits.body_bytes_max,
            page_records_max: PAGE_RECORDS_MAX,
            page_bytes_max: limits.page_bytes_max,
            header_bytes_max: limits.header_bytes_max,
            token_bytes_max: limits.token_bytes_max,
            wait_seconds_max: WAIT_SECONDS_MAX,
            waits_per_user_max: limits.waits_per_user_max,
            memory_bytes_max: limits.memory_bytes_max,
            memory_bytes_per_user_max: limits.memory_bytes_per_user_max,
            connections_max: limits.connections_max,
            first_byte_seconds: limits.first_byte_timeout.as_secs(),
            header_seconds: limits.header_timeout.as_secs(),
            body_seconds: limits.body_timeout.as_secs(),
            handler_seconds: limits.handler_timeout.as_secs(),
            write_stall_seconds: limits.write_stall_timeout.as_secs(),
            idle_seconds: limits.idle_timeout.as_secs(),
            stream_grace_seconds: limits.stream_grace.as_secs(),
            drain_seconds: limits.drain_timeout.as_secs(),
            rate_per_user: limits.rate_per_user,
            rate_per_address: rate(limits.rate_per_address),
            sign_in_failures_per_address: rate(limits.sign_in_failures_per_address),
        }
    }
}
