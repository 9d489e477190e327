//! Every bound the server keeps, in one place, each a setting.

use std::time::Duration;

/// Bounds on what one request, one user and one process may take.
///
/// `GET /api/sync/info` tells them, and `docs/CONFIGURATION.md` lists the setting of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One record's ciphertext, decoded.
    pub ciphertext_bytes_max: usize,
    /// One request's body.
    pub body_bytes_max: usize,
    /// The ciphertext of one page of a pull, or of the conflicts of one push: the page ends before
    /// it passes this, but never before its first record.
    pub page_bytes_max: usize,
    /// The request line and all headers together.
    pub header_bytes_max: usize,
    /// One bearer token.
    pub token_bytes_max: usize,
    /// Bodies and answers in flight, all requests together.
    pub memory_bytes_max: usize,
    /// Bodies and answers of one user in flight.
    pub memory_bytes_per_user_max: usize,
    /// Connections open at a time.
    pub connections_max: usize,
    /// Waiting pulls and event streams of one user at a time.
    pub waits_per_user_max: usize,
    /// From accepting a connection to its first byte.
    pub first_byte_timeout: Duration,
    /// From a request's first byte to the end of its headers.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body; a body that takes longer at 1 MiB/s gets
    /// that long.
    pub body_timeout: Duration,
    /// From the end of the body to the answer, the time of a `wait` not counted.
    pub handler_timeout: Duration,
    /// A write that makes no progress.
    pub write_stall_timeout: Duration,
    /// A connection without a request.
    pub idle_timeout: Duration,
    /// From the expiry of a token to the end of the event streams that were opened with it.
    pub stream_grace: Duration,
    /// From the signal to stop until requests in flight are cut.
    pub drain_timeout: Duration,
    /// Requests a second for each user; the burst is three times that. 0 turns every rate off.
    pub rate_per_user: u32,
    /// Requests a second for each address, before sign-in; the burst is three times that.
    pub rate_per_address: u32,
    /// Failed sign-ins a second for each address; the burst is three times that.
    pub sign_in_failures_per_address: u32,
}

const MIB: usize = 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            ciphertext_bytes_max: MIB,
            body_bytes_max: 16 * MIB,
            page_bytes_max: 8 * MIB,
            header_bytes_max: 32 * 1024,
            token_bytes_max: 8 * 1024,
            memory_bytes_max: 256 * MIB,
            memory_bytes_per_user_max: 64 * MIB,
            connections_max: 10_000,
            waits_per_user_max: 10,
            first_byte_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            handler_timeout: Duration::from_secs(10),
            write_stall_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            stream_grace: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(20),
            rate_per_user: 100,
            rate_per_address: 500,
            sign_in_failures_per_address: 20,
        }
    }
}
