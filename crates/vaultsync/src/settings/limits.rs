//! The server's limits, and the rules across them.
//!
//! Not here: the limits themselves (`limits.rs` of `vaultsync-server`) and their enforcement.

use vaultsync_server::{LIMITS, Limits};

use super::reader::Reader;

/// Size of a push of one record without its ciphertext: braces, names, an id, versions.
const RECORD_JSON_BYTES: usize = 1024;

pub(crate) fn read(reader: &mut Reader<'_>) -> Limits {
    let mut limits = Limits::default();
    for limit in LIMITS {
        (limit.set)(&mut limits, reader.number(limit.key));
    }
    check(reader, &limits);
    limits
}

/// Refuses limits that make another limit impossible to reach.
fn check(reader: &mut Reader<'_>, limits: &Limits) {
    let mut check = |keys: &[&str], is_valid: bool, what: String| {
        if !is_valid && reader.could_read(keys) {
            reader.refuse(keys[0], what);
        }
    };
    let (ciphertext, body) = (limits.ciphertext_bytes_max, limits.body_bytes_max);
    let record = base64_bytes(ciphertext) + RECORD_JSON_BYTES;
    check(
        &["ciphertext_bytes_max", "body_bytes_max"],
        record <= body,
        format!(
            "one record of {ciphertext} bytes is {record} bytes of JSON and does not fit into \
             body_bytes_max ({body})"
        ),
    );
    let min = 2 * body.max(base64_bytes(limits.page_bytes_max));
    for (key, bytes_max) in [
        ("memory_bytes_max", limits.memory_bytes_max),
        ("memory_bytes_per_user_max", limits.memory_bytes_per_user_max),
    ] {
        check(
            &[key, "body_bytes_max", "page_bytes_max"],
            bytes_max >= min,
            format!("must be at least {min}: two of the largest body or page"),
        );
    }
    let (history, tombstones) = (limits.history_days, limits.tombstone_days);
    check(
        &["tombstone_days", "history_days"],
        tombstones == 0 || tombstones >= history,
        format!("must be 0 or at least history_days ({history})"),
    );
    check(
        &["quota_records", "tombstone_days"],
        limits.quota_records == 0 || tombstones > 0,
        "requires tombstone_days: tombstones count against it, and are never removed otherwise"
            .to_owned(),
    );
    let header = limits.header_bytes_max;
    check(
        &["token_bytes_max", "header_bytes_max"],
        limits.token_bytes_max < header,
        format!("must be less than header_bytes_max ({header}), which includes the token"),
    );
}

/// Length of `bytes` bytes as padded base64.
fn base64_bytes(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}
