//! `DELETE /api/sync/vault` and `DELETE /api/sync/account`
//!
//! Not here: the removal of the rows (`crate::maintenance`).

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::ToSchema;
use vaultsync_protocol::{EraseAccount, EraseVault, KnownEpoch, VaultName};
use vaultsync_store::{EraseOutcome, Vault};

use crate::{
    app::App,
    error::{ApiError, Failure},
    extract::{Caller, Query},
    read_meter::in_time,
    response,
};

/// The response to an erasure.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Erased {
    /// How many vaults were erased.
    #[schema(example = 1)]
    vaults: usize,
}

/// Erases the vault, for ever.
///
/// From then on it is empty, and requests that name its epoch get 410 `vault_erased`. Its rows are removed
/// shortly after; until then, pushes get 503. The next push begins a new history with another epoch.
#[utoipa::path(
    delete,
    path = "/api/sync/vault",
    tag = "sync",
    security(("bearer" = [])),
    params(("confirm" = String, Query, description = "The vault's `epoch`.", min_length = 1, max_length = 64)),
    responses(
        (status = 200, description = "The vault is erased, by this request or an earlier one.", body = Erased),
        (status = 400, description = "`invalid_request`.", body = Failure),
        (status = 401, description = "The token is missing or not accepted.", body = Failure, headers(("WWW-Authenticate" = String, description = "The challenge, as defined by RFC 6750."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 410, description = "`epoch_changed`: the vault has another epoch, or does not exist. Nothing is erased.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
    ),
)]
pub(super) async fn vault(
    State(app): State<App>,
    Caller { vault, .. }: Caller,
    Query(request): Query<EraseVault>,
) -> Result<Response, ApiError> {
    match erase(&app, &vault, &request.epoch).await? {
        EraseOutcome::Erased => Ok(response::ok(&Erased { vaults: 1 })),
        EraseOutcome::EpochChanged => Err(ApiError::EpochChanged),
    }
}

/// Erases all vaults of the user, as `DELETE /api/sync/vault` does one.
///
/// A user without vaults gets the same response. The next push begins a new history, as after the erasure of one
/// vault.
#[utoipa::path(
    delete,
    path = "/api/sync/account",
    tag = "sync",
    security(("bearer" = [])),
    params(("confirm" = String, Query, description = "The subject of the token (`sub`).", min_length = 1, max_length = 255)),
    responses(
        (status = 200, description = "Every vault is erased.", body = Erased),
        (status = 400, description = "`invalid_request`.", body = Failure),
        (status = 401, description = "The token is missing or not accepted.", body = Failure, headers(("WWW-Authenticate" = String, description = "The challenge, as defined by RFC 6750."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`: some vaults may be erased. Send the same request again.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
    ),
)]
pub(super) async fn account(
    State(app): State<App>,
    Caller { vault, .. }: Caller,
    Query(request): Query<EraseAccount>,
) -> Result<Response, ApiError> {
    request.check(vault.subject()).map_err(ApiError::InvalidRequest)?;
    let mut vaults = 0;
    for summary in in_time(&app, app.store.vaults(&vault)).await? {
        let of = Vault::of(vault.issuer(), vault.subject());
        let name = summary.name.as_deref().and_then(VaultName::new);
        let named = name.map_or(of.clone(), |name| of.named(name));
        let epoch = KnownEpoch::from(summary.epoch);
        vaults += usize::from(erase(&app, &named, &epoch).await? == EraseOutcome::Erased);
    }
    Ok(response::ok(&Erased { vaults }))
}

async fn erase(app: &App, vault: &Vault, epoch: &KnownEpoch) -> Result<EraseOutcome, ApiError> {
    let outcome = in_time(app, app.store.erase(vault, epoch, app.clock.now())).await?;
    if outcome == EraseOutcome::Erased {
        tracing::info!(vault = %vault.id(), "vault erased");
        app.erased.notify_one();
    }
    Ok(outcome)
}
