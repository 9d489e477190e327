//! `GET /api/sync/pull` and `POST /api/sync/pull`

use std::time::Duration;

use axum::{extract::State, response::Response};
use tokio::time::timeout;
use vaultsync_protocol::{
    Epoch, Page, Pull, Record, StreamEnd, StreamStart, Timestamp, write_line, write_record_line,
};
use vaultsync_store::Vault;

use crate::{
    app::App,
    error::{ApiError, Failure},
    events::REREAD_INTERVAL,
    extract::{Caller, PullQuery, ReadBody},
    memory_budget::Reservation,
    openapi::PullRequest,
    read_meter::read_changes,
    record_stream::{self, StreamLines},
    response,
};

/// Reads one page of changes after a cursor, oldest first.
///
/// To continue, send `nextCursor` as `cursor` until `hasMore` is false. If `nextCursor` is null, keep
/// the cursor you have.
///
/// With the header `Accept: application/x-ndjson`, the response is a stream of everything after the cursor, one JSON
/// object a line: first `{"epoch":…,"head":…}`, then the records up to this `head`, and last
/// `{"nextCursor":…,"hasMore":…}`. `limit` and `wait` are then refused. A stream without its last line is not
/// complete.
#[utoipa::path(
    get,
    path = "/api/sync/pull",
    tag = "sync",
    security(("bearer" = [])),
    params(
        ("cursor" = Option<String>, Query, description = "Returns only records with a later `updated_at`: an RFC 3339 date and time with an offset. Without a cursor, or with an empty one, the page begins at the start.", example = "2024-01-15T10:30:00.000Z"),
        ("limit" = Option<u32>, Query, description = "The maximum number of records in the page; 100 by default.", minimum = 1, maximum = 100, example = 100),
        ("wait" = Option<u32>, Query, description = "Seconds to wait for a change if the page is empty.", minimum = 0, maximum = 55, example = 0),
        ("epoch" = Option<String>, Query, description = "The `epoch` of an earlier response. The server returns 410 if the vault's history has another epoch.", max_length = 64),
        ("since" = Option<String>, Query, description = "The time up to which the client knows every deletion.", example = "2024-01-15T10:30:00.000Z"),
    ),
    responses(
        (status = 200, description = "A page.", body = Page),
        (status = 400, description = "`invalid_request`.", body = Failure),
        (status = 401, description = "The token is missing or not accepted.", body = Failure, headers(("WWW-Authenticate" = String, description = "The challenge, as defined by RFC 6750."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 410, description = "`epoch_changed`, `vault_erased` or `cursor_ahead`, only if `epoch` is sent; or `cursor_expired`, only if `since` is sent.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
    ),
)]
pub(super) async fn pull(
    State(app): State<App>,
    caller: Caller,
    query: PullQuery,
) -> Result<Response, ApiError> {
    match query {
        PullQuery::Page(pull) => respond(&app, &caller.vault, &pull).await,
        PullQuery::Stream(pull) => record_stream::open(app, caller, pull, PullLines).await,
    }
}

/// The lines of a streamed pull.
struct PullLines;

impl StreamLines for PullLines {
    fn start(&mut self, lines: &mut Vec<u8>, epoch: Option<Epoch>, head: Option<Timestamp>) {
        write_line(lines, &StreamStart { epoch, head });
    }

    fn record(&mut self, lines: &mut Vec<u8>, record: &Record) {
        write_record_line(lines, record);
    }

    fn end(&mut self, lines: &mut Vec<u8>, next_cursor: Option<Timestamp>, has_more: bool) {
        write_line(lines, &StreamEnd { next_cursor, has_more });
    }
}

/// Reads one page of changes after a cursor, oldest first, as `GET` does.
///
/// A browser asks for permission (a CORS preflight) once for this URL, and not once for each cursor.
#[utoipa::path(
    post,
    path = "/api/sync/pull",
    tag = "sync",
    security(("bearer" = [])),
    request_body = PullRequest,
    responses(
        (status = 200, description = "A page.", body = Page),
        (status = 400, description = "`invalid_request` or `invalid_json`.", body = Failure),
        (status = 401, description = "The token is missing or not accepted.", body = Failure, headers(("WWW-Authenticate" = String, description = "The challenge, as defined by RFC 6750."))),
        (status = 403, description = "`forbidden`.", body = Failure),
        (status = 408, description = "`request_timeout`: the body did not arrive in time.", body = Failure),
        (status = 410, description = "`epoch_changed`, `vault_erased` or `cursor_ahead`, only if `epoch` is sent; or `cursor_expired`, only if `since` is sent.", body = Failure),
        (status = 413, description = "`payload_too_large`.", body = Failure),
        (status = 415, description = "`unsupported_media_type`.", body = Failure),
        (status = 429, description = "`rate_limited`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
        (status = 431, description = "`headers_too_large`.", body = Failure),
        (status = 500, description = "`internal`.", body = Failure),
        (status = 503, description = "`unavailable`.", body = Failure, headers(("Retry-After" = usize, description = "Seconds."))),
    ),
)]
pub(super) async fn post_pull(
    State(app): State<App>,
    ReadBody { vault, request: pull, memory }: ReadBody<Pull>,
) -> Result<Response, ApiError> {
    // The pull may wait for a minute, and needs the body no longer.
    drop(memory);
    respond(&app, &vault, &pull).await
}

async fn respond(app: &App, vault: &Vault, pull: &Pull) -> Result<Response, ApiError> {
    let (mut page, mut memory) = read_changes(app, vault, pull).await?;
    if page.records.is_empty() && !pull.wait.is_zero() {
        drop(memory);
        // Boxed, because most pulls do not wait.
        (page, memory) = Box::pin(wait(app, vault, pull)).await?;
    }
    metrics::counter!("vaultsync_records_pulled_total").increment(page.records.len() as u64);
    let response = response::page(page, memory).await;
    app.rates.debit_user(vault.user(), response::body_bytes(&response));
    Ok(response)
}

/// Reads again after each change, until the page has records, the time is up, or the server stops.
async fn wait(app: &App, vault: &Vault, pull: &Pull) -> Result<(Page, Reservation), ApiError> {
    let mut changes = app
        .store
        .notifier()
        .subscribe(vault, app.limits.waits_per_user_max)
        .ok_or(ApiError::TooManyWaits)?;
    let until = app.clock.uptime() + pull.wait;
    loop {
        // Read after subscribing: the page has every change that was committed before.
        let (page, memory) = read_changes(app, vault, pull).await?;
        let left = until.saturating_sub(app.clock.uptime());
        if !page.records.is_empty() || left.is_zero() || app.stop.is_cancelled() {
            return Ok((page, memory));
        }
        drop((page, memory));
        let pause = left.clamp(Duration::from_millis(1), REREAD_INTERVAL);
        let change = timeout(pause, changes.changed());
        // Whatever ends the pause, the next page shows the state of the vault.
        let _ = app.stop.run_until_cancelled(change).await;
    }
}
