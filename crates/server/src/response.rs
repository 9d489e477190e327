//! Successful responses and the refused push, as JSON.
//!
//! Not here: failures and status codes (`error`).

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::Body as _;
use serde::Serialize;
use utoipa::ToSchema;
use vaultsync_protocol::{
    Conflict, FoundRecords, FoundVersion, HeadChange, Manifest, Page, PastStates, RecordHistory,
    Timestamp, Written,
};
use vaultsync_store::Refused;

use crate::{error, json, memory_budget::Reservation, offload, openapi};

/// The response to a push that was applied.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PushApplied {
    #[schema(schema_with = openapi::always_true, required = true)]
    success: bool,
    /// What each operation wrote, in the order of the operations.
    results: Vec<Written>,
    /// The vault's head before the push; null if nothing was ever pushed. Present, like `head`, only if the
    /// push wrote a record now. A client whose cursor equals it may take `head` as its cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<String>, format = DateTime, example = "2024-01-15T10:30:00.000Z")]
    #[expect(clippy::option_option, reason = "absent and null differ")]
    head_before: Option<Option<Timestamp>>,
    /// The vault's head after the push.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = String, format = DateTime, example = "2024-01-15T10:31:07.250Z")]
    head: Option<Timestamp>,
}

/// The response to a push of which nothing was written.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PushRefused {
    #[schema(schema_with = openapi::always_false, required = true)]
    success: bool,
    /// The conflicting records, in the order of the operations.
    conflicts: Vec<Conflict>,
    /// Present, and true, if there are more conflicts than one response holds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    has_more: bool,
}

/// What was asked of the history: the form follows from the parameters of the request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum HistoryPart {
    /// For `recordId`.
    Versions(RecordHistory),
    /// For `recordId` and `version`.
    Version(FoundVersion),
    /// For `at`.
    States(PastStates),
}

impl HistoryPart {
    /// Number of records, or of versions of one, in the response.
    pub(crate) fn entries(&self) -> usize {
        match self {
            Self::Versions(history) => history.versions.len(),
            Self::Version(found) => usize::from(found.record.is_some()),
            Self::States(states) => states.entries.len(),
        }
    }

    /// About how many bytes the response has.
    fn bytes(&self) -> usize {
        /// Usual length of an entry without a ciphertext.
        const ENTRY_BYTES: usize = 240;
        let ciphertext = match self {
            Self::Version(FoundVersion { record: Some(record), .. }) => record.ciphertext.len(),
            _ => 0,
        };
        self.entries() * ENTRY_BYTES + ciphertext
    }
}

/// 200: the whole push is applied.
pub(crate) fn push_applied(results: Vec<Written>, head_change: Option<HeadChange>) -> Response {
    let (head_before, head) =
        head_change.map(|HeadChange { head_before, head }| (head_before, head)).unzip();
    ok(&PushApplied { success: true, results, head_before, head })
}

/// 409: nothing of the push is written.
pub(crate) async fn push_refused(refused: Refused, memory: Reservation) -> Response {
    let Refused { conflicts, has_more } = refused;
    let bytes = conflicts.iter().map(|conflict| conflict.ciphertext.len()).sum();
    let refused = PushRefused { success: false, conflicts, has_more };
    // The reservation is given back when the work has ended, even if the client leaves before.
    let encode = move || (json::encode(&refused), memory);
    let (body, memory) = offload::run(bytes, encode).await;
    let mut response = json_response(body, Some(memory));
    *response.status_mut() = error::PUSH_REFUSED;
    response
}

/// 200: a page of changes.
pub(crate) async fn page(page: Page, memory: Reservation) -> Response {
    let bytes = page.records.iter().map(|record| record.ciphertext.len()).sum();
    large(bytes, move || page.to_json().into(), memory).await
}

/// 200: records found by id.
pub(crate) async fn records(found: FoundRecords, memory: Reservation) -> Response {
    large(found.ciphertext_bytes(), move || found.to_json().into(), memory).await
}

/// 200: a page of a manifest.
pub(crate) async fn manifest(manifest: Manifest, memory: Reservation) -> Response {
    let bytes = manifest.entries.len() * MANIFEST_ENTRY_BYTES;
    large(bytes, move || json::encode(&manifest), memory).await
}

/// 200: a part of the history.
pub(crate) async fn history(part: HistoryPart, memory: Reservation) -> Response {
    large(part.bytes(), move || json::encode(&part), memory).await
}

/// Usual length of an entry of a manifest.
const MANIFEST_ENTRY_BYTES: usize = 160;

/// 200: a body for which memory is reserved.
async fn large(
    bytes: usize,
    encode: impl FnOnce() -> Bytes + Send + 'static,
    memory: Reservation,
) -> Response {
    // As above.
    let (body, memory) = offload::run(bytes, move || (encode(), memory)).await;
    json_response(body, Some(memory))
}

/// 200: a small body, which reserves no memory.
pub(crate) fn ok(body: &impl Serialize) -> Response {
    json_response(json::encode(body), None)
}

/// 200: a body that is encoded already.
pub(crate) fn encoded(body: Bytes) -> Response {
    json_response(body, None)
}

/// Length of a response's body, 0 for a stream.
pub(crate) fn body_bytes(response: &Response) -> usize {
    let bytes = response.body().size_hint().exact().unwrap_or(0);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A JSON response that keeps its part of `memory` until it is written or dropped.
fn json_response(bytes: Bytes, mut memory: Option<Reservation>) -> Response {
    if let Some(memory) = &mut memory {
        memory.shrink(bytes.len());
    }
    let body = Body::from(guarded(bytes, memory));
    ([(header::CONTENT_TYPE, json::CONTENT_TYPE)], body).into_response()
}

/// Bytes of a body with a guard, which is dropped when they are written.
///
/// The guard belongs to the bytes and not to the body: hyper drops a body as soon as it has the last bytes, long
/// before a slow client has received them.
pub(crate) fn guarded(bytes: Bytes, guard: impl Send + 'static) -> Bytes {
    Bytes::from_owner(GuardedBytes { bytes, _guard: guard })
}

struct GuardedBytes<G> {
    bytes: Bytes,
    _guard: G,
}

impl<G> AsRef<[u8]> for GuardedBytes<G> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
