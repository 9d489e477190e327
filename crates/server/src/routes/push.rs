//! `POST /api/sync/push`

use axum::{extract::State, response::Response};
use tokio::time::timeout;
use vaultsync_protocol::{Conflict, Push};
use vaultsync_store::{PushOutcome, Refused, VaultId};

use crate::{
    app::App,
    error::{ApiError, Failure},
    extract::ReadBody,
    memory_budget::{Reservation, record_bytes},
    openapi::PushRequest,
    read_meter::{ReadMeter, Waiting},
    response::{self, PushApplied, PushRefused},
};

/// Applies a batch of writes, as a whole or not at all.
///
/// Returns 200 with the new versions, or 409 with the conflicting records, those of guards first. A push
/// whose response was lost can be sent again unchanged.
#[utoipa::path(
    post,
    path = "/api/sync/push",
    tag = "sync",
    security(("bearer" = [])),
    request_body = PushRequest,
    responses(
        (status = 200, description = "Every write is applied.", body = PushApplied),
        (status = 400, description = "`invalid_request` or `invalid_json`.", body = Failure),
        (status = 401, description = "The token is missing or not accepted.", body = Failure, headers(("WWW-Authenticate" = String, description = "The challenge, as defined by RFC 6750."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 408, description = "`request_timeout`: the body did not arrive in time.", body = Failure),
        (status = 409, description = "At least one write is a conflict, or a guard does not hold. Nothing is written.", body = PushRefused),
        (status = 410, description = "`epoch_changed` or `vault_erased`, only if `epoch` is sent; or `cursor_expired`, only if `since` is sent. Nothing is written.", body = Failure),
        (status = 413, description = "`payload_too_large`.", body = Failure),
        (status = 415, description = "`unsupported_media_type`.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`; or `outcome_unknown`: send the same body again.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 507, description = "`too_many_vaults`: the push would create a named vault, and the user has the most; or `quota_exceeded`: the vault would hold more than its quotas. Nothing is written.", body = Failure),
    ),
)]
pub(super) async fn push(
    State(app): State<App>,
    ReadBody { vault, request: push, memory }: ReadBody<Push>,
) -> Result<Response, ApiError> {
    let operations = push.operations().len() as u64;
    // The store keeps the reservation until the push is finished, even if the client leaves.
    let (budget, conflicts) = app.memory.push_budget(memory);
    let waiting = Waiting::new();
    let budget = ReadMeter::new(&app, vault.user(), budget, &waiting);
    let applying = app.store.push(&vault, push, app.clock.now(), budget);
    let outcome = timeout(app.limits.handler_seconds, applying)
        .await
        .map_err(|_| ApiError::OutcomeUnknown("the store did not respond in time".to_owned()))??;
    let response = match outcome {
        PushOutcome::Applied { results, head_change } => {
            metrics::counter!("vaultsync_records_pushed_total").increment(operations);
            response::push_applied(results, head_change)
        }
        PushOutcome::Refused(refused) => {
            refuse(&app, vault.id(), refused, conflicts.into_reservation()?).await?
        }
        PushOutcome::EpochChanged => return Err(ApiError::EpochChanged),
        PushOutcome::VaultErased => return Err(ApiError::VaultErased),
        PushOutcome::Erasing => {
            return Err(ApiError::Unavailable("the vault is being erased".to_owned()));
        }
        PushOutcome::CursorExpired => return Err(ApiError::CursorExpired),
        PushOutcome::TooManyVaults => return Err(ApiError::TooManyVaults),
        PushOutcome::QuotaExceeded(exceeded) => {
            return Err(ApiError::quota_exceeded(exceeded, app.limits.quotas()));
        }
    };
    app.rates.debit_user(vault.user(), response::body_bytes(&response));
    drop(waiting);
    Ok(response)
}

/// Responds with as many conflicts as there is memory for, and at least with one. `memory` has what the
/// store reserved before it read them, which is nothing on PostgreSQL.
async fn refuse(
    app: &App,
    vault: VaultId,
    mut refused: Refused,
    mut memory: Reservation,
) -> Result<Response, ApiError> {
    let bytes = |conflicts: &[Conflict]| {
        conflicts.iter().map(|conflict| record_bytes(conflict.ciphertext.len())).sum()
    };
    if memory.grow(bytes(&refused.conflicts)).is_err() {
        refused.has_more |= refused.conflicts.len() > 1;
        refused.conflicts.truncate(1);
        memory.grow(bytes(&refused.conflicts))?;
    }
    let conflicts = &refused.conflicts;
    metrics::counter!("vaultsync_conflicts_total").increment(conflicts.len() as u64);
    let records = conflicts.iter().map(|conflict| &conflict.record_id);
    tracing::info!(
        conflicts = conflicts.len(),
        records = app.record_hash.of_all(vault, records),
        "push refused"
    );
    Ok(response::push_refused(refused, memory).await)
}
