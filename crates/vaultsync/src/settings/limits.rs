//! The server's limits, and the rules across them.
//!
//! Not here: keeping them.

use std::time::Duration;

use vaultsync_server::Limits;

use super::reader::Reader;
use super::setting::Setting;
use super::table;

/// What a push of one record holds beside its ciphertext: braces, names, an id, versions.
const RECORD_JSON_BYTES: usize = 1024;

pub(crate) fn read(reader: &mut Reader<'_>) -> Limits {
    let limits = Limits {
        ciphertext_bytes_max: reader.number(&table::CIPHERTEXT_BYTES_MAX),
        body_bytes_max: reader.number(&table::BODY_BYTES_MAX),
        page_bytes_max: reader.number(&table::PAGE_BYTES_MAX),
        header_bytes_max: reader.number(&table::HEADER_BYTES_MAX),
        token_bytes_max: reader.number(&table::TOKEN_BYTES_MAX),
        memory_bytes_max: reader.number(&table::MEMORY_BYTES_MAX),
        memory_bytes_per_user_max: reader.number(&table::MEMORY_BYTES_PER_USER_MAX),
        connections_max: reader.number(&table::CONNECTIONS_MAX),
        waits_per_user_max: reader.number(&table::WAITS_PER_USER_MAX),
        first_byte_timeout: seconds(reader, &table::FIRST_BYTE_SECONDS),
        header_timeout: seconds(reader, &table::HEADER_SECONDS),
        body_timeout: seconds(reader, &table::BODY_SECONDS),
        handler_timeout: seconds(reader, &table::HANDLER_SECONDS),
        write_stall_timeout: seconds(reader, &table::WRITE_STALL_SECONDS),
        idle_timeout: seconds(reader, &table::IDLE_SECONDS),
        stream_grace: seconds(reader, &table::STREAM_GRACE_SECONDS),
        drain_timeout: seconds(reader, &table::DRAIN_SECONDS),
        rate_per_user: reader.number(&table::RATE_LIMIT),
        rate_per_address: reader.number(&table::RATE_LIMIT_ADDRESS),
        sign_in_failures_per_address: reader.number(&table::RATE_LIMIT_SIGN_IN_FAILURES),
    };
    agree(reader, &limits);
    limits
}

fn seconds(reader: &mut Reader<'_>, setting: &Setting) -> Duration {
    Duration::from_secs(reader.number(setting))
}

/// Refuses limits of which one makes another impossible to reach.
fn agree(reader: &mut Reader<'_>, limits: &Limits) {
    let record = base64_bytes(limits.ciphertext_bytes_max) + RECORD_JSON_BYTES;
    let body = limits.body_bytes_max;
    if record > body && reader.could_read(&[table::CIPHERTEXT_BYTES_MAX, table::BODY_BYTES_MAX]) {
        reader.refuse(
            &table::CIPHERTEXT_BYTES_MAX,
            format!(
                "one record of {} bytes is {record} bytes of JSON and does not fit into \
                 body_bytes_max ({body})",
                limits.ciphertext_bytes_max
            ),
        );
    }
    let largest = body.max(base64_bytes(limits.page_bytes_max));
    for (bytes_max, setting) in [
        (limits.memory_bytes_max, table::MEMORY_BYTES_MAX),
        (limits.memory_bytes_per_user_max, table::MEMORY_BYTES_PER_USER_MAX),
    ] {
        if bytes_max < 2 * largest
            && reader.could_read(&[table::BODY_BYTES_MAX, table::PAGE_BYTES_MAX, setting])
        {
            reader.refuse(
                &setting,
                format!("must be at least {}: two of the largest body or page", 2 * largest),
            );
        }
    }
    if limits.token_bytes_max >= limits.header_bytes_max
        && reader.could_read(&[table::TOKEN_BYTES_MAX, table::HEADER_BYTES_MAX])
    {
        reader.refuse(
            &table::TOKEN_BYTES_MAX,
            format!(
                "must be less than header_bytes_max ({}), which holds the token",
                limits.header_bytes_max
            ),
        );
    }
}

/// The length of `bytes` bytes as padded base64.
fn base64_bytes(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}
