//! `GET /api/sync/export`

use std::fmt::Write as _;

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use sha2::{Digest as _, Sha256};
use vaultsync_protocol::{
    Epoch, ExportEnd, ExportStart, Pull, Record, Timestamp, write_exported_line, write_line,
};
use vaultsync_store::Vault;

use crate::{
    app::App,
    error::{ApiError, Failure},
    extract::Caller,
    record_stream::{self, StreamLines},
};

/// Exports the vault as a file of one JSON object a line.
///
/// The first line describes the vault, then each record is a line, with the digest of its ciphertext, and the last
/// line has counts and the SHA-256 of all bytes before it. The ciphertexts are encrypted as they are in the vault. An
/// export without its last line is not complete.
#[utoipa::path(
    get,
    path = "/api/sync/export",
    tag = "sync",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The export.", headers(("Content-Disposition" = String, description = "The name of the file.")), content_type = "application/x-ndjson", body = String),
        (status = 401, description = "The token is missing or not accepted.", body = Failure, headers(("WWW-Authenticate" = String, description = "The challenge, as defined by RFC 6750."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
    ),
)]
pub(super) async fn export(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    let lines = ExportLines::new(&caller.vault, app.clock.now());
    let file_name = file_name(&caller.vault, lines.exported_at);
    let mut response = record_stream::open(app, caller, Pull::default(), lines).await?;
    if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{file_name}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// The name of the file. That of a vault needs no quoting.
fn file_name(vault: &Vault, exported_at: Timestamp) -> String {
    let name = if vault.name().is_empty() { "default" } else { vault.name() };
    let time = exported_at.to_string();
    let date = time.split('T').next().unwrap_or_default();
    format!("vaultsync-{name}-{date}.ndjson")
}

/// The lines of an export, and what its last line says of the others.
struct ExportLines {
    vault: Vault,
    exported_at: Timestamp,
    sha256: Sha256,
    records: u64,
    tombstones: u64,
    bytes: u64,
}

impl ExportLines {
    fn new(vault: &Vault, exported_at: Timestamp) -> Self {
        let sha256 = Sha256::new();
        Self { vault: vault.clone(), exported_at, sha256, records: 0, tombstones: 0, bytes: 0 }
    }

    /// Counts the bytes that were appended to lines of this length.
    fn hash(&mut self, lines: &[u8], length_before: usize) {
        self.sha256.update(&lines[length_before..]);
    }
}

impl StreamLines for ExportLines {
    fn start(&mut self, lines: &mut Vec<u8>, epoch: Option<Epoch>, head: Option<Timestamp>) {
        let before = lines.len();
        let name = self.vault.name();
        let start = ExportStart {
            format: ExportStart::FORMAT,
            version: ExportStart::VERSION,
            vault: (!name.is_empty()).then_some(name),
            epoch,
            head,
            exported_at: self.exported_at,
        };
        write_line(lines, &start);
        self.hash(lines, before);
    }

    fn record(&mut self, lines: &mut Vec<u8>, record: &Record) {
        let before = lines.len();
        write_exported_line(lines, record);
        self.hash(lines, before);
        let counter = if record.deleted { &mut self.tombstones } else { &mut self.records };
        *counter += 1;
        self.bytes += record.ciphertext.len() as u64;
    }

    fn end(&mut self, lines: &mut Vec<u8>, _: Option<Timestamp>, has_more: bool) {
        let sha256 = self.sha256.clone().finalize().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let Self { records, tombstones, bytes, .. } = *self;
        write_line(lines, &ExportEnd { records, tombstones, bytes, sha256, has_more });
    }
}
