//! Reading of request bodies, bounded in type, size, time and memory.

use std::time::Duration;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, header},
};
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::{Limits, error::ApiError, memory_budget::Reservation};

/// Longest body that [`discard`] reads.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;

/// Largest buffer that the first bytes of a body allocate.
const INITIAL_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Refuses bodies that are compressed or not called JSON. `text/plain` is accepted too, because a
/// browser's `fetch` declares it for a body that is a string.
pub(crate) fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(ApiError::UnsupportedMediaType(
            "Compressed request bodies are not supported. Remove Content-Encoding.",
        ));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if ["application/json", "text/plain"].iter().any(|known| essence.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    Err(ApiError::UnsupportedMediaType(
        "The request body must be JSON. Set Content-Type to application/json or text/plain.",
    ))
}

/// Reads a body, and grows `memory` with it.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
    memory: &mut Reservation,
) -> Result<BytesMut, ApiError> {
    let reading = collect(headers, body, limits.body_bytes_max, memory);
    timeout(body_timeout(headers, limits), reading).await.map_err(|_| ApiError::RequestTimeout)?
}

/// Reads and drops the body of a refused request, unless it is long. Otherwise the connection would
/// have to be closed, and accepting the next one costs more than reading a short body.
pub(crate) async fn discard(request: Request, limits: &Limits) {
    if content_length(request.headers()).is_none_or(|bytes| bytes > DISCARD_BYTES_MAX) {
        return;
    }
    let deadline = body_timeout(request.headers(), limits);
    let mut body = request.into_body();
    // The request is refused in any case: neither a timeout nor an error of the body changes that.
    let _ = timeout(deadline, async { while let Some(Ok(_)) = body.frame().await {} }).await;
}

async fn collect(
    headers: &HeaderMap,
    mut body: Body,
    bytes_max: usize,
    memory: &mut Reservation,
) -> Result<BytesMut, ApiError> {
    let too_large = ApiError::BodyTooLarge { bytes_max };
    let announced = content_length(headers).unwrap_or(0);
    let Ok(announced) = usize::try_from(announced) else { return Err(too_large) };
    if announced > bytes_max {
        return Err(too_large);
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Either the connection broke, and no client gets this, or the chunks are malformed.
        let frame = frame.map_err(|_| ApiError::InvalidJson("it is incomplete".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(too_large);
        }
        // Memory is reserved as the body arrives: announcing a length costs an attacker nothing.
        memory.grow(bytes.len() + data.len())?;
        if bytes.is_empty() && data.len() < announced {
            bytes.reserve(announced.min(INITIAL_BUFFER_BYTES_MAX));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The limit's timeout, or the time that the announced body takes at 1 MiB/s if that is longer.
fn body_timeout(headers: &HeaderMap, limits: &Limits) -> Duration {
    const BYTES_PER_SECOND_MIN: u64 = 1024 * 1024;
    let seconds = content_length(headers).unwrap_or(0) / BYTES_PER_SECOND_MIN;
    limits.body_seconds.max(Duration::from_secs(seconds))
}
