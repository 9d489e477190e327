//! `GET /api/sync/export`

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use vaultsync_protocol::{
    Epoch, ExportRequest, ExportWriter, Pull, Record, RecordVersion, Timestamp,
};

use crate::{
    app::App,
    error::{ApiError, Failure},
    extract::{Caller, Query},
    record_stream::{self, StreamLines},
};

/// Exports the vault as a file of one JSON object a line.
///
/// The first line describes the vault, then each record is a line, with the digest of its ciphertext, and the last
/// line has counts and the SHA-256 of all bytes before it. The ciphertexts are encrypted as they are in the vault. An
/// export without its last line is not complete.
///
/// With `history=true` the replaced versions that are kept follow the records, each a line with `replaced_at`.
#[utoipa::path(
    get,
    path = "/api/sync/export",
    tag = "sync",
    security(("bearer" = [])),
    params(
        ("history" = Option<bool>, Query, description = "Whether the replaced versions that are kept follow the records."),
    ),
    responses(
        (status = 200, description = "The export.", headers(("Content-Disposition" = String, description = "The name of the file.")), content_type = "application/x-ndjson", body = String),
        (status = 400, description = "`invalid_request`.", body = Failure),
        (status = 401, description = "The token is missing or not accepted.", body = Failure, headers(("WWW-Authenticate" = String, description = "The challenge, as defined by RFC 6750."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
    ),
)]
pub(super) async fn export(
    State(app): State<App>,
    caller: Caller,
    Query(request): Query<ExportRequest>,
) -> Result<Response, ApiError> {
    let writer = ExportWriter::new(caller.vault.name(), request, app.clock.now());
    let file_name = writer.file_name();
    let lines = ExportLines(writer);
    let mut response = record_stream::open(app, caller, Pull::default(), lines).await?;
    if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{file_name}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// The lines of an export.
struct ExportLines(ExportWriter);

impl StreamLines for ExportLines {
    fn has_history(&self) -> bool {
        self.0.has_history()
    }

    fn start(&mut self, lines: &mut Vec<u8>, epoch: Option<Epoch>, head: Option<Timestamp>) {
        self.0.start(lines, epoch, head);
    }

    fn record(&mut self, lines: &mut Vec<u8>, record: &Record) {
        self.0.record(lines, record);
    }

    fn version(&mut self, lines: &mut Vec<u8>, version: &RecordVersion) {
        self.0.version(lines, version);
    }

    fn end(&mut self, lines: &mut Vec<u8>, _: Option<Timestamp>, has_more: bool) {
        self.0.end(lines, has_more);
    }
}
