//! `GET /api/sync/usage`

use axum::{extract::State, response::Response};
use vaultsync_protocol::Usage;

use crate::{
    app::App,
    error::{ApiError, Failure},
    extract::Caller,
    read_meter::in_time,
    response,
};

/// Returns what the vault takes up.
///
/// The counters are null for a short while after an upgrade from version 0.2, until the server has counted the vault.
#[utoipa::path(
    get,
    path = "/api/sync/usage",
    tag = "sync",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The usage. A vault that does not exist takes up nothing.", body = Usage),
        (status = 401, description = "The token is missing or not accepted.", body = Failure, headers(("WWW-Authenticate" = String, description = "The challenge, as defined by RFC 6750."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
    ),
)]
pub(super) async fn usage(
    State(app): State<App>,
    Caller { vault, .. }: Caller,
) -> Result<Response, ApiError> {
    let usage = in_time(&app, app.store.usage(&vault)).await?;
    let response = response::ok(&usage);
    app.rates.debit_user(vault.user(), response::body_bytes(&response));
    Ok(response)
}
