//! `GET /api/sync/manifest`

use axum::{extract::State, response::Response};
use vaultsync_protocol::{Manifest, ManifestRequest};
use vaultsync_store::ManifestOutcome;

use crate::{
    app::App,
    error::{ApiError, Failure},
    extract::{Caller, Query},
    read_meter::read_page,
    response,
};

/// Lists the records of the vault without their ciphertexts, by `recordId`.
///
/// To continue, send `next` as `after` until `next` is null. Each page is read from one snapshot. A record that
/// existed before the first page was read, and still does, is listed once. For later changes, pull with the `head`
/// of the first page as `cursor`.
#[utoipa::path(
    get,
    path = "/api/sync/manifest",
    tag = "sync",
    security(("bearer" = [])),
    params(
        ("after" = Option<String>, Query, description = "Returns only records whose id is later in byte order. Without it, or with an empty one, the manifest begins at the start.", max_length = 255, example = "note-1"),
        ("limit" = Option<u32>, Query, description = "The maximum number of entries in the page; 1000 by default.", minimum = 1, maximum = 1000, example = 1000),
        ("epoch" = Option<String>, Query, description = "The `epoch` of an earlier response. The server returns 410 if the vault's history has another epoch.", max_length = 64),
    ),
    responses(
        (status = 200, description = "A page of the manifest.", body = Manifest),
        (status = 400, description = "`invalid_request`.", body = Failure),
        (status = 401, description = "The token is missing or not accepted.", body = Failure, headers(("WWW-Authenticate" = String, description = "The challenge, as defined by RFC 6750."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 410, description = "`epoch_changed` or `vault_erased`; only if `epoch` is sent.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
    ),
)]
pub(super) async fn manifest(
    State(app): State<App>,
    Caller { vault, .. }: Caller,
    Query(request): Query<ManifestRequest>,
) -> Result<Response, ApiError> {
    let read = |budget| app.store.manifest(&vault, &request, budget);
    let (manifest, memory) = match read_page(&app, vault.user(), read).await? {
        (ManifestOutcome::Manifest(manifest), budget) => {
            let memory = budget.into_reservation(manifest.entries.len())?;
            (manifest, memory)
        }
        (ManifestOutcome::EpochChanged, _) => return Err(ApiError::EpochChanged),
        (ManifestOutcome::VaultErased, _) => return Err(ApiError::VaultErased),
    };
    let response = response::manifest(manifest, memory).await;
    app.rates.debit_user(vault.user(), response::body_bytes(&response));
    Ok(response)
}
