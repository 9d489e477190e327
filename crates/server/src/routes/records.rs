//! `POST /api/sync/records`

use axum::{extract::State, response::Response};
use vaultsync_protocol::RecordsRequest;
use vaultsync_store::RecordsOutcome;

use crate::{
    app::App,
    error::{ApiError, Failure},
    extract::ReadBody,
    openapi::{self, FoundRecords},
    read_meter::read_page,
    response,
};

/// Reads records by id.
///
/// The records are returned in the order of the request, each as it is now. If `hasMore` is true, ask again for
/// the ids that are neither in `records` nor in `missing`.
#[utoipa::path(
    post,
    path = "/api/sync/records",
    tag = "sync",
    security(("bearer" = [])),
    request_body = openapi::RecordsRequest,
    responses(
        (status = 200, description = "The records.", body = FoundRecords),
        (status = 400, description = "`invalid_request` or `invalid_json`.", body = Failure),
        (status = 401, description = "The token is missing or not accepted.", body = Failure, headers(("WWW-Authenticate" = String, description = "The challenge, as defined by RFC 6750."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 408, description = "`request_timeout`: the body did not arrive in time.", body = Failure),
        (status = 410, description = "`epoch_changed` or `vault_erased`; only if `epoch` is sent.", body = Failure),
        (status = 413, description = "`payload_too_large`.", body = Failure),
        (status = 415, description = "`unsupported_media_type`.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
    ),
)]
pub(super) async fn records(
    State(app): State<App>,
    ReadBody { vault, request, memory: _body }: ReadBody<RecordsRequest>,
) -> Result<Response, ApiError> {
    let read = |budget| app.store.records(&vault, &request, budget);
    let (found, memory) = match read_page(&app, vault.user(), read).await? {
        (RecordsOutcome::Found(found), budget) => {
            let memory = budget.into_reservation(found.records.len())?;
            (found, memory)
        }
        (RecordsOutcome::EpochChanged, _) => return Err(ApiError::EpochChanged),
        (RecordsOutcome::VaultErased, _) => return Err(ApiError::VaultErased),
    };
    let response = response::records(found, memory).await;
    app.rates.debit_user(vault.user(), response::body_bytes(&response));
    Ok(response)
}
