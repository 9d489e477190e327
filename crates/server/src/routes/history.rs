//! `GET /api/sync/history`

use axum::{extract::State, response::Response};
use vaultsync_protocol::HistoryRequest;
use vaultsync_store::HistoryOutcome;

use crate::{
    app::App,
    error::{ApiError, Failure},
    extract::{Caller, Query},
    read_meter::read_page,
    response::{self, HistoryPart},
};

/// Reads replaced versions of records.
///
/// With `recordId`, lists the kept versions of a record, newest first, without the current one. With `recordId` and
/// `version`, returns the record as it was at that version. With `at`, lists the states that records had at that
/// time and that changed since, by `recordId`. To continue a list, send `next` as `before` or `after` until `next`
/// is null.
#[utoipa::path(
    get,
    path = "/api/sync/history",
    tag = "sync",
    security(("bearer" = [])),
    params(
        ("recordId" = Option<String>, Query, description = "The record. Either this or `at` must be given.", min_length = 1, max_length = 255, example = "note-1"),
        ("before" = Option<usize>, Query, description = "Only with `recordId`: lists only lower versions.", minimum = 1, maximum = 9_007_199_254_740_991_i64),
        ("version" = Option<usize>, Query, description = "Only with `recordId`, and with neither `before` nor `limit`: returns this version.", minimum = 1, maximum = 9_007_199_254_740_991_i64),
        ("at" = Option<String>, Query, description = "A time of the vault's clock, such as a cursor: an RFC 3339 date and time with an offset. Not with `recordId`."),
        ("after" = Option<String>, Query, description = "Only with `at`: looks only at records whose id is later in byte order.", max_length = 255),
        ("limit" = Option<u32>, Query, description = "The maximum number of versions in a page, or of records that a page looks at; 1000 by default.", minimum = 1, maximum = 1000),
        ("epoch" = Option<String>, Query, description = "The `epoch` of an earlier response. The server returns 410 if the vault's history has another epoch.", max_length = 64),
    ),
    responses(
        (status = 200, description = "What was asked for.", body = inline(HistoryPart)),
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
pub(super) async fn history(
    State(app): State<App>,
    Caller { vault, .. }: Caller,
    Query(request): Query<HistoryRequest>,
) -> Result<Response, ApiError> {
    let read = |budget| app.store.history(&vault, &request, budget);
    let (outcome, budget) = read_page(&app, vault.user(), read).await?;
    let part = match outcome {
        HistoryOutcome::Versions(versions) => HistoryPart::Versions(versions),
        HistoryOutcome::Version(version) => HistoryPart::Version(version),
        HistoryOutcome::States(states) => HistoryPart::States(states),
        HistoryOutcome::EpochChanged => return Err(ApiError::EpochChanged),
        HistoryOutcome::VaultErased => return Err(ApiError::VaultErased),
    };
    let memory = budget.into_reservation(part.entries())?;
    let response = response::history(part, memory).await;
    app.rates.debit_user(vault.user(), response::body_bytes(&response));
    Ok(response)
}
