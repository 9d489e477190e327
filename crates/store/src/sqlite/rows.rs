//! Conversion between database rows and the types of the store.

use rusqlite::{Error, Row, types::FromSqlError};
use vaultsync_protocol::{RecordDigest, RecordId, Timestamp, Version};

pub(super) fn record_id(row: &Row<'_>, column: usize) -> rusqlite::Result<RecordId> {
    RecordId::new(row.get_ref(column)?.as_str()?).map_err(|_| FromSqlError::InvalidType.into())
}

pub(super) fn version(row: &Row<'_>, column: usize) -> rusqlite::Result<Version> {
    let number: i64 = row.get(column)?;
    Version::new(number).ok_or(Error::IntegralValueOutOfRange(column, number))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

/// A time that may be null.
pub(super) fn optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<RecordDigest> {
    row.get(column).map(RecordDigest::from_bytes)
}

/// The length of a ciphertext.
pub(super) fn length(row: &Row<'_>, column: usize) -> rusqlite::Result<usize> {
    let length: i64 = row.get(column)?;
    usize::try_from(length).map_err(|_| Error::IntegralValueOutOfRange(column, length))
}
