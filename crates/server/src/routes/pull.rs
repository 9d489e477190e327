//! `GET /api/sync/pull`

use std::{pin::pin, time::Duration};

use axum::{extract::State, response::Response};
use vaultsync_protocol::{Page, Pull};
use vaultsync_store::{PullOutcome, Vault};

use crate::{
    app::App,
    error::{ApiError, Failure},
    events::REREAD_INTERVAL,
    extract::{Caller, PullQuery},
    memory_budget::Reservation,
    response,
};

/// Reads one page of what changed after a cursor, oldest first.
///
/// Send `nextCursor` as `cursor` next, until `hasMore` is false; where `nextCursor` is null, keep
/// the cursor you have.
#[utoipa::path(
    get,
    path = "/api/sync/pull",
    tag = "sync",
    security(("bearer" = [])),
    params(
        ("cursor" = Option<String>, Query, description = "Only records with a later `updated_at`: an RFC 3339 date and time with an offset. None, or an empty one, is from the start.", example = "2024-01-15T10:30:00.000Z"),
        ("limit" = Option<u32>, Query, description = "The most records to answer; 100 where it is not given.", minimum = 1, maximum = 100, example = 100),
        ("wait" = Option<u32>, Query, description = "Seconds that an empty page waits for a change before it is answered.", minimum = 0, maximum = 55, example = 0),
        ("epoch" = Option<String>, Query, description = "The `epoch` of an earlier answer: 410 where the vault's history is another one.", max_length = 64),
    ),
    responses(
        (status = 200, description = "A page.", body = Page),
        (status = 400, description = "`invalid_request`.", body = Failure),
        (status = 401, description = "`unauthorized`, `token_expired`, …", body = Failure, headers(("WWW-Authenticate" = String, description = "As RFC 6750 has it."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 410, description = "`epoch_changed` or `cursor_ahead`; only where `epoch` is sent.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = u64, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`.", body = Failure, headers(("Retry-After" = u64, description = "Seconds."))),
    ),
)]
pub(crate) async fn pull(
    State(app): State<App>,
    Caller { vault, .. }: Caller,
    PullQuery(pull): PullQuery,
) -> Result<Response, ApiError> {
    let (mut page, mut memory) = read(&app, &vault, &pull).await?;
    if page.records.is_empty() && !pull.wait.is_zero() {
        drop(memory);
        // In a box, since most do not wait.
        (page, memory) = Box::pin(wait(&app, &vault, &pull)).await?;
    }
    metrics::counter!("vaultsync_records_pulled_total").increment(page.records.len() as u64);
    Ok(response::page(&page, memory))
}

async fn read(app: &App, vault: &Vault, pull: &Pull) -> Result<(Page, Reservation), ApiError> {
    // Pinned, since a future is moved whole and is as large as the most that it may come to: moves took a
    // tenth of a pull that finds nothing, where this was 12 KiB.
    let reading = pin!(app.store.pull(vault, pull, app.memory.page_budget(vault.id())));
    let (outcome, room) = tokio::time::timeout(app.limits.handler_timeout, reading)
        .await
        .map_err(|_| ApiError::Unavailable("the store took too long".to_owned()))??;
    match outcome {
        PullOutcome::Page(page) => {
            let memory = room.into_reservation(page.records.len())?;
            Ok((page, memory))
        }
        PullOutcome::EpochChanged => Err(ApiError::EpochChanged),
        PullOutcome::CursorAhead => Err(ApiError::CursorAhead),
    }
}

/// Reads again at each change until there is something to answer, the time is up, or the server
/// stops.
async fn wait(app: &App, vault: &Vault, pull: &Pull) -> Result<(Page, Reservation), ApiError> {
    let mut changes = app
        .store
        .notifier()
        .subscribe(vault.id(), app.limits.waits_per_user_max)
        .ok_or(ApiError::TooManyWaits)?;
    let until = app.clock.uptime() + pull.wait;
    loop {
        // After listening has begun: what was committed before is in this page.
        let (page, memory) = read(app, vault, pull).await?;
        let left = until.saturating_sub(app.clock.uptime());
        if !page.records.is_empty() || left.is_zero() || app.stop.is_cancelled() {
            return Ok((page, memory));
        }
        drop((page, memory));
        let pause = left.clamp(Duration::from_millis(1), REREAD_INTERVAL);
        let change = tokio::time::timeout(pause, changes.changed());
        // Whichever comes first, the next page tells what is there.
        let _ = app.stop.run_until_cancelled(change).await;
    }
}
