//! JSON encoding of response bodies.

use axum::http::HeaderValue;
use bytes::Bytes;
use serde::Serialize;

/// `Content-Type` of every JSON response.
pub(crate) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/json");

/// Encodes a response body.
pub(crate) fn encode(body: &impl Serialize) -> Bytes {
    // Response bodies are plain structs with text keys: JSON can represent all of them.
    serde_json::to_vec(body).map(Bytes::from).expect("a response body can be encoded as JSON")
}
